package translate

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/options"
)

// dice makes objects out of bytes; when they are used up, every throw is 0.
type dice struct{ left []byte }

func (d *dice) n(sides int) int {
	if len(d.left) == 0 {
		return 0
	}
	v := int(d.left[0])
	d.left = d.left[1:]
	return v % sides
}

func pick[T any](d *dice, all ...T) T { return all[d.n(len(all))] }

// maybe is nil or one of some.
func maybe[T any](d *dice, all ...T) *T {
	if n := d.n(len(all) + 1); n > 0 {
		return &all[n-1]
	}
	return nil
}

var (
	portNames   = []string{"http", "http", "http", "", "a name\nwith everything"}
	protocolSet = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolUDP, corev1.ProtocolSCTP, "", "DCCP"}
	addressed   = []string{
		"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.00.1", "::ffff:10.0.0.2", "2001:db8::1", "2001:db8::2", "2001:db8::1", "2001:db8::2", "2001:DB8::2",
		"127.0.0.1", "fe80::1%eth0", "224.0.0.1", "0.0.0.0", "203.0.113.7", "2001:db8:7::7", "x", "", "255.255.255.255", "192.0.2.11",
	}
	nodeNames = []string{"n1", "n2", "n3", "", "n4"}
	zoneNames = []string{"z1", "z2", "z3"}
)

func (d *dice) service() *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Annotations: map[string]string{}, Finalizers: []string{kube.Finalizer}}}
	s.Spec.Type = pick(d, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeClusterIP)
	s.Spec.LoadBalancerClass = maybe(d, kube.Class, kube.Class, kube.Class, "other")
	s.Spec.ExternalTrafficPolicy = pick(d, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	s.Spec.HealthCheckNodePort = pick(d, int32(0), 32000, -1, 70000)
	s.Spec.SessionAffinity = pick(d, corev1.ServiceAffinityNone, corev1.ServiceAffinityClientIP)
	s.Spec.SessionAffinityConfig = maybe(d, corev1.SessionAffinityConfig{}, corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: maybe(d, int32(1), -5, 1<<30)}})
	for range 1 + d.n(3) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{
			Name: pick(d, portNames...), Protocol: pick(d, protocolSet...), Port: pick(d, int32(80), 53, 8080, 65535, 0, -1, 70000), NodePort: pick(d, int32(30080), 0, 30081, -1, 1<<20),
		})
	}
	for range d.n(4) {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: pick(d, append([]string{"203.0.113.7", "2001:db8:7::7", "203.0.113.8"}, addressed...)...)})
	}
	for range d.n(3) {
		s.Spec.LoadBalancerSourceRanges = append(s.Spec.LoadBalancerSourceRanges, pick(d, "192.0.2.0/24", "::/0", "2001:db8::1/32", "x", "10.0.0.1", "::ffff:10.0.0.0/104", "0.0.0.0/0", "::ffff:0:0/90", " 192.0.02.1/24 "))
	}
	all := options.All()
	for range d.n(4) {
		s.Annotations[all[d.n(len(all))].Name] = pick(d, "5s", "1", "http", "pods", "nodes", "nodeports", "true", "gue", "l2", "0s", "rehash", "VIP", "Proxy", "pass", "/x", "none", "icmp", "udp", "x")
	}
	return s
}

func (d *dice) slice() *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default"},
		AddressType: pick(d, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN, ""),
	}
	for range 1 + d.n(2) {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: maybe(d, portNames...), Protocol: maybe(d, protocolSet...), Port: maybe(d, int32(8080), 8080, 9090, 9090, 0, -1, 70000)})
	}
	for range d.n(7) {
		e := discoveryv1.Endpoint{NodeName: maybe(d, nodeNames...)}
		e.Conditions = discoveryv1.EndpointConditions{Ready: maybe(d, true, false), Serving: maybe(d, true, false), Terminating: maybe(d, true, false)}
		for range 1 + d.n(2) {
			e.Addresses = append(e.Addresses, pick(d, addressed...))
		}
		if d.n(3) > 0 {
			e.TargetRef = &corev1.ObjectReference{Kind: pick(d, "Pod", "Node"), Namespace: pick(d, "default", ""), Name: pick(d, "a", "b", "a (10.0.0.1:8080)", " ", "\n", "c")}
		}
		// All that is said of one address by hints is the same, so that what holds
		// of duplicates is clear.
		if len(e.Addresses) > 0 {
			if a, bad := address(e.Addresses[0]); bad == "" && a.As16()[15]%3 > 0 {
				e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zoneNames[a.As16()[15]%3]}}}
			}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func (d *dice) node(i int) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeNames[i%len(nodeNames)], Labels: map[string]string{}}}
	if d.n(4) == 1 {
		n.Labels[corev1.LabelNodeExcludeBalancers] = pick(d, "", "true", "false", "x")
	}
	if d.n(4) == 1 {
		n.Spec.Taints = []corev1.Taint{{Key: pick(d, toBeDeleted, "x")}}
	}
	for range d.n(4) {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{
			Type: pick(d, corev1.NodeInternalIP, corev1.NodeInternalIP, corev1.NodeExternalIP), Address: pick(d, addressed...),
		})
	}
	return n
}

// world is all the objects of a translation.
type world struct {
	in    Input
	nodes []*corev1.Node
	extra []kube.Problem // of the annotations
}

func (d *dice) world() *world {
	w := &world{in: Input{Service: d.service()}}
	w.in.Settings = kube.Settings{
		DefaultClass: d.n(2) == 1, Zone: pick(d, "", "z1", "z2"), Method: pick(d, "", kube.Pods, kube.Pods, kube.Nodes, kube.NodePorts),
		LocalMethod: pick(d, "", kube.Nodes, kube.Pods), NodesVia: pick(d, "", model.L2, model.GUE),
		NodeName: pick(d, "", "", "n1"),
	}
	for range 1 + d.n(4) {
		w.in.Slices = append(w.in.Slices, d.slice())
	}
	for i := range d.n(len(nodeNames) + 1) {
		w.nodes = append(w.nodes, d.node(i))
	}
	w.in.Nodes = NodesOf(w.nodes)
	if d.n(2) == 1 {
		value := pick(d, "5", "0", "x", "65535")
		w.in.PodWeight = func(_, name string) (string, bool) { return value, name == "a" }
	}
	w.in.Options, w.extra = options.Parse(w.in.Service, options.Flavors())
	return w
}

// shuffled is the same world in another order: slices, endpoints and nodes, some
// slices split, and some things listed twice.
func (w *world) shuffled(r *rand.Rand) Input {
	in := w.in
	in.Slices = nil
	for _, s := range w.in.Slices {
		one, two := s.DeepCopy(), s.DeepCopy()
		one.Endpoints, two.Endpoints = nil, nil
		for _, e := range s.Endpoints {
			switch r.IntN(4) {
			case 0:
				one.Endpoints, two.Endpoints = append(one.Endpoints, e), append(two.Endpoints, e)
			case 1:
				one.Endpoints = append(one.Endpoints, e)
			default:
				two.Endpoints = append(two.Endpoints, e)
			}
		}
		for _, part := range []*discoveryv1.EndpointSlice{one, two} {
			r.Shuffle(len(part.Endpoints), func(i, j int) { part.Endpoints[i], part.Endpoints[j] = part.Endpoints[j], part.Endpoints[i] })
			in.Slices = append(in.Slices, part)
		}
	}
	r.Shuffle(len(in.Slices), func(i, j int) { in.Slices[i], in.Slices[j] = in.Slices[j], in.Slices[i] })
	nodes := slices.Clone(w.nodes)
	r.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	in.Nodes = NodesOf(nodes)
	return in
}

// oracle is which endpoint gets which weight with method pods, worked out slowly by
// the words of the proposals.
func oracle(in Input, vips []netip.Addr, port *corev1.ServicePort, four bool) map[netip.AddrPort]int {
	type seen struct{ ready, serving, terminating bool }
	all := map[netip.AddrPort]seen{}
	hints, pods := map[netip.AddrPort]string{}, map[netip.AddrPort]bool{}
	is := func(p *bool, otherwise bool) bool {
		if p == nil {
			return otherwise
		}
		return *p
	}
	for _, s := range in.Slices {
		family := discoveryv1.AddressTypeIPv6
		if four {
			family = discoveryv1.AddressTypeIPv4
		}
		if s.AddressType != family {
			continue
		}
		for _, e := range s.Endpoints {
			for _, p := range s.Ports {
				if p.Port == nil || *p.Port <= 0 || *p.Port > 65535 || len(e.Addresses) == 0 {
					continue
				}
				name, protocol := "", corev1.ProtocolTCP
				if p.Name != nil {
					name = *p.Name
				}
				if p.Protocol != nil {
					protocol = *p.Protocol
				}
				a, bad := address(e.Addresses[0])
				if name != port.Name || protocol != protocolOf(port) || bad != "" || a.Is4() != four || slices.Contains(vips, a) {
					continue
				}
				if e.NodeName != nil && *e.NodeName != "" && *e.NodeName == in.Settings.NodeName {
					continue
				}
				at := netip.AddrPortFrom(a, uint16(*p.Port))
				now := seen{is(e.Conditions.Ready, true), is(e.Conditions.Serving, true), is(e.Conditions.Terminating, false)}
				before, known := all[at]
				better := !known
				if known && before.terminating != now.terminating {
					better = before.terminating
				} else if known && before.ready != now.ready {
					better = now.ready
				} else if known && before.serving != now.serving {
					better = now.serving
				}
				if better {
					all[at] = now
				}
				if e.Hints != nil {
					hints[at] = e.Hints.ForZones[0].Name
				}
				pods[at] = true
			}
		}
	}
	ready, unhinted, ours := 0, 0, 0
	for at, e := range all {
		if e.ready {
			ready++
			if hints[at] == "" {
				unhinted++
			} else if hints[at] == in.Settings.Zone {
				ours++
			}
		}
	}
	zonal := !Local(in.Service) && in.Settings.Zone != "" && unhinted == 0 && ours > 0
	out := map[netip.AddrPort]int{}
	for at, e := range all {
		takes := e.ready && (!zonal || hints[at] == in.Settings.Zone)
		if ready == 0 {
			takes = e.serving && e.terminating
		}
		switch {
		case takes:
			out[at] = 1
		case protocolOf(port) != corev1.ProtocolUDP || e.ready:
			out[at] = 0
		}
	}
	return out
}

// examine asserts of one world all that holds of any.
func examine(t *testing.T, w *world, r *rand.Rand) {
	t.Helper()
	before := w.in.Service.DeepCopy()
	out := run(t, w.in)
	if !reflect.DeepEqual(before, w.in.Service) {
		t.Error("the Service has been changed")
	}
	for _, s := range whole(out).Services {
		if d := s.DrainTimeout; d != model.NoDrain && s.Protocol == model.UDP || d < time.Nanosecond {
			t.Errorf("%s drains for %s", s.Name, d)
		}
	}
	other := Service(w.shuffled(r))
	byMessage := func(a, b kube.Problem) int {
		return cmp.Or(cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message))
	}
	slices.SortFunc(out.Problems, byMessage)
	slices.SortFunc(other.Problems, byMessage)
	if !reflect.DeepEqual(out, other) {
		t.Errorf("in another order\n%+v\nis\n%+v", out, other)
	}
	if out.Method != kube.Pods || !out.Programmable {
		return
	}
	w.in.PodWeight = nil
	plain := Service(w.in)
	vips := VIPs(w.in.Service)
	for i := range w.in.Service.Spec.Ports {
		p := &w.in.Service.Spec.Ports[i]
		if protocols[protocolOf(p)] == "" || p.Port < 1 || p.Port > 65535 || slices.ContainsFunc(w.in.Service.Spec.Ports[:i], func(o corev1.ServicePort) bool {
			return o.Port == p.Port && protocolOf(&o) == protocolOf(p)
		}) {
			continue
		}
		for _, four := range []bool{true, false} {
			if !slices.ContainsFunc(vips, func(a netip.Addr) bool { return a.Is4() == four }) {
				continue
			}
			got := map[netip.AddrPort]int{}
			for _, b := range pool(t, plain, fmt.Sprintf("%s-%d/%s", protocols[protocolOf(p)], p.Port, familyName(four))).Backends {
				got[b.Endpoint()] = b.Weight
			}
			if want := oracle(w.in, vips, p, four); !maps.Equal(got, want) {
				t.Errorf("port %+v: backends %v, want %v", p, got, want)
			}
		}
	}
}

// TestAnyWorld: of random objects, that the group is valid, that their order, how
// they are split over slices, and duplicates do not matter, and that endpoints get
// what the oracle gives them.
func TestAnyWorld(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 3))
	programmed := map[kube.Method]int{}
	for range 10_000 {
		raw := make([]byte, 400)
		for i := range raw {
			raw[i] = byte(r.Uint32())
		}
		w := (&dice{raw}).world()
		examine(t, w, r)
		if out := Service(w.in); out.Programmable {
			programmed[out.Method]++
		}
		if t.Failed() {
			t.Fatalf("world %x", raw)
		}
	}
	for _, m := range []kube.Method{kube.Pods, kube.NodePorts, kube.Nodes} {
		if programmed[m] < 100 {
			t.Errorf("only %d of method %s were programmed", programmed[m], m)
		}
	}
}

// FuzzService is TestAnyWorld with objects that a fuzzer looks for.
func FuzzService(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		raw := make([]byte, 400)
		for i := range raw {
			raw[i] = byte(r.Uint32())
		}
		f.Add(raw, uint64(1))
	}
	f.Fuzz(func(t *testing.T, raw []byte, seed uint64) {
		examine(t, (&dice{raw}).world(), rand.New(rand.NewPCG(seed, 0)))
	})
}
