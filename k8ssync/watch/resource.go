package watch

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// Object is a pointer to a type of Kubernetes.
type Object interface {
	comparable
	metav1.Object
	runtime.Object
}

// Resource says which objects are followed, and how much of them is kept.
type Resource[T Object] struct {
	schema.GroupVersion
	Name string // plural, as in paths: "services"
	// AddToScheme makes the group's types known. With metadata alone there is no need.
	AddToScheme func(*runtime.Scheme) error
	// JSON: the API server has no other form of them, which is so for custom resources.
	JSON bool
	// Metadata: T is *metav1.PartialObjectMetadata, and nothing else is fetched.
	Metadata bool
	// Namespace, unless it is empty, is the only one that is looked at; Labels and
	// Fields are selectors.
	Namespace, Labels, Fields string
	// Strip throws away what nobody reads, in place. Optional; managed fields go anyway.
	Strip func(T)
	// Keep says which of the objects are kept at all; one that is no longer kept is told
	// of as if it were deleted. Optional: all. It sees objects after Strip.
	Keep func(T) bool
	// Same says that a change is none to anybody here, so that nobody is told of it.
	// Optional.
	Same func(old, new T) bool
	// Indexers are further ways to look objects up by. Optional.
	Indexers cache.Indexers
	// Optional: that the API server does not know such objects is nothing unusual, and
	// counts as if there were none.
	Optional bool
}

// FullName is the resource with its group, as kubectl takes it.
func (r *Resource[T]) FullName() string {
	if r.Group == "" {
		return r.Name
	}
	return r.Name + "." + r.Group
}

func (r *Resource[T]) rule() string {
	return fmt.Sprintf("apiGroups: [%q], resources: [%q], verbs: [\"list\", \"watch\"]", r.Group, r.Name)
}

// lister is how objects of a resource are asked for.
type lister interface {
	list(ctx context.Context, options metav1.ListOptions) (runtime.Object, error)
	watch(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error)
}

// lister makes the client for the resource.
func (r *Resource[T]) lister(c *Connection) (lister, error) {
	if r.Metadata {
		client, err := metadata.NewForConfigAndClient(metadata.ConfigFor(c.REST()), c.client)
		if err != nil {
			return nil, fmt.Errorf("client for %s: %w", r.FullName(), err)
		}
		return metadataLister{client.Resource(r.WithResource(r.Name)).Namespace(r.Namespace)}, nil
	}
	scheme := runtime.NewScheme()
	if err := r.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("types of %s: %w", r.FullName(), err)
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	cfg := c.REST()
	cfg.GroupVersion, cfg.APIPath = &r.GroupVersion, "/apis"
	if r.Group == "" {
		cfg.APIPath = "/api"
	}
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	cfg.ContentType = runtime.ContentTypeJSON
	if !r.JSON {
		cfg.ContentType = runtime.ContentTypeProtobuf
		cfg.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	}
	client, err := rest.RESTClientForConfigAndClient(cfg, c.client)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", r.FullName(), err)
	}
	return typedLister{client, r.Namespace, r.Name}, nil
}

type typedLister struct {
	client         rest.Interface
	namespace, res string
}

func (l typedLister) list(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	return l.client.Get().NamespaceIfScoped(l.namespace, l.namespace != "").Resource(l.res).MaxRetries(0).VersionedParams(&options, metav1.ParameterCodec).Do(ctx).Get()
}

func (l typedLister) watch(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
	options.Watch = true
	return l.client.Get().NamespaceIfScoped(l.namespace, l.namespace != "").Resource(l.res).MaxRetries(0).VersionedParams(&options, metav1.ParameterCodec).Watch(ctx)
}

type metadataLister struct{ client metadata.ResourceInterface }

func (l metadataLister) list(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	return l.client.List(ctx, options)
}

func (l metadataLister) watch(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
	return l.client.Watch(ctx, options)
}
