package watch

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"fairlead/k8ssync/kube"
)

// Annotations that nodes read of objects that are not Services.
const (
	PodWeight = kube.Domain + "/weight" // of pods
	// LastChange is when what an EndpointSlice tells of has happened.
	LastChange = corev1.EndpointsLastChangeTriggerTime
	// lastApplied is what kubectl keeps for itself. It is as large as the object.
	lastApplied = corev1.LastAppliedConfigAnnotation
)

// Names of Indexers.
const (
	// ByService: EndpointSlices by "namespace/name" of their Service.
	ByService = "service"
	// ByPod: EndpointSlices by "namespace/name" of the pods in them.
	ByPod = "pod"
)

// Services are those that may get addresses: of type LoadBalancer, or not any
// more and not let go of yet. With all, every Service is followed, for routes of
// the Gateway API may name any.
//
// The copies lack what nobody here reads, so a change of one is written as a patch.
func Services(all bool) Resource[*corev1.Service] {
	r := Resource[*corev1.Service]{
		GroupVersion: corev1.SchemeGroupVersion, Name: "services", AddToScheme: corev1.AddToScheme,
		Strip: func(s *corev1.Service) { delete(s.Annotations, lastApplied) },
	}
	if !all {
		r.Keep = func(s *corev1.Service) bool {
			return s.Spec.Type == corev1.ServiceTypeLoadBalancer || slices.Contains(s.Finalizers, kube.Finalizer)
		}
	}
	return r
}

// Slices are the EndpointSlices of all Services, or of all that are not headless,
// found by ByService and, when weights of pods are read, by ByPod.
func Slices(all, byPod bool) Resource[*discoveryv1.EndpointSlice] {
	labels := discoveryv1.LabelServiceName
	if !all {
		labels += ",!" + corev1.IsHeadlessService
	}
	indexers := cache.Indexers{ByService: serviceOfSlice}
	if byPod {
		indexers[ByPod] = podsOfSlice
	}
	return Resource[*discoveryv1.EndpointSlice]{
		GroupVersion: discoveryv1.SchemeGroupVersion, Name: "endpointslices", AddToScheme: discoveryv1.AddToScheme,
		Labels: labels, Indexers: indexers, Strip: stripSlice,
	}
}

// ServiceOf is the name of the Service that an EndpointSlice belongs to.
func ServiceOf(s *discoveryv1.EndpointSlice) string { return s.Labels[discoveryv1.LabelServiceName] }

func serviceOfSlice(object any) ([]string, error) {
	s := object.(*discoveryv1.EndpointSlice)
	return []string{s.Namespace + "/" + ServiceOf(s)}, nil
}

func podsOfSlice(object any) ([]string, error) {
	s := object.(*discoveryv1.EndpointSlice)
	pods := make([]string, 0, len(s.Endpoints))
	for i := range s.Endpoints {
		if target := s.Endpoints[i].TargetRef; target != nil && target.Kind == "Pod" {
			pods = append(pods, target.Namespace+"/"+target.Name)
		}
	}
	return pods, nil
}

func stripSlice(s *discoveryv1.EndpointSlice) {
	only(&s.Annotations, LastChange)
	s.OwnerReferences, s.GenerateName = nil, ""
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		e.DeprecatedTopology, e.Hostname = nil, nil
		if t := e.TargetRef; t != nil {
			t.UID, t.ResourceVersion, t.APIVersion, t.FieldPath = "", "", "", ""
		}
	}
}

// Nodes are Kubernetes' nodes: their labels, taints, addresses and whether they
// are ready.
func Nodes() Resource[*corev1.Node] {
	return Resource[*corev1.Node]{
		GroupVersion: corev1.SchemeGroupVersion, Name: "nodes", AddToScheme: corev1.AddToScheme,
		Strip: stripNode, Same: sameNode,
	}
}

func stripNode(n *corev1.Node) {
	n.Annotations, n.OwnerReferences = nil, nil
	n.Status = corev1.NodeStatus{Addresses: n.Status.Addresses, Conditions: slices.DeleteFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type != corev1.NodeReady
	})}
	for i := range n.Status.Conditions {
		c := &n.Status.Conditions[i]
		*c = corev1.NodeCondition{Type: c.Type, Status: c.Status}
	}
}

func sameNode(a, b *corev1.Node) bool {
	return a.UID == b.UID && maps.Equal(a.Labels, b.Labels) && a.DeletionTimestamp.Equal(b.DeletionTimestamp) &&
		a.Spec.Unschedulable == b.Spec.Unschedulable && equality.Semantic.DeepEqual(a.Spec.Taints, b.Spec.Taints) &&
		slices.Equal(a.Status.Addresses, b.Status.Addresses) && slices.Equal(a.Status.Conditions, b.Status.Conditions)
}

// Pods are the pods that have a weight, and of these nothing else.
func Pods() Resource[*metav1.PartialObjectMetadata] {
	return Resource[*metav1.PartialObjectMetadata]{
		GroupVersion: corev1.SchemeGroupVersion, Name: "pods", Metadata: true,
		Strip: func(p *metav1.PartialObjectMetadata) {
			only(&p.Annotations, PodWeight)
			p.Labels, p.OwnerReferences, p.Finalizers, p.GenerateName = nil, nil, nil, ""
		},
		Keep: func(p *metav1.PartialObjectMetadata) bool { return p.Annotations[PodWeight] != "" },
		Same: func(a, b *metav1.PartialObjectMetadata) bool { return maps.Equal(a.Annotations, b.Annotations) },
	}
}

// Namespaces are all namespaces with their labels.
func Namespaces() Resource[*metav1.PartialObjectMetadata] {
	return Resource[*metav1.PartialObjectMetadata]{
		GroupVersion: corev1.SchemeGroupVersion, Name: "namespaces", Metadata: true,
		Strip: func(n *metav1.PartialObjectMetadata) { n.Annotations = nil },
		Same: func(a, b *metav1.PartialObjectMetadata) bool {
			return maps.Equal(a.Labels, b.Labels) && a.DeletionTimestamp.Equal(b.DeletionTimestamp)
		},
	}
}

// only leaves one entry of a map.
func only(m *map[string]string, key string) {
	value, there := (*m)[key]
	switch {
	case !there:
		*m = nil
	case len(*m) > 1:
		*m = map[string]string{key: value}
	}
}
