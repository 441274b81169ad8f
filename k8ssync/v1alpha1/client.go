package v1alpha1

import (
	"fmt"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// PoolClient reads and writes pools: Get, List, Watch, Create, Update,
// UpdateStatus, Delete, DeleteCollection, Patch.
type PoolClient = gentype.ClientWithList[*AddressPool, *AddressPoolList]

// ReservationClient reads and writes reservations, likewise.
type ReservationClient = gentype.ClientWithList[*AddressReservation, *AddressReservationList]

// Client reads and writes what is in the group fairlead.io.
type Client struct {
	rest         rest.Interface
	pools        *PoolClient
	reservations *ReservationClient
}

// NewClient connects as config says; nothing is sent yet.
func NewClient(config *rest.Config) (*Client, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: HTTP client: %w", err)
	}
	return NewClientFor(config, client)
}

// NewClientFor is NewClient with the connections of client.
func NewClientFor(config *rest.Config, client *http.Client) (*Client, error) {
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("types of %s: %w", SchemeGroupVersion, err)
	}
	// metav1.Status, and the options of requests.
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	ours := rest.CopyConfig(config)
	ours.GroupVersion = &SchemeGroupVersion
	ours.APIPath = "/apis"
	// Custom resources are served as JSON and not as protobuf.
	ours.ContentType, ours.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	ours.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	if ours.UserAgent == "" {
		ours.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	rc, err := rest.RESTClientForConfigAndClient(ours, client)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", SchemeGroupVersion, err)
	}
	codec := runtime.NewParameterCodec(scheme)
	return &Client{
		rest: rc,
		pools: gentype.NewClientWithList(Pools, rest.Interface(rc), codec, "",
			func() *AddressPool { return &AddressPool{} }, func() *AddressPoolList { return &AddressPoolList{} }),
		reservations: gentype.NewClientWithList(Reservations, rest.Interface(rc), codec, "",
			func() *AddressReservation { return &AddressReservation{} }, func() *AddressReservationList { return &AddressReservationList{} }),
	}, nil
}

// Pools is the client of pools.
func (c *Client) Pools() *PoolClient { return c.pools }

// Reservations is the client of reservations.
func (c *Client) Reservations() *ReservationClient { return c.reservations }

// WatchPools is what an informer lists and watches pools by.
func (c *Client) WatchPools() cache.ListerWatcher {
	return cache.NewListWatchFromClient(c.rest, Pools, metav1.NamespaceAll, fields.Everything())
}

// WatchReservations is what an informer lists and watches reservations by.
func (c *Client) WatchReservations() cache.ListerWatcher {
	return cache.NewListWatchFromClient(c.rest, Reservations, metav1.NamespaceAll, fields.Everything())
}
