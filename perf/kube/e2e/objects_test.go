package e2e

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"

	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
)

// The ports of Services whose endpoints are a world's backends.
func webPort() corev1.ServicePort  { return port("web", corev1.ProtocolTCP, 80, httpPort) }
func namePort() corev1.ServicePort { return port("name", corev1.ProtocolUDP, 53, udpPort) }
func talkPort() corev1.ServicePort { return port("talk", corev1.ProtocolTCP, 7, streamPort) }

func port(name string, protocol corev1.Protocol, number, target int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Protocol: protocol, Port: number, TargetPort: intstr.FromInt32(target)}
}

// newService is a Service of type LoadBalancer of our class with no selector:
// whoever makes it says what its endpoints are.
func newService(namespace, name string, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: ptr.To(class), Ports: ports,
			// Many Services are made here, and few of them need ports of nodes.
			AllocateLoadBalancerNodePorts: ptr.To(false),
		},
	}
}

// dual asks for both families, IPv4 first.
func dual(s *corev1.Service) *corev1.Service {
	s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
	s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	return s
}

// annotated sets an annotation.
func annotated(s *corev1.Service, key, value string) *corev1.Service {
	metav1.SetMetaDataAnnotation(&s.ObjectMeta, key, value)
	return s
}

// create makes a Service.
func (w *world) create(s *corev1.Service) *corev1.Service {
	w.t.Helper()
	made, err := w.kube.CoreV1().Services(s.Namespace).Create(w.ctx, s, metav1.CreateOptions{})
	w.must(err)
	return made
}

// read reads a Service again.
func (w *world) read(s *corev1.Service) *corev1.Service {
	w.t.Helper()
	now, err := w.kube.CoreV1().Services(s.Namespace).Get(w.ctx, s.Name, metav1.GetOptions{})
	w.must(err)
	return now
}

// change changes a Service as it is now.
func (w *world) change(s *corev1.Service, f func(*corev1.Service)) *corev1.Service {
	w.t.Helper()
	var out *corev1.Service
	w.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		now, err := w.kube.CoreV1().Services(s.Namespace).Get(w.ctx, s.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		f(now)
		out, err = w.kube.CoreV1().Services(s.Namespace).Update(w.ctx, now, metav1.UpdateOptions{})
		return err
	}))
	return out
}

// deleteNow deletes without conditions.
var deleteNow = metav1.DeleteOptions{}

// remove deletes a Service and waits until it is gone, finalizers and all.
func (w *world) remove(s *corev1.Service) {
	w.t.Helper()
	w.must(w.kube.CoreV1().Services(s.Namespace).Delete(w.ctx, s.Name, deleteNow))
	w.until(fmt.Sprintf("%s/%s is gone", s.Namespace, s.Name), func() string { return w.there(s) })
}

// there says what keeps a Service that is to be gone.
func (w *world) there(s *corev1.Service) string {
	now, err := w.kube.CoreV1().Services(s.Namespace).Get(w.ctx, s.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return ""
	case err != nil:
		return err.Error()
	}
	return fmt.Sprintf("it is there with finalizers %q", now.Finalizers)
}

// addresses are those of a Service's status, in its order.
func addresses(s *corev1.Service) (all []netip.Addr) {
	for _, i := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(i.IP); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// assigned waits until a Service has so many addresses.
func (w *world) assigned(s *corev1.Service, n int) (all []netip.Addr) {
	w.t.Helper()
	w.until(fmt.Sprintf("%s/%s has %d addresses", s.Namespace, s.Name, n), func() string {
		now := w.read(s)
		if all = addresses(now); len(all) == n {
			return ""
		}
		return fmt.Sprintf("status %+v", now.Status)
	})
	return all
}

// endpoint is a backend in an EndpointSlice.
type endpoint struct {
	node       *lab.Node
	conditions discoveryv1.EndpointConditions
}

func conditions(ready, serving, terminating bool) discoveryv1.EndpointConditions {
	return discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating}
}

// The states of an endpoint in its life.
func ready(n *lab.Node) endpoint    { return endpoint{n, conditions(true, true, false)} }
func unready(n *lab.Node) endpoint  { return endpoint{n, conditions(false, false, false)} }
func draining(n *lab.Node) endpoint { return endpoint{n, conditions(false, true, true)} }
func dying(n *lab.Node) endpoint    { return endpoint{n, conditions(false, false, true)} }

// allReady are nodes as ready endpoints.
func allReady(nodes ...*lab.Node) (all []endpoint) {
	for _, n := range nodes {
		all = append(all, ready(n))
	}
	return all
}

// newSlice is an EndpointSlice of a Service with all of its ports.
func newSlice(s *corev1.Service, suffix string, family discoveryv1.AddressType, endpoints ...endpoint) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: s.Name + "-" + suffix,
			Labels: map[string]string{discoveryv1.LabelServiceName: s.Name, discoveryv1.LabelManagedBy: "test.fairlead.io"},
		},
		AddressType: family,
	}
	for _, p := range s.Spec.Ports {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: ptr.To(p.Name), Protocol: ptr.To(p.Protocol), Port: ptr.To(p.TargetPort.IntVal)})
	}
	for _, e := range endpoints {
		a := e.node.IPv4
		if family == discoveryv1.AddressTypeIPv6 {
			a = e.node.IPv6
		}
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{a.String()}, Conditions: e.conditions})
	}
	return slice
}

// endpoints makes these a Service's endpoints, in one slice of each of its families.
func (w *world) endpoints(s *corev1.Service, endpoints ...endpoint) {
	w.t.Helper()
	for _, f := range s.Spec.IPFamilies {
		w.put(newSlice(s, strings.ToLower(string(f)), discoveryv1.AddressType(f), endpoints...))
	}
}

// put creates a slice, or replaces it.
func (w *world) put(slice *discoveryv1.EndpointSlice) {
	w.t.Helper()
	api := w.kube.DiscoveryV1().EndpointSlices(slice.Namespace)
	_, err := api.Update(w.ctx, slice, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = api.Create(w.ctx, slice, metav1.CreateOptions{})
	}
	w.must(err)
}

// web has the client make n connections for HTTP, and demands that all are answered.
func (w *world) web(vip netip.Addr, n int) *traffic.Tally {
	w.t.Helper()
	tally := traffic.HTTPLoad{Target: netip.AddrPortFrom(vip, 80), Connections: n, Parallel: 8}.Run(w.ctx, w.rack.Client.Host)
	if err := tally.Err(); err != nil {
		w.t.Errorf("HTTP to %s: %v", vip, err)
	}
	return tally
}

// ask has the client ask a question of each of so many flows by UDP, and demands
// that all are answered.
func (w *world) ask(vip netip.Addr, flows int) *traffic.Tally {
	w.t.Helper()
	tally := traffic.UDPLoad{Target: netip.AddrPortFrom(vip, 53), Flows: flows, Parallel: 8}.Run(w.ctx, w.rack.Client.Host)
	if err := tally.Err(); err != nil {
		w.t.Errorf("UDP to %s: %v", vip, err)
	}
	return tally
}
