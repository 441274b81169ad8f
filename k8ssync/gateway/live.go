package gateway

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead/k8ssync/allocate"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/watch"
)

// newClient is a client of the Gateway API's objects.
func newClient(c *watch.Connection) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	if err := gatewayv1.Install(scheme); err != nil {
		return nil, fmt.Errorf("types of the Gateway API: %w", err)
	}
	metav1.AddToGroupVersion(scheme, groupVersion)
	cfg := c.REST()
	version := groupVersion
	cfg.GroupVersion, cfg.APIPath, cfg.ContentType = &version, "/apis", runtime.ContentTypeJSON
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientForConfigAndClient(cfg, c.HTTP())
	if err != nil {
		return nil, fmt.Errorf("client of the Gateway API: %w", err)
	}
	return client, nil
}

// pageSize is how many objects are asked for at once.
const pageSize = 500

// Requests are what all Gateways ask of the allocation of addresses, as the API
// server has them now: the copies of a node may be older than what another writer
// has written a moment ago. Where the Gateway API is not installed there are none.
func (r *Room) Requests(ctx context.Context) ([]allocate.Request, error) {
	in := r.input(r.objects.served())
	in.TCPRoutes, in.UDPRoutes, in.Grants = nil, nil, nil
	in.Classes, in.Gateways = nil, nil
	err := each(ctx, r.client, classes, func(l *gatewayv1.GatewayClassList) {
		for i := range l.Items {
			in.Classes = append(in.Classes, &l.Items[i])
		}
	})
	if err == nil {
		err = each(ctx, r.client, gateways, func(l *gatewayv1.GatewayList) {
			for i := range l.Items {
				in.Gateways = append(in.Gateways, &l.Items[i])
			}
		})
	}
	if err != nil {
		return nil, err
	}
	return Resolve(in).Requests(), nil
}

// list is a pointer to a list of objects.
type list[T any] interface {
	*T
	runtime.Object
	metav1.ListInterface
}

// each lists all objects of a kind, page by page.
func each[T any, P list[T]](ctx context.Context, client rest.Interface, plural string, page func(P)) error {
	options := metav1.ListOptions{Limit: pageSize}
	for {
		out := P(new(T))
		err := client.Get().Resource(plural).VersionedParams(&options, metav1.ParameterCodec).Do(ctx).Into(out)
		switch {
		case apierrors.IsNotFound(err):
			return nil // the kind is not installed
		case err != nil:
			return fmt.Errorf("list %s: %w", plural, err)
		}
		page(out)
		if options.Continue = out.GetContinue(); options.Continue == "" {
			return nil
		}
	}
}

// Wants asks the API server whether a Gateway is to have what it holds: it is there
// and ours, or has been and is not let go of yet.
func (r *Room) Wants(ctx context.Context, key kube.Key) (bool, error) {
	gw := new(gatewayv1.Gateway)
	err := r.client.Get().Namespace(key.Namespace).Resource(gateways).Name(key.Name).Do(ctx).Into(gw)
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("get %s: %w", key, err)
	case slices.Contains(gw.Finalizers, Finalizer):
		return true, nil
	case gw.DeletionTimestamp != nil:
		return false, nil
	}
	class := new(gatewayv1.GatewayClass)
	err = r.client.Get().Resource(classes).Name(string(gw.Spec.GatewayClassName)).Do(ctx).Into(class)
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("get GatewayClass %s: %w", gw.Spec.GatewayClassName, err)
	}
	return class.Spec.ControllerName == ControllerName, nil
}
