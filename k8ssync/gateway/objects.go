package gateway

import (
	"context"
	"maps"
	"strings"

	"golang.org/x/sync/errgroup"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/consts"

	"fairlead/k8ssync/watch"
)

// objects are copies of all that the Gateway API has for us.
type objects struct {
	classes    *watch.Objects[*gatewayv1.GatewayClass]
	gateways   *watch.Objects[*gatewayv1.Gateway]
	tcp        *watch.Objects[*gatewayv1.TCPRoute]
	udp        *watch.Objects[*gatewayv1.UDPRoute]
	grants     *watch.Objects[*gatewayv1.ReferenceGrant]
	namespaces *watch.Objects[*metav1.PartialObjectMetadata]
	// definition is the CustomResourceDefinition of Gateways, which tells the release.
	definition *watch.Objects[*metav1.PartialObjectMetadata]
	conn       *watch.Connection
}

// groupVersion is that of all kinds that are read.
var groupVersion = schema.GroupVersion{Group: gatewayv1.GroupName, Version: "v1"}

// Plural names of the kinds.
const (
	classes  = "gatewayclasses"
	gateways = "gateways"
	tcp      = "tcproutes"
	udp      = "udproutes"
	grantsOf = "referencegrants"
)

// plurals of the kinds whose presence matters.
var plurals = map[gatewayv1.Kind]string{KindGateway: gateways, KindTCPRoute: tcp, KindUDPRoute: udp, "ReferenceGrant": grantsOf}

// lastApplied is what kubectl keeps for itself. It is as large as the object.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

func strip[T metav1.Object](o T) {
	if _, there := o.GetAnnotations()[lastApplied]; there {
		rest := maps.Clone(o.GetAnnotations())
		delete(rest, lastApplied)
		o.SetAnnotations(rest)
	}
}

// follow prepares to follow one kind.
func follow[T watch.Object](c *watch.Connection, plural string, into **watch.Objects[T]) error {
	o, err := watch.New(c, watch.Resource[T]{
		GroupVersion: groupVersion, Name: plural, AddToScheme: gatewayv1.Install,
		JSON: true, Optional: true, Strip: strip[T],
	})
	*into = o
	return err
}

func newObjects(c *watch.Connection) (*objects, error) {
	o := &objects{conn: c}
	for _, err := range []error{
		follow(c, classes, &o.classes), follow(c, gateways, &o.gateways),
		follow(c, tcp, &o.tcp), follow(c, udp, &o.udp), follow(c, grantsOf, &o.grants),
	} {
		if err != nil {
			return nil, err
		}
	}
	var err error
	if o.namespaces, err = watch.New(c, watch.Namespaces()); err != nil {
		return nil, err
	}
	o.definition, err = watch.New(c, watch.Resource[*metav1.PartialObjectMetadata]{
		GroupVersion: apiextensionsv1.SchemeGroupVersion, Name: "customresourcedefinitions", Metadata: true,
		Fields: "metadata.name=" + gateways + "." + gatewayv1.GroupName,
		Strip: func(d *metav1.PartialObjectMetadata) {
			d.Labels = nil
			d.Annotations = map[string]string{consts.BundleVersionAnnotation: d.Annotations[consts.BundleVersionAnnotation]}
		},
		Same: func(a, b *metav1.PartialObjectMetadata) bool { return maps.Equal(a.Annotations, b.Annotations) },
	})
	return o, err
}

func (o *objects) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return o.classes.Run(ctx) })
	g.Go(func() error { return o.gateways.Run(ctx) })
	g.Go(func() error { return o.tcp.Run(ctx) })
	g.Go(func() error { return o.udp.Run(ctx) })
	g.Go(func() error { return o.grants.Run(ctx) })
	g.Go(func() error { return o.namespaces.Run(ctx) })
	g.Go(func() error { return o.definition.Run(ctx) })
	return g.Wait()
}

// synced are closed when everything has been seen once. Which release is installed
// is not waited for: it changes a condition and nothing else.
func (o *objects) synced() []<-chan struct{} {
	return []<-chan struct{}{o.classes.Synced(), o.gateways.Synced(), o.tcp.Synced(), o.udp.Synced(), o.grants.Synced(), o.namespaces.Synced()}
}

// subscribe has f called after every change; restored: an object is gone because the
// API server's database was put back. f is not to block.
func (o *objects) subscribe(f func(restored bool)) (stop func()) {
	stops := []func(){
		tell(o.classes, f), tell(o.gateways, f), tell(o.tcp, f), tell(o.udp, f), tell(o.grants, f), tell(o.namespaces, f),
		o.definition.Subscribe(func(watch.Event[*metav1.PartialObjectMetadata]) { f(false) }),
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

func tell[T watch.Object](o *watch.Objects[T], f func(restored bool)) (stop func()) {
	var none T
	return o.Subscribe(func(e watch.Event[T]) { f(e.Restored && e.New == none) })
}

// served are the kinds that the API server knows.
func (o *objects) served() map[gatewayv1.Kind]bool {
	missing := make(map[string]bool)
	for _, k := range o.conn.Status().Kinds {
		if name, group, _ := strings.Cut(k.Name, "."); group == gatewayv1.GroupName && k.State == watch.Missing {
			missing[name] = true
		}
	}
	out := make(map[gatewayv1.Kind]bool)
	for kind, plural := range plurals {
		if !missing[plural] {
			out[kind] = true
		}
	}
	return out
}

// bundle is the release of the Gateway API that is installed.
func (o *objects) bundle() string {
	for _, d := range o.definition.List() {
		return d.Annotations[consts.BundleVersionAnnotation]
	}
	return ""
}

// namespace has the labels of a namespace.
func (o *objects) namespace(name string) (map[string]string, bool) {
	n, there := o.namespaces.Get("", name)
	if !there {
		return nil, false
	}
	return n.Labels, true
}

func nameOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}
