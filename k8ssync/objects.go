package k8ssync

import (
	"context"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/watch"
)

// Objects are the copies of what every node follows.
type Objects struct {
	Services *watch.Objects[*corev1.Service]
	Slices   *watch.Objects[*discoveryv1.EndpointSlice] // by watch.ByService, and watch.ByPod if there are Pods
	Nodes    *watch.Objects[*corev1.Node]
	Pods     *watch.Objects[*metav1.PartialObjectMetadata] // that have a weight; nil when weights are not read
}

func newObjects(c *watch.Connection, s *kube.Settings) (*Objects, error) {
	o := &Objects{}
	var err error
	if o.Services, err = watch.New(c, watch.Services(s.Gateway)); err != nil {
		return nil, err
	}
	if o.Slices, err = watch.New(c, watch.Slices(s.Gateway, s.PodWeights)); err != nil {
		return nil, err
	}
	if o.Nodes, err = watch.New(c, watch.Nodes()); err != nil {
		return nil, err
	}
	if s.PodWeights {
		o.Pods, err = watch.New(c, watch.Pods())
	}
	return o, err
}

// run follows all of them until ctx ends.
func (o *Objects) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return o.Services.Run(ctx) })
	g.Go(func() error { return o.Slices.Run(ctx) })
	g.Go(func() error { return o.Nodes.Run(ctx) })
	if o.Pods != nil {
		g.Go(func() error { return o.Pods.Run(ctx) })
	}
	return g.Wait()
}

// synced are closed when everything has been seen once.
func (o *Objects) synced() []<-chan struct{} {
	list := []<-chan struct{}{o.Services.Synced(), o.Slices.Synced(), o.Nodes.Synced()}
	if o.Pods != nil {
		list = append(list, o.Pods.Synced())
	}
	return list
}

// SlicesOf are the EndpointSlices of a Service.
func (o *Objects) SlicesOf(namespace, name string) []*discoveryv1.EndpointSlice {
	return o.Slices.By(watch.ByService, namespace+"/"+name)
}
