package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// makers is how many requests are made at a time.
const makers = 16

// after is the nth address of a prefix.
func after(p netip.Prefix, n int) netip.Addr {
	a := p.Addr().As4()
	v := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	v += uint32(n)
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// vip is the address of the nth Service; that which is measured is the first.
func vip(n int) netip.Addr { return after(vips, n+1) }

func nameOf(n int) string {
	if n == 0 {
		return probed
	}
	return fmt.Sprintf("svc-%05d", n)
}

// fill makes all Services, with their addresses and endpoints.
func (w *world) fill(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(makers)
	for n := range w.services {
		g.Go(func() error { return w.make(ctx, n) })
	}
	return g.Wait()
}

func (w *world) make(ctx context.Context, n int) error {
	class, protocol, port := "fairlead.io/lb", corev1.ProtocolTCP, int32(80)
	if n == 0 {
		protocol, port = corev1.ProtocolUDP, probePort
	}
	services := w.client.CoreV1().Services(namespace)
	svc, err := services.Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: nameOf(n), Finalizers: []string{"service.kubernetes.io/load-balancer-cleanup"}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class, Ports: []corev1.ServicePort{{Port: port, Protocol: protocol}},
			AllocateLoadBalancerNodePorts: new(bool),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	mode := corev1.LoadBalancerIPModeProxy
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: vip(n).String(), IPMode: &mode}}
	if _, err := services.UpdateStatus(ctx, svc, metav1.UpdateOptions{}); err != nil {
		return err
	}
	_, err = w.client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, w.slice(n, 0), metav1.CreateOptions{})
	return err
}

// slice is the EndpointSlice of a Service after so many changes.
func (w *world) slice(n, changes int) *discoveryv1.EndpointSlice {
	protocol, port, name := corev1.ProtocolTCP, int32(8080), ""
	var endpoints []discoveryv1.Endpoint
	if n == 0 {
		protocol, port = corev1.ProtocolUDP, probePort
		b := w.rack.Backends[changes%2]
		endpoints = append(endpoints, endpoint(b.Name, b.IPv4, true))
	} else {
		for e := range w.endpoints {
			i := n*w.endpoints + e
			// Some change in what they are, some in whether they are ready.
			endpoints = append(endpoints, endpoint(fmt.Sprintf("pod-%05d-%d", n, e), after(pods, 1+i%16000), e != 0 || changes%2 == 0))
		}
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: nameOf(n) + "-1", Namespace: namespace, Labels: map[string]string{discoveryv1.LabelServiceName: nameOf(n)},
			Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().UTC().Format(time.RFC3339Nano)},
		},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints,
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	}
}

func endpoint(pod string, address netip.Addr, ready bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses: []string{address.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: pod},
	}
}

// change makes a slice another one.
func (w *world) change(ctx context.Context, n, changes int) error {
	_, err := w.client.DiscoveryV1().EndpointSlices(namespace).Update(ctx, w.slice(n, changes), metav1.UpdateOptions{})
	return err
}
