package k8ssync

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/watch"
)

// subscribe has the keys marked whose objects change.
func (s *Sync) subscribe() (stop func()) {
	stops := []func(){
		s.objects.Services.Subscribe(s.serviceChanged),
		s.objects.Slices.Subscribe(s.sliceChanged),
		s.objects.Nodes.Subscribe(s.nodeChanged),
	}
	if s.objects.Pods != nil {
		stops = append(stops, s.objects.Pods.Subscribe(s.podChanged))
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

func (s *Sync) serviceChanged(e watch.Event[*corev1.Service]) {
	o := e.Object()
	s.dirty.mark(kube.Key{Kind: kube.Service, Namespace: o.Namespace, Name: o.Name}, change{at: e.At, restored: e.Restored && e.New == nil})
}

// sliceChanged marks the Service that the slice belongs to, and the one it has
// belonged to.
func (s *Sync) sliceChanged(e watch.Event[*discoveryv1.EndpointSlice]) {
	c := change{at: e.At, trigger: trigger(&e), restored: e.Restored && e.New == nil}
	o := e.Object()
	s.dirty.mark(kube.Key{Kind: kube.Service, Namespace: o.Namespace, Name: watch.ServiceOf(o)}, c)
	s.markGateways(o.Namespace, watch.ServiceOf(o), c)
	if e.Old != nil && e.New != nil && watch.ServiceOf(e.Old) != watch.ServiceOf(e.New) {
		s.dirty.mark(kube.Key{Kind: kube.Service, Namespace: e.Old.Namespace, Name: watch.ServiceOf(e.Old)}, c)
		s.markGateways(e.Old.Namespace, watch.ServiceOf(e.Old), c)
	}
}

// trigger is when what a change of a slice is about has happened. The annotation
// stays until there is something new to tell, so what it said before is not about
// this change.
func trigger(e *watch.Event[*discoveryv1.EndpointSlice]) time.Time {
	if e.New == nil || e.Relisted {
		return time.Time{}
	}
	text := e.New.Annotations[watch.LastChange]
	if text == "" || e.Old != nil && e.Old.Annotations[watch.LastChange] == text {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return at
}

// nodeChanged has the nodes looked at. Mostly nothing follows from what has changed
// of one.
func (s *Sync) nodeChanged(watch.Event[*corev1.Node]) {
	s.nodesChanged.Store(true)
	s.dirty.touch()
}

// podChanged marks the Services that a pod with a weight serves.
func (s *Sync) podChanged(e watch.Event[*metav1.PartialObjectMetadata]) {
	pod := e.Object()
	for _, slice := range s.objects.Slices.By(watch.ByPod, pod.Namespace+"/"+pod.Name) {
		s.dirty.mark(kube.Key{Kind: kube.Service, Namespace: slice.Namespace, Name: watch.ServiceOf(slice)}, change{at: e.At})
		s.markGateways(slice.Namespace, watch.ServiceOf(slice), change{at: e.At})
	}
}

// KeyOfGroup is the object that a group is of: its name begins with Key.Group.
func KeyOfGroup(name string) (kube.Key, bool) {
	parts := strings.SplitN(name, "/", 5)
	if len(parts) < 4 || parts[0] != "k8s" {
		return kube.Key{}, false
	}
	return kube.Key{Kind: kube.Kind(parts[1]), Namespace: parts[2], Name: parts[3]}, true
}
