package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
	"fairlead/xdp/decap"
)

// register makes every backend a node of Kubernetes that is ready.
func (w *world) register() {
	w.t.Helper()
	for _, b := range w.rack.Backends {
		n, err := w.kube.CoreV1().Nodes().Create(w.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: b.Name}}, metav1.CreateOptions{})
		w.must(err)
		n.Status.Addresses = []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: b.IPv4.String()}, {Type: corev1.NodeInternalIP, Address: b.IPv6.String()},
		}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		_, err = w.kube.CoreV1().Nodes().UpdateStatus(w.ctx, n, metav1.UpdateOptions{})
		w.must(err)
	}
}

// on puts endpoints on the nodes of their backends.
func (w *world) on(s *corev1.Service, endpoints ...endpoint) {
	w.t.Helper()
	for _, f := range s.Spec.IPFamilies {
		slice := newSlice(s, "on-"+strings.ToLower(string(f)), discoveryv1.AddressType(f), endpoints...)
		for i := range slice.Endpoints {
			slice.Endpoints[i].NodeName = ptr.To(endpoints[i].node.Name)
		}
		w.put(slice)
	}
}

// Services of methods have these VIPs of the rack; others have the first ones of the
// pool.
const firstMethod, lastMethod = 61, 70

// methods brings packets to pods in all ways that a Service can ask for: with the VIP
// kept, servers see the client's own address and answer it without a detour.
func (w *world) methods() {
	w.t.Helper()
	t := w.t
	w.register()
	var vips []netip.Addr
	for i := firstMethod; i <= lastMethod; i++ {
		vips = append(vips, w.rack.VIP4(i), w.rack.VIP6(i))
	}
	for _, b := range w.rack.Backends {
		// What kube-proxy does on a node: VIPs are answered for, and by the port of
		// the Service.
		w.must(rig.Own(b, vips...))
		var balancers []netip.Prefix
		for _, lb := range w.rack.Balancers {
			balancers = append(balancers, netip.PrefixFrom(lb.IPv4, 32), netip.PrefixFrom(lb.IPv6, 128))
		}
		_, err := rig.Decapsulate(b, decap.Config{VIPs: vips, LoadBalancers: balancers})
		w.must(err)
		_, err = traffic.ServeHTTP(b.Host, ":80")
		w.must(err)
		_, err = traffic.ServeUDP(b.Host, ":53")
		w.must(err)
	}
	w.namespace("methods")
	n := firstMethod - 1
	request := func(name string) *corev1.Service {
		n++
		s := dual(newService("methods", name, webPort(), namePort()))
		s.Spec.AllocateLoadBalancerNodePorts = nil
		return annotated(s, "fairlead.io/addresses", w.rack.VIP4(n).String()+","+w.rack.VIP6(n).String())
	}
	t.Run("pods", func(t *testing.T) { w.in(t).method(request("pods"), corev1.LoadBalancerIPModeProxy, false) })
	for _, via := range []string{"l2", "ipip", "gue"} {
		t.Run("nodes "+via, func(t *testing.T) {
			s := annotated(annotated(request("nodes-"+via), "fairlead.io/method", "nodes"), "fairlead.io/nodes-via", via)
			w.in(t).method(s, corev1.LoadBalancerIPModeVIP, true)
		})
	}
	t.Run("nodeports", func(t *testing.T) {
		w.in(t).method(annotated(request("nodeports"), "fairlead.io/method", "nodeports"), corev1.LoadBalancerIPModeProxy, false)
	})
	t.Run("local", func(t *testing.T) { w.in(t).local(request("local")) })
}

// in is the world in a subtest.
func (w *world) in(t *testing.T) *world {
	sub := *w
	sub.t = t
	return &sub
}

// method makes a Service and demands that it works on both families.
func (w *world) method(s *corev1.Service, mode corev1.LoadBalancerIPMode, preserved bool) {
	w.t.Helper()
	s = w.create(s)
	w.on(s, allReady(w.rack.Backends...)...)
	for _, p := range s.Spec.Ports {
		// What kube-proxy does with ports of nodes.
		if s.Annotations["fairlead.io/method"] != "nodeports" {
			break
		}
		if p.NodePort == 0 {
			w.t.Fatalf("no port of nodes for %s", p.Name)
		}
		for _, b := range w.rack.Backends {
			var err error
			if p.Protocol == corev1.ProtocolUDP {
				_, err = traffic.ServeUDP(b.Host, fmt.Sprintf(":%d", p.NodePort))
			} else {
				_, err = traffic.ServeHTTP(b.Host, fmt.Sprintf(":%d", p.NodePort))
			}
			w.must(err)
		}
	}
	for i, vip := range w.assigned(s, 2) {
		w.untilServed(vip, "tcp 80", 3)
		w.untilServed(vip, "udp 53", 3)
		client := w.rack.Client.IPv4
		if i == 1 {
			client = w.rack.Client.IPv6
		}
		for _, tally := range []*traffic.Tally{w.web(vip, 40), w.ask(vip, 40)} {
			if len(tally.ByServer) != 3 {
				w.t.Errorf("%s: answers of %v, want all of three", vip, tally.ByServer)
			}
			if preserved != (tally.Clients[client] == 40) {
				w.t.Errorf("%s: servers saw %v; the client's own address is %s", vip, tally.Clients, client)
			}
		}
	}
	for _, i := range w.read(s).Status.LoadBalancer.Ingress {
		if i.IPMode == nil || *i.IPMode != mode {
			w.t.Errorf("%s: mode %v, want %s", i.IP, i.IPMode, mode)
		}
	}
}

// local: externalTrafficPolicy Local. The client's address is kept, and a node without
// a ready pod gets nothing, by the slices and by its health check.
func (w *world) local(s *corev1.Service) {
	w.t.Helper()
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	s = w.create(s)
	b := w.rack.Backends
	if s.Spec.HealthCheckNodePort == 0 {
		w.t.Fatal("no healthCheckNodePort")
	}
	checks := map[string]*healthz{}
	for _, n := range b {
		checks[n.Name] = w.healthz(n, s.Spec.HealthCheckNodePort)
	}
	w.on(s, ready(b[0]), ready(b[1]))
	vips := w.assigned(s, 2)
	answeredBy := func(who ...*lab.Node) {
		w.t.Helper()
		for i, vip := range vips {
			client := w.rack.Client.IPv4
			if i == 1 {
				client = w.rack.Client.IPv6
			}
			w.until(fmt.Sprintf("%d nodes answer", len(who)), func() string {
				tally := w.web(vip, 60)
				if len(tally.ByServer) != len(who) {
					return fmt.Sprint(tally.ByServer)
				}
				for _, n := range who {
					if tally.ByServer[n.Name] == 0 {
						return fmt.Sprint(tally.ByServer)
					}
				}
				if tally.Clients[client] != 60 {
					w.t.Errorf("servers saw %v, want the client's own %s", tally.Clients, client)
				}
				return ""
			})
		}
	}
	for _, vip := range vips {
		w.untilServed(vip, "tcp 80", 2)
	}
	answeredBy(b[0], b[1])
	// A pod moves to the third node.
	w.on(s, ready(b[1]), ready(b[2]))
	for _, vip := range vips {
		w.untilServed(vip, "tcp 80", 2)
	}
	answeredBy(b[1], b[2])
	// kube-proxy of the second says that it has none, before the slice does.
	checks[b[1].Name].set(http.StatusServiceUnavailable)
	answeredBy(b[2])
	checks[b[1].Name].set(http.StatusOK)
	answeredBy(b[1], b[2])
}

// healthz is what kube-proxy answers at a Service's healthCheckNodePort.
type healthz struct{ status chan int }

func (h *healthz) set(status int) {
	<-h.status
	h.status <- status
}

// healthz answers on a node.
func (w *world) healthz(n *lab.Node, port int32) *healthz {
	w.t.Helper()
	h := &healthz{status: make(chan int, 1)}
	h.status <- http.StatusOK
	ln, err := n.Listen("tcp", net.JoinHostPort("", strconv.Itoa(int(port))))
	w.must(err)
	server := &http.Server{Handler: http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		status := <-h.status
		h.status <- status
		out.WriteHeader(status)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ln) }()
	w.rack.OnClose(func() error { defer func() { <-done }(); return server.Close() })
	return h
}
