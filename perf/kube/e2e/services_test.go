package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"fairlead/perf/lab/traffic"
)

// TestServices is what Services of type LoadBalancer promise, each promise kept by
// one node of Fairlead whose packets go to the addresses of EndpointSlices; and then by
// all methods.
func TestServices(t *testing.T) {
	t.Parallel()
	w := startWorld(t, worldConfig{options: "default_class = true\n"})
	t.Run("all", func(t *testing.T) {
		for _, c := range []struct {
			name string
			run  func(*world, string)
		}{
			{"reached", reached},
			{"kubectl", seenByKubectl},
			{"classes", classes},
			{"type", changesType},
			{"ports", changesPorts},
			{"ranges", sourceRanges},
			{"affinity", affinity},
			{"lapse", affinityLapses},
			{"drain", endpointsDrain},
			{"last", lastEndpoints},
			{"datagrams", datagramsLeave},
			{"sharing", sharesAddress},
			{"requested", requestedAddresses},
			{"targets", targetsDiffer},
			{"recreated", recreated},
			{"sctp", speaksSCTP},
			{"untouched", leftAlone},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				sub := *w
				sub.t = t
				sub.namespace(c.name)
				c.run(&sub, c.name)
			})
		}
	})
	t.Run("methods", func(t *testing.T) { w.in(t).methods() })
	// Closed ports, refused clients, and clients of what has been taken away.
	w.balance("source_not_allowed", "service_not_found", "service_empty", "backend_gone", "flow_not_found", "tcp_not_syn")
}

// reached: TCP and UDP on one VIP of each family reach all endpoints.
func reached(w *world, ns string) {
	s := w.create(dual(newService(ns, "web", webPort(), namePort())))
	w.endpoints(s, allReady(w.rack.Backends...)...)
	vips := w.assigned(s, 2)
	if !vips[0].Is4() || !vips[1].Is6() {
		w.t.Errorf("addresses %v, want IPv4 first as the Service says", vips)
	}
	for _, vip := range vips {
		w.untilServed(vip, "tcp 80", 3)
		w.untilServed(vip, "udp 53", 3)
		for _, tally := range []*traffic.Tally{w.web(vip, 60), w.ask(vip, 60)} {
			if len(tally.ByServer) != 3 {
				w.t.Errorf("%s: answers of %v, want all of three", vip, tally.ByServer)
			}
		}
	}
	for _, i := range w.read(s).Status.LoadBalancer.Ingress {
		if i.IPMode == nil || *i.IPMode != corev1.LoadBalancerIPModeProxy {
			w.t.Errorf("%s: mode %v, want Proxy: pods do not see the VIP", i.IP, i.IPMode)
		}
		if len(i.Ports) != 2 || i.Ports[0].Error != nil || i.Ports[1].Error != nil {
			w.t.Errorf("%s: ports %+v, want two without an error", i.IP, i.Ports)
		}
	}
}

// seenByKubectl: kubectl get shows the VIP, kubectl describe the Events.
func seenByKubectl(w *world, ns string) {
	s := w.create(newService(ns, "web", webPort()))
	vip := w.assigned(s, 1)[0]
	out := w.kubectl("get", "service", "-n", ns, "web", "--no-headers")
	if fields := strings.Fields(out); len(fields) < 4 || fields[0] != "web" || fields[1] != "LoadBalancer" || fields[3] != vip.String() {
		w.t.Errorf("kubectl get shows %q, want the VIP %s", out, vip)
	}
	w.until("kubectl describe shows an Event", func() string {
		out = w.kubectl("describe", "service", "-n", ns, "web")
		_, events, _ := strings.Cut(out, "\nEvents:")
		if strings.Contains(events, vip.String()) {
			return ""
		}
		return out
	})
	// One that cannot be had says why.
	w.create(annotated(newService(ns, "beyond", webPort()), "fairlead.io/addresses", "192.0.2.1"))
	w.until("kubectl describe says why there is no address", func() string {
		out = w.kubectl("describe", "service", "-n", ns, "beyond")
		_, events, _ := strings.Cut(out, "\nEvents:")
		if strings.Contains(events, "Warning") && strings.Contains(events, "192.0.2.1") {
			return ""
		}
		return out
	})
	if out := w.kubectl("get", "service", "-n", ns, "beyond", "--no-headers"); !strings.Contains(out, "<pending>") {
		w.t.Errorf("kubectl get shows %q, want <pending>", out)
	}
}

// classes: ours and, by configuration, none are served; those of others are not
// touched, finalizer included.
func classes(w *world, ns string) {
	other := newService(ns, "other", webPort())
	other.Spec.LoadBalancerClass = ptr.To("example.com/other")
	other = w.create(other)
	plain := newService(ns, "plain", webPort())
	plain.Spec.LoadBalancerClass = nil
	plain = w.create(plain)
	w.assigned(plain, 1)
	// What came later is served: the other one would have been, too.
	w.assigned(w.create(newService(ns, "later", webPort())), 1)
	now := w.read(other)
	if len(now.Finalizers) > 0 || len(now.Status.LoadBalancer.Ingress) > 0 || len(now.Status.Conditions) > 0 || now.ResourceVersion != other.ResourceVersion {
		w.t.Errorf("a Service of another class was touched: %+v, finalizers %q", now.Status, now.Finalizers)
	}
}

// changesType: LoadBalancer, ClusterIP, LoadBalancer.
func changesType(w *world, ns string) {
	s := w.create(newService(ns, "web", webPort()))
	w.endpoints(s, allReady(w.rack.Backends...)...)
	vip := w.assigned(s, 1)[0]
	w.untilServed(vip, "tcp 80", 3)
	w.web(vip, 8)
	w.change(s, func(s *corev1.Service) {
		s.Spec.Type, s.Spec.LoadBalancerClass, s.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeClusterIP, nil, nil
	})
	w.untilServed(vip, "tcp 80", -1)
	w.until("the finalizer is taken away", func() string {
		if now := w.read(s); len(now.Finalizers) > 0 || len(now.Status.LoadBalancer.Ingress) > 0 {
			return fmt.Sprintf("finalizers %q, status %+v", now.Finalizers, now.Status)
		}
		return ""
	})
	w.change(s, func(s *corev1.Service) {
		s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, ptr.To(class)
	})
	vip = w.assigned(s, 1)[0]
	w.untilServed(vip, "tcp 80", 3)
	w.web(vip, 8)
	w.remove(s)
	w.untilServed(vip, "tcp 80", -1)
}

// changesPorts: ports come and go beside a connection that stays.
func changesPorts(w *world, ns string) {
	s := w.create(newService(ns, "web", talkPort(), webPort()))
	w.endpoints(s, allReady(w.rack.Backends...)...)
	vip := w.assigned(s, 1)[0]
	w.untilServed(vip, "tcp 7", 3)
	talk := w.talk(vip, 3)
	s = w.change(s, func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{talkPort(), port("web", corev1.ProtocolTCP, 8000, httpPort), namePort()}
	})
	w.endpoints(s, allReady(w.rack.Backends...)...)
	w.untilServed(vip, "tcp 80", -1)
	w.untilServed(vip, "tcp 8000", 3)
	w.untilServed(vip, "udp 53", 3)
	w.ask(vip, 8)
	if tally := (traffic.HTTPLoad{Target: netip.AddrPortFrom(vip, 8000), Connections: 8}).Run(w.ctx, w.rack.Client.Host); tally.Err() != nil {
		w.t.Error(tally.Err())
	}
	if tally := (traffic.HTTPLoad{Target: netip.AddrPortFrom(vip, 80), Connections: 1, Timeout: 300 * time.Millisecond}).Run(w.ctx, w.rack.Client.Host); tally.Failed() != 1 {
		w.t.Error("a port that was taken away answers")
	}
	talk.stop()
	if now := addresses(w.read(s)); !slices.Equal(now, []netip.Addr{vip}) {
		w.t.Errorf("addresses %v, want %v as before", now, vip)
	}
}

// sourceRanges: who is not in loadBalancerSourceRanges is refused in the data path.
func sourceRanges(w *world, ns string) {
	friend, stranger := w.rack.Client.IPv4, netip.MustParseAddr("198.18.0.3")
	w.must(w.rack.Client.Interface.AddAddress(netip.PrefixFrom(stranger, 24)))
	s := newService(ns, "web", webPort())
	s.Spec.LoadBalancerSourceRanges = []string{friend.String() + "/32", "203.0.113.0/24"}
	s = w.create(s)
	w.endpoints(s, allReady(w.rack.Backends...)...)
	vip := w.assigned(s, 1)[0]
	w.untilServed(vip, "tcp 80", 3)
	from := func(client netip.Addr, want int) {
		w.t.Helper()
		load := traffic.HTTPLoad{Target: netip.AddrPortFrom(vip, 80), Source: client, Connections: 4, Parallel: 4, Timeout: 10 * time.Second}
		if want == 0 {
			load.Timeout = 300 * time.Millisecond
		}
		if tally := load.Run(w.ctx, w.rack.Client.Host); tally.Answers != want {
			w.t.Errorf("%s got %d answers, want %d: %v", client, tally.Answers, want, tally.Err())
		}
	}
	from(friend, 4)
	from(stranger, 0)
	w.change(s, func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{stranger.String() + "/32"} })
	w.until("the ranges are the other way round", func() string {
		one := traffic.HTTPLoad{Target: netip.AddrPortFrom(vip, 80), Source: stranger, Connections: 1, Timeout: 300 * time.Millisecond}
		return text(one.Run(w.ctx, w.rack.Client.Host).Err())
	})
	from(stranger, 4)
	from(friend, 0)
	w.change(s, func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = nil })
	w.until("everybody is let in", func() string {
		one := traffic.HTTPLoad{Target: netip.AddrPortFrom(vip, 80), Source: friend, Connections: 1, Timeout: 300 * time.Millisecond}
		return text(one.Run(w.ctx, w.rack.Client.Host).Err())
	})
	from(stranger, 4)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// affinity: without it one client reaches several endpoints, with it one; and it
// can be switched.
func affinity(w *world, ns string) {
	s := w.create(newService(ns, "web", webPort()))
	w.endpoints(s, allReady(w.rack.Backends...)...)
	vip := w.assigned(s, 1)[0]
	w.untilServed(vip, "tcp 80", 3)
	if tally := w.web(vip, 60); len(tally.ByServer) != 3 {
		w.t.Errorf("without affinity one client reaches %v, want all of three", tally.ByServer)
	}
	w.change(s, func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
	w.until("with affinity one client reaches one endpoint", func() string {
		if tally := w.web(vip, 30); len(tally.ByServer) != 1 {
			return fmt.Sprint(tally.ByServer)
		}
		return ""
	})
	w.change(s, func(s *corev1.Service) {
		s.Spec.SessionAffinity, s.Spec.SessionAffinityConfig = corev1.ServiceAffinityNone, nil
	})
	w.until("without affinity one client reaches all endpoints again", func() string {
		if tally := w.web(vip, 60); len(tally.ByServer) != 3 {
			return fmt.Sprint(tally.ByServer)
		}
		return ""
	})
}

// affinityLapses: when a client has been away for longer than the timeout, another
// endpoint may be chosen.
func affinityLapses(w *world, ns string) {
	s := newService(ns, "web", webPort())
	s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr.To[int32](1)}}
	s = w.create(s)
	w.endpoints(s, allReady(w.rack.Backends...)...)
	vip := w.assigned(s, 1)[0]
	w.untilServed(vip, "tcp 80", 3)
	seen := map[string]bool{}
	w.until("a client that comes back late is sent elsewhere", func() string {
		tally := w.web(vip, 5)
		if len(tally.ByServer) != 1 {
			w.t.Errorf("within the timeout one client reaches %v", tally.ByServer)
		}
		for name := range tally.ByServer {
			seen[name] = true
		}
		if len(seen) > 1 {
			return ""
		}
		time.Sleep(1500 * time.Millisecond) // longer than the timeout: what is waited for is time itself
		return fmt.Sprintf("always %v", seen)
	})
}

// endpointsDrain: connections stay on an endpoint that terminates and serves until
// it is gone, and new ones go elsewhere.
func endpointsDrain(w *world, ns string) {
	s := w.create(newService(ns, "web", webPort(), talkPort()))
	b := w.rack.Backends
	w.endpoints(s, allReady(b...)...)
	vip := w.assigned(s, 1)[0]
	w.untilServed(vip, "tcp 7", 3)
	w.untilServed(vip, "tcp 80", 3)
	talk := w.talk(vip, 40)
	if n := talk.servers(); len(n) != 3 {
		w.t.Fatalf("connections to %v, want all of three", n)
	}
	w.endpoints(s, ready(b[0]), ready(b[1]), draining(b[2]))
	w.untilServed(vip, "tcp 80", 2)
	w.untilServed(vip, "tcp 7", 2)
	if tally := w.web(vip, 40); tally.ByServer[b[2].Name] > 0 {
		w.t.Errorf("new connections go to %v, want none to %s, which terminates", tally.ByServer, b[2].Name)
	}
	talk.await(10) // all of them, those of the third among them
	talk.stop()
	w.endpoints(s, ready(b[0]), ready(b[1]))
	w.until("the third endpoint is gone", func() string {
		all, err := w.served(0, vip)
		if err != nil || len(all["tcp 80"]) != 2 {
			return fmt.Sprint(all, err)
		}
		return ""
	})
	w.web(vip, 20)
}

// lastEndpoints: when no endpoint is ready, those that terminate and serve are used
// (KEP-1669), and never those that do not serve.
func lastEndpoints(w *world, ns string) {
	s := w.create(newService(ns, "web", webPort()))
	b := w.rack.Backends
	w.endpoints(s, draining(b[0]), dying(b[1]), unready(b[2]))
	vip := w.assigned(s, 1)[0]
	w.untilServed(vip, "tcp 80", 1)
	if tally := w.web(vip, 20); tally.ByServer[b[0].Name] != 20 {
		w.t.Errorf("answers of %v, want all of %s", tally.ByServer, b[0].Name)
	}
	w.endpoints(s, draining(b[0]), dying(b[1]), ready(b[2]))
	w.until("the one that is ready alone gets new connections", func() string {
		if tally := w.web(vip, 10); tally.ByServer[b[2].Name] != 10 {
			return fmt.Sprint(tally.ByServer)
		}
		return ""
	})
	// publishNotReadyAddresses is the endpoint controller's affair: it says ready.
	// Nobody at all: connections are not answered, and nothing else happens.
	w.endpoints(s)
	w.untilServed(vip, "tcp 80", 0)
	if tally := (traffic.HTTPLoad{Target: netip.AddrPortFrom(vip, 80), Connections: 1, Timeout: 300 * time.Millisecond}).Run(w.ctx, w.rack.Client.Host); tally.Failed() != 1 {
		w.t.Errorf("a Service without endpoints answers: %v", tally.ByServer)
	}
}

// datagramsLeave: UDP leaves an endpoint that terminates at once, also in a flow
// that goes on.
func datagramsLeave(w *world, ns string) {
	s := w.create(newService(ns, "name", namePort()))
	b := w.rack.Backends
	w.endpoints(s, ready(b[0]))
	vip := w.assigned(s, 1)[0]
	w.untilServed(vip, "udp 53", 1)
	flow := traffic.UDPLoad{Target: netip.AddrPortFrom(vip, 53), Source: w.rack.Client.IPv4, Flows: 1, PerFlow: 200, Attempts: 20, Timeout: 100 * time.Millisecond}
	began, done := time.Now(), make(chan *traffic.Tally, 1)
	go func() {
		for {
			// Each run is one flow; one of them is under way when the endpoint goes.
			tally := flow.Run(w.ctx, w.rack.Client.Host)
			if tally.Moves > 0 || tally.Err() != nil || time.Since(began) > time.Minute {
				done <- tally
				return
			}
		}
	}()
	w.endpoints(s, draining(b[0]), ready(b[1]))
	w.untilServed(vip, "udp 53", 1)
	tally := w.ask(vip, 20)
	if tally.ByServer[b[1].Name] != 20 {
		w.t.Errorf("answers of %v, want all of %s", tally.ByServer, b[1].Name)
	}
	for range 50 {
		select {
		case got := <-done:
			if got.Err() != nil {
				w.t.Errorf("a flow did not go on elsewhere: %v", got.Err())
			}
			return
		default:
		}
		// It may have moved between two flows: to and fro until one moves within.
		w.endpoints(s, ready(b[0]), draining(b[1]))
		w.ask(vip, 4)
		w.endpoints(s, draining(b[0]), ready(b[1]))
		w.ask(vip, 4)
	}
	if got := <-done; got.Err() != nil || got.Moves == 0 {
		w.t.Errorf("no flow moved: %v", got.Err())
	}
}

// sharesAddress: Services with one sharing key share a VIP when their ports differ,
// and it is free when the last one goes.
func sharesAddress(w *world, ns string) {
	shared := func(name string, ports ...corev1.ServicePort) *corev1.Service {
		return w.create(annotated(newService(ns, name, ports...), "fairlead.io/sharing-key", "one"))
	}
	web := shared("web", webPort())
	vip := w.assigned(web, 1)[0]
	name := newService(ns, "name", namePort())
	annotated(name, "fairlead.io/addresses", vip.String())
	name = w.create(annotated(name, "fairlead.io/sharing-key", "one"))
	if got := w.assigned(name, 1)[0]; got != vip {
		w.t.Errorf("the second has %s, want %s", got, vip)
	}
	w.endpoints(web, allReady(w.rack.Backends...)...)
	w.endpoints(name, allReady(w.rack.Backends...)...)
	w.untilServed(vip, "tcp 80", 3)
	w.untilServed(vip, "udp 53", 3)
	w.web(vip, 10)
	w.ask(vip, 10)
	// The same port again, and another key: neither may have it.
	for _, s := range []*corev1.Service{
		annotated(annotated(newService(ns, "collides", webPort()), "fairlead.io/sharing-key", "one"), "fairlead.io/addresses", vip.String()),
		annotated(annotated(newService(ns, "stranger", talkPort()), "fairlead.io/sharing-key", "two"), "fairlead.io/addresses", vip.String()),
		annotated(newService(ns, "keyless", talkPort()), "fairlead.io/addresses", vip.String()),
	} {
		s = w.create(s)
		w.until(s.Name+" is told why it has no address", func() string {
			for _, c := range w.read(s).Status.Conditions {
				if c.Status == metav1.ConditionFalse && strings.Contains(c.Message, vip.String()) {
					return ""
				}
			}
			return fmt.Sprintf("%+v", w.read(s).Status)
		})
		if got := addresses(w.read(s)); len(got) > 0 {
			w.t.Errorf("%s has %v", s.Name, got)
		}
		w.remove(s)
	}
	w.remove(web)
	w.untilServed(vip, "tcp 80", -1)
	w.ask(vip, 10)
	if got := addresses(w.read(name)); !slices.Equal(got, []netip.Addr{vip}) {
		w.t.Errorf("the other one has %v, want %s as before", got, vip)
	}
	w.remove(name)
	w.untilServed(vip, "udp 53", -1)
}

// requestedAddresses: by annotation, and by spec.loadBalancerIP, which we never write.
func requestedAddresses(w *world, ns string) {
	four, six := w.rack.VIP4(79), w.rack.VIP6(79)
	s := w.create(annotated(dual(newService(ns, "annotated", webPort())), "fairlead.io/addresses", four.String()+", "+six.String()))
	if got := w.assigned(s, 2); !slices.Equal(got, []netip.Addr{four, six}) {
		w.t.Errorf("addresses %v, want %s and %s", got, four, six)
	}
	old := newService(ns, "old", webPort())
	old.Spec.LoadBalancerIP = w.rack.VIP4(78).String()
	old = w.create(old)
	if got := w.assigned(old, 1)[0]; got != w.rack.VIP4(78) {
		w.t.Errorf("address %s, want %s", got, w.rack.VIP4(78))
	}
	if now := w.read(s); now.Spec.LoadBalancerIP != "" {
		w.t.Errorf("spec.loadBalancerIP is %q: we never write it", now.Spec.LoadBalancerIP)
	}
}

// targetsDiffer: slices of one Service whose ports differ by pod, and endpoints that
// are listed twice.
func targetsDiffer(w *world, ns string) {
	b := w.rack.Backends
	_, err := traffic.ServeHTTP(b[1].Host, ":8081")
	w.must(err)
	s := newService(ns, "web", webPort())
	s = w.create(s)
	one := newSlice(s, "one", discoveryv1.AddressTypeIPv4, ready(b[0]), ready(b[0]))
	two := newSlice(s, "two", discoveryv1.AddressTypeIPv4, ready(b[1]))
	two.Ports[0].Port = ptr.To[int32](8081)
	again := newSlice(s, "again", discoveryv1.AddressTypeIPv4, ready(b[0]))
	for _, slice := range []*discoveryv1.EndpointSlice{one, two, again} {
		w.put(slice)
	}
	vip := w.assigned(s, 1)[0]
	w.untilServed(vip, "tcp 80", 2)
	all, err := w.served(0, vip)
	w.must(err)
	if want := []string{fmt.Sprintf("%s:%d 1", b[0].IPv4, httpPort), fmt.Sprintf("%s:8081 1", b[1].IPv4)}; !slices.Equal(all["tcp 80"], want) {
		w.t.Errorf("backends %v, want %v", all["tcp 80"], want)
	}
	if tally := w.web(vip, 40); len(tally.ByServer) != 2 {
		w.t.Errorf("answers of %v, want both", tally.ByServer)
	}
}

// recreated: a Service that is deleted and made again at once under its name.
func recreated(w *world, ns string) {
	for range 5 {
		s := w.create(newService(ns, "web", webPort()))
		w.endpoints(s, allReady(w.rack.Backends...)...)
		vip := w.assigned(s, 1)[0]
		w.untilServed(vip, "tcp 80", 3)
		w.web(vip, 4)
		w.remove(s)
	}
}

// leftAlone: Services that are none of ours.
func leftAlone(w *world, ns string) {
	var all []*corev1.Service
	for name, f := range map[string]func(*corev1.Service){
		"cluster": func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP },
		"node":    func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort },
		"headless": func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ClusterIP = corev1.ServiceTypeClusterIP, corev1.ClusterIPNone
		},
		"external": func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.com"
		},
		"ips": func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalIPs = corev1.ServiceTypeClusterIP, []string{w.rack.VIP4(80).String()}
		},
	} {
		s := newService(ns, name, webPort())
		s.Spec.LoadBalancerClass, s.Spec.AllocateLoadBalancerNodePorts = nil, nil
		f(s)
		all = append(all, w.create(s))
	}
	w.assigned(w.create(newService(ns, "later", webPort())), 1)
	for _, s := range all {
		if now := w.read(s); now.ResourceVersion != s.ResourceVersion {
			w.t.Errorf("%s was touched: %+v", s.Name, now)
		}
	}
	w.untilServed(w.rack.VIP4(80), "tcp 80", -1)
}
