package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
)

func ptr[T any](v T) *T { return &v }

// service is default/web: TCP port 80, with one IPv4 VIP, served by pods.
func service(change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Finalizers: []string{kube.Finalizer}, Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: ptr(kube.Class),
			ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster,
			Ports:                 []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30080}},
		},
	}
	vips("203.0.113.7")(s)
	for _, f := range change {
		f(s)
	}
	return s
}

func vips(addresses ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Status.LoadBalancer.Ingress = nil
		for _, a := range addresses {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
		}
	}
}

func ports(all ...corev1.ServicePort) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Ports = all }
}

func udp(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP }

func local(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 32000
}

// slice has endpoints with port 8080 for the port http, of the family of the first.
func slice(all ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "web-1"},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: all,
		Ports: []discoveryv1.EndpointPort{{Name: ptr("http"), Protocol: ptr(corev1.ProtocolTCP), Port: ptr(int32(8080))}},
	}
	if len(all) > 0 && strings.Contains(all[0].Addresses[0], ":") {
		s.AddressType = discoveryv1.AddressTypeIPv6
	}
	return s
}

// udpSlice is a slice of a UDP port.
func udpSlice(all ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	s := slice(all...)
	s.Ports[0].Protocol = ptr(corev1.ProtocolUDP)
	return s
}

// endpointOf is a ready pod on node n1.
func endpointOf(pod, address string, change ...func(*discoveryv1.Endpoint)) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{
		Addresses: []string{address}, NodeName: ptr("n1"),
		Conditions: discoveryv1.EndpointConditions{Ready: ptr(true), Serving: ptr(true), Terminating: ptr(false)},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: pod},
	}
	for _, f := range change {
		f(&e)
	}
	return e
}

func conditions(ready, serving, terminating *bool) func(*discoveryv1.Endpoint) {
	return func(e *discoveryv1.Endpoint) {
		e.Conditions = discoveryv1.EndpointConditions{Ready: ready, Serving: serving, Terminating: terminating}
	}
}

var (
	unready       = conditions(ptr(false), ptr(false), ptr(false))
	terminating   = conditions(ptr(false), ptr(true), ptr(true)) // and serving
	failing       = conditions(ptr(false), ptr(false), ptr(true))
	nilConditions = conditions(nil, nil, nil)
)

func onNode(name string) func(*discoveryv1.Endpoint) {
	return func(e *discoveryv1.Endpoint) { e.NodeName = &name }
}

func hinted(zones ...string) func(*discoveryv1.Endpoint) {
	return func(e *discoveryv1.Endpoint) {
		e.Hints = &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: "n1"}}}
		for _, z := range zones {
			e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: z})
		}
	}
}

// nodeOf is a node with its InternalIPs.
func nodeOf(name string, addresses ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeExternalIP, Address: "192.0.2.200"}}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

// run translates, and asserts that what comes out is valid.
func run(t testing.TB, in Input) Output {
	t.Helper()
	out := Service(in)
	valid(t, &out)
	return out
}

func valid(t testing.TB, out *Output) {
	t.Helper()
	all := 0
	for i := range out.Groups {
		g := &out.Groups[i]
		validGroup(t, g, out.Key)
		for _, s := range g.Services {
			all++
			if g.Name != GroupName(out.Key, corev1.IPFamily(map[bool]string{true: "IPv4", false: "IPv6"}[s.VIP.Is4()])) {
				t.Errorf("service %q is in group %q", s.Name, g.Name)
			}
		}
	}
	together := whole(*out)
	validGroup(t, &together, out.Key)
	if out.Programmable == (out.Why != "") || out.Programmable != (all > 0) {
		t.Errorf("programmable %v with %d services: %q", out.Programmable, all, out.Why)
	}
}

// whole is all the groups in one.
func whole(out Output) model.Group {
	all := model.Group{Name: out.Key.Group()}
	for _, g := range out.Groups {
		all.VIPs, all.Services, all.Pools = append(all.VIPs, g.VIPs...), append(all.Services, g.Services...), append(all.Pools, g.Pools...)
	}
	byName(&all)
	return all
}

func validGroup(t testing.TB, g *model.Group, key kube.Key) {
	t.Helper()
	state := &model.State{
		VIPs: g.VIPs, Services: g.Services, Pools: g.Pools,
		SNATs:  []model.SNAT{{Address: netip.MustParseAddr("240.1.2.3")}, {Address: netip.MustParseAddr("fdff:ffff::1")}},
		Tunnel: model.Tunnel{Source4: netip.MustParseAddr("240.1.2.4"), Source6: netip.MustParseAddr("fdff:ffff::2")},
	}
	for _, err := range model.Validate(state) {
		t.Errorf("the group is not valid: %v", err)
	}
	for _, s := range g.Services {
		if !strings.HasPrefix(s.Name, key.Group()+"/") {
			t.Errorf("service %q is not of group %q", s.Name, g.Name)
		}
	}
	for _, p := range g.Pools {
		if !strings.HasPrefix(p.Name, key.Group()+"/") {
			t.Errorf("pool %q is not of group %q", p.Name, g.Name)
		}
	}
}

// text writes a pool's backends down: name, address with port, weight.
func text(p *model.Pool) string {
	var all []string
	for i := range p.Backends {
		b := &p.Backends[i]
		all = append(all, fmt.Sprintf("%s %s*%d", b.Name, where(b), b.Weight))
	}
	return strings.Join(all, ", ")
}

// pool finds a pool by the end of its name.
func pool(t testing.TB, out Output, suffix string) *model.Pool {
	t.Helper()
	pools := whole(out).Pools
	i := slices.IndexFunc(pools, func(p model.Pool) bool { return p.Name == out.Key.Group()+"/"+suffix })
	if i < 0 {
		t.Fatalf("no pool %s: %+v (%s)", suffix, pools, out.Why)
	}
	return &pools[i]
}

// expect compares the backends of a pool.
func expect(t testing.TB, out Output, suffix, want string) {
	t.Helper()
	if got := text(pool(t, out, suffix)); got != want {
		t.Errorf("%s has %q, want %q", suffix, got, want)
	}
}

// told compares the problems.
func told(t testing.TB, out Output, want ...string) {
	t.Helper()
	var got []string
	for _, p := range out.Problems {
		got = append(got, p.Reason+": "+p.Message)
	}
	if !slices.Equal(got, want) {
		t.Errorf("problems are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
