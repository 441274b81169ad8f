package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
	"fairlead/xdp/decap"
)

// healthPort is what health checks ask where they do not ask the service's own.
const healthPort = 9000

// checkOf is a quick health check.
func checkOf(kind string, more ...string) string {
	return fmt.Sprintf("[pool.health]\ntype = %q\ninterval = \"500ms\"\ntimeout = \"500ms\"\nrise = 2\nfall = 3\n", kind) + strings.Join(more, "\n") + "\n"
}

// standing is what the checks of each backend of a service say, by name.
func (w *world) standing(s *api.Status, service string) map[string]api.Backend {
	for i := range s.Services {
		if s.Services[i].Name != service {
			continue
		}
		found := map[string]api.Backend{}
		for _, b := range s.Services[i].Backends {
			found[b.Name] = b
		}
		return found
	}
	return nil
}

// untilHealth waits until the checks of a service's backends say what they are
// to, by name: up, down or unknown.
func (w *world) untilHealth(service string, want map[string]string) map[string]api.Backend {
	w.t.Helper()
	var last map[string]api.Backend
	err := w.node.Until(w.ctx, func(s *api.Status) bool {
		last = w.standing(s, service)
		for name, state := range want {
			if b := last[name]; b.Health == nil || b.Health.State != state {
				return false
			}
		}
		return len(last) > 0
	})
	if err != nil {
		for name, b := range last {
			w.t.Logf("%s: %s is %+v", service, name, b.Health)
		}
		w.t.Fatalf("%s: waited in vain for %v: %v", service, want, err)
	}
	return last
}

// gate is a TCP port that health checks ask, and that can be shut.
type gate struct {
	w    *world
	host *lab.Host
	ln   net.Listener
}

func (w *world) openGate(b *lab.Node) *gate {
	w.t.Helper()
	g := &gate{w: w, host: b.Host}
	g.open()
	w.t.Cleanup(g.shut)
	return g
}

func (g *gate) open() {
	g.w.t.Helper()
	ln, err := g.host.Listen("tcp", fmt.Sprintf(":%d", healthPort))
	g.w.must(err)
	g.ln = ln
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
}

func (g *gate) shut() { g.ln.Close() }

// TestHealth has a backend fail its checks and recover, under live connections:
// they end as their service says, new ones avoid it, and when it is alive again
// its share grows.
func TestHealth(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	reset, silent, tunneled := w.addSite(nat4), w.addSite(nat6), w.addSite(ipip4)
	for _, s := range w.sites {
		s.options = "on_backend_gone = \"reset\""
		s.health = "slow_start = \"1s\"\n" + checkOf("tcp", fmt.Sprintf("port = %d", healthPort))
	}
	silent.options = "on_backend_gone = \"drop\""
	w.serve()
	var gates []*gate
	for _, b := range w.topo.Backends {
		gates = append(gates, w.openGate(b))
	}
	w.start()
	all := map[string]string{"b1": "up", "b2": "up", "b3": "up"}
	for _, s := range w.sites {
		for name, b := range w.untilHealth(s.service(streamPort), all) {
			if b.Health.LatencyUS <= 0 || b.Health.Since.IsZero() || b.Health.Checks == 0 || b.Health.Error != "" {
				t.Errorf("%s: %+v", name, b.Health)
			}
		}
	}
	p := w.ping(18, reset, silent, tunneled)
	gone := "b2"
	if n := p.servers()[gone]; n == 0 {
		t.Fatalf("no connection went to %s: %v", gone, p.servers())
	}
	gates[1].shut()
	for _, s := range w.sites {
		if b := w.untilHealth(s.service(streamPort), map[string]string{"b1": "up", "b2": "down", "b3": "up"})[gone]; b.State != "down" || b.Expected != 0 || b.Health.Error != "connection refused" {
			t.Errorf("%s: %+v, %+v", s.method, b, b.Health)
		}
		w.untilHealth(s.service(webPort), map[string]string{"b1": "up", "b2": "down", "b3": "up"}) // each pool is checked by itself
	}
	stay, resets := &pingers{w: w}, 0
	var stuck []*traffic.Pinger
	for i, one := range p.all {
		switch {
		case one.Server() != gone:
			stay.all = append(stay.all, one)
		case p.sites[i] == silent:
			stuck = append(stuck, one)
		default:
			resets++
			select {
			case <-one.Broken():
			case <-w.ctx.Done():
				t.Fatal("a connection of the dead backend has not been reset")
			}
			if _, err := one.Stop(w.ctx); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("a connection of the dead backend ended with %v, want a reset", err)
			}
		}
	}
	stay.await(2)
	for _, s := range w.sites {
		s.members = members(w.topo.Backends[0], w.topo.Backends[2])
		w.onlyTo(s, w.http(s, 60), "with "+gone+" dead")
	}

	gates[1].open()
	for _, s := range w.sites {
		w.untilHealth(s.service(streamPort), all)
		w.untilHealth(s.service(webPort), all)
	}
	// Its share grows to what it was.
	for _, s := range w.sites {
		w.must(w.node.Until(w.ctx, func(status *api.Status) bool {
			return w.standing(status, s.service(streamPort))[gone].Expected > 0.3 && w.standing(status, s.service(webPort))[gone].Expected > 0.3
		}))
		s.members = members(w.topo.Backends...)
		w.onlyTo(s, w.http(s, 60), "with "+gone+" alive again")
	}
	stay.stop()
	ctx, cancel := context.WithCancel(w.ctx)
	cancel() // their last words would never be answered
	for _, one := range stuck {
		if _, err := one.Stop(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a connection that was to be dropped without a word ended: %v", err)
		}
	}
	t.Logf("%d connections were reset, %d dropped, %d went on", resets, len(stuck), len(stay.all))
	w.balance("backend_gone", "tcp_not_syn", "flow_not_found")
	w.must(w.node.Stop())
}

// TestHealthThroughTunnel: checks of backends whose clients' packets come by a
// tunnel, or by another Ethernet address alone, take the same way. So a backend
// is dead whose server answers well, and that does not decapsulate, or does not
// have the VIP.
func TestHealthThroughTunnel(t *testing.T) {
	t.Parallel()
	for _, m := range []method{
		ipip4, ipip6, {"ipip", false, true}, {"ipip", true, false},
		gue4, gue6, {"gue", false, true}, {"gue", true, false}, direct4, direct6,
	} {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldConfig{})
			through, straight := w.addSite(m), w.addSite(m)
			through.health = checkOf("tcp", fmt.Sprintf("port = %d", webPort))
			straight.health = through.health + "path = \"direct\""
			good, second, third := w.topo.Backends[0], w.topo.Backends[1], w.topo.Backends[2]
			vips := []netip.Addr{through.vip, straight.vip}
			decapsulate := func(b *lab.Node) {
				if m.tunnel() {
					_, err := rig.Decapsulate(b, decap.Config{VIPs: vips, LoadBalancers: []netip.Prefix{
						netip.PrefixFrom(w.config.Tunnel4, 32), netip.PrefixFrom(w.config.Tunnel6, 128)}})
					w.must(err)
				}
			}
			w.must(rig.Own(good, vips...))
			decapsulate(good)
			if m.tunnel() {
				w.must(rig.Own(second, vips...)) // and it does not decapsulate
			}
			decapsulate(third) // and it does not have the VIP
			for _, b := range w.topo.Backends {
				_, err := traffic.ServeHTTP(b.Host, fmt.Sprintf(":%d", webPort))
				w.must(err)
				_, err = traffic.ServeStream(b.Host, fmt.Sprintf(":%d", streamPort))
				w.must(err)
			}
			w.start()
			found := w.untilHealth(through.service(webPort), map[string]string{"b1": "up", "b2": "down", "b3": "down"})
			for _, name := range []string{"b2", "b3"} {
				if why := found[name].Health.Error; why != "no connection in time" && why != "connection refused" && why != "no route to host" {
					t.Errorf("%s: %q", name, why)
				}
			}
			w.untilHealth(straight.service(webPort), map[string]string{"b1": "up", "b2": "up", "b3": "up"})
			through.members = members(good)
			w.onlyTo(through, w.http(through, 30), "with one good backend")

			// What was missing is added, and they are alive.
			if m.tunnel() {
				decapsulate(second)
			} else {
				w.must(rig.Own(second, vips...))
			}
			w.must(rig.Own(third, vips...))
			w.untilHealth(through.service(webPort), map[string]string{"b1": "up", "b2": "up", "b3": "up"})
			through.members = members(w.topo.Backends...)
			w.onlyTo(through, w.http(through, 60), "with all of them good")
			w.balance()
			w.must(w.node.Stop())
			w.noTraces()
		})
	}
}

// noTraces demands that nothing of checks through tunnels is left on the node's
// host.
func (w *world) noTraces() {
	w.t.Helper()
	handle := w.topo.LB.Netlink()
	w.until("the device is gone", func() bool {
		links, err := handle.LinkList()
		w.must(err)
		for _, l := range links {
			if strings.HasPrefix(l.Attrs().Name, "fl-check") {
				return false
			}
		}
		return true
	})
	if n := w.marks(); n != 0 {
		w.t.Errorf("%d routing rules are left", n)
	}
}

// marks counts the routing rules for marked packets on the node's host.
func (w *world) marks() (n int) {
	w.t.Helper()
	rules, err := w.topo.LB.Netlink().RuleList(0)
	w.must(err)
	for _, r := range rules {
		if r.Mark != 0 {
			n++
		}
	}
	return n
}

// TestHealthAfterKill: what checks through tunnels need is there again after the
// control process was killed, and when others have removed it, and nothing of it
// stays.
func TestHealthAfterKill(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	s := w.addSite(gue4)
	s.health = checkOf("tcp", fmt.Sprintf("port = %d", webPort))
	w.serve()
	w.start()
	all := map[string]string{"b1": "up", "b2": "up", "b3": "up"}
	w.untilHealth(s.service(webPort), all)
	if n := w.marks(); n != 2 {
		t.Errorf("%d routing rules, want one for each family", n)
	}
	w.must(w.node.Process().Kill())
	<-w.node.Process().Done()
	if n := w.marks(); n != 2 {
		t.Errorf("after the kill there are %d routing rules; the test shows nothing", n)
	}
	w.must(w.node.Launch(w.ctx))
	w.untilHealth(s.service(webPort), all)
	if n := w.marks(); n != 2 {
		t.Errorf("%d routing rules, want one for each family", n)
	}
	rules, err := w.topo.LB.Netlink().RuleList(0)
	w.must(err)
	for i := range rules {
		if rules[i].Mark != 0 {
			w.must(w.topo.LB.Netlink().RuleDel(&rules[i]))
		}
	}
	w.until("the rules are back", func() bool { return w.marks() == 2 })
	w.untilHealth(s.service(webPort), all)

	// Without such checks there is nothing to keep.
	w.must(w.node.Process().Kill())
	<-w.node.Process().Done()
	w.must(w.node.Write(strings.ReplaceAll(w.text(), s.health, "")))
	w.must(w.node.Launch(w.ctx))
	w.noTraces()
	w.must(w.node.Stop())
}

// TestHealthOfOwnVIP: a VIP that is an address of the node's host itself cannot
// be checked through a tunnel. What answers there, or refuses, is the node, and
// nothing follows from it for backends.
func TestHealthOfOwnVIP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	served, refused := w.addSite(ipip4), w.addSite(gue6)
	for _, s := range w.sites {
		s.health = checkOf("tcp", fmt.Sprintf("port = %d", webPort))
		lo, err := w.topo.LB.Netlink().LinkByName("lo")
		w.must(err)
		bits := 32
		if s.vip6 {
			bits = 128
		}
		w.must(w.topo.LB.Netlink().AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: s.vip.AsSlice(), Mask: net.CIDRMask(bits, bits)}, Flags: unix.IFA_F_NODAD}))
	}
	ln, err := w.topo.LB.Listen("tcp", served.at(webPort).String())
	w.must(err)
	t.Cleanup(func() { ln.Close() })
	go accept(ln) //nolint:errcheck // until it is closed
	w.start()
	for _, s := range []*site{served, refused} {
		w.must(w.node.Until(w.ctx, func(status *api.Status) bool {
			b := w.standing(status, s.service(webPort))["b1"]
			return b.Health != nil && b.Health.Error != ""
		}))
		for name, b := range w.standing(w.status(), s.service(webPort)) {
			want := "cannot be checked: nothing of the check came into the tunnel: the VIP may be an address of this node itself"
			if b.Health.State != "unknown" || b.Health.Error != "" && b.Health.Error != want || b.Expected == 0 {
				t.Errorf("%s: %s is %+v of %+v", s.method, name, b.Health, b)
			}
		}
	}
	w.must(w.node.Stop())
}

// TestHealthPanic: with fewer backends alive than the threshold says, all are
// used.
func TestHealthPanic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	s := w.addSite(nat4)
	s.health = "panic_threshold = 50\n" + checkOf("tcp", fmt.Sprintf("port = %d", healthPort))
	w.serve()
	var gates []*gate
	for _, b := range w.topo.Backends {
		gates = append(gates, w.openGate(b))
	}
	w.start()
	w.untilHealth(s.service(webPort), map[string]string{"b1": "up", "b2": "up", "b3": "up"})
	gates[0].shut()
	w.untilHealth(s.service(webPort), map[string]string{"b1": "down", "b2": "up", "b3": "up"})
	s.members = members(w.topo.Backends[1:]...)
	w.onlyTo(s, w.http(s, 60), "with two of three alive")
	gates[1].shut()
	w.untilHealth(s.service(webPort), map[string]string{"b1": "down", "b2": "down", "b3": "up"})
	s.members = members(w.topo.Backends...)
	w.onlyTo(s, w.http(s, 60), "with one of three alive")
	gates[0].open()
	w.untilHealth(s.service(webPort), map[string]string{"b1": "up", "b2": "down", "b3": "up"})
	s.members = members(w.topo.Backends[0], w.topo.Backends[2])
	w.onlyTo(s, w.http(s, 60), "with two of three alive again")
	w.balance()
	w.must(w.node.Stop())
}

// TestHealthTypes checks backends in every way there is, straight and through a
// tunnel: one that has the servers, and one that has none.
func TestHealthTypes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{lab: lab.Config{Backends: 2}})
	good, bad := w.topo.Backends[0], w.topo.Backends[1]
	vip := w.topo.VIP4(9)
	w.must(bad.Sysctl("net.ipv4.icmp_ratelimit", "0")) // it says of each datagram that the port is closed
	w.must(rig.Own(good, vip))
	_, err := rig.Decapsulate(good, decap.Config{VIPs: []netip.Addr{vip}, LoadBalancers: []netip.Prefix{netip.PrefixFrom(w.config.Tunnel4, 32)}})
	w.must(err)
	kinds := []struct {
		kind, more string
		serve      func(at netip.Addr, port int)
		alone      bool // not through a tunnel
	}{
		{kind: "tcp", serve: func(at netip.Addr, port int) {
			w.listen(good, at, port, func(ln net.Listener) error { return accept(ln) })
		}},
		{kind: "http", more: "http = { path = \"/healthz\", body = \"^fine$\", host = \"www.example.com\" }", serve: func(at netip.Addr, port int) {
			w.listen(good, at, port, func(ln net.Listener) error { return (&http.Server{Handler: fine()}).Serve(ln) })
		}},
		{kind: "https", more: "http = { path = \"/healthz\", body = \"^fine$\", host = \"www.example.com\" }", serve: func(at netip.Addr, port int) {
			w.listen(good, at, port, func(ln net.Listener) error { return serveTLS(t, ln) })
		}},
		{kind: "tls", serve: func(at netip.Addr, port int) {
			w.listen(good, at, port, func(ln net.Listener) error { return serveTLS(t, ln) })
		}},
		{kind: "grpc", serve: func(at netip.Addr, port int) {
			s := grpc.NewServer()
			healthpb.RegisterHealthServer(s, grpchealth.NewServer())
			w.listen(good, at, port, s.Serve)
			t.Cleanup(s.Stop)
		}},
		{kind: "udp", more: "udp = { send = \"ping\", expect = \"" + good.Name + "\" }", serve: func(at netip.Addr, port int) {
			_, err := traffic.ServeUDP(good.Host, netip.AddrPortFrom(at, uint16(port)).String())
			w.must(err)
		}},
		{kind: "dns", more: "dns = { name = \"health.example\", type = \"A\", rcode = \"NXDOMAIN\" }", serve: func(at netip.Addr, port int) {
			conn, err := good.ListenPacket("udp", netip.AddrPortFrom(at, uint16(port)).String())
			w.must(err)
			s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(out dns.ResponseWriter, q *dns.Msg) {
				out.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeNameError)) //nolint:errcheck // who asked will notice
			})}
			done := make(chan error, 1)
			go func() { done <- s.ActivateAndServe() }()
			t.Cleanup(func() {
				conn.Close()
				<-done
			})
		}},
		{kind: "icmp", serve: func(netip.Addr, int) {}},
		{kind: "exec", more: fmt.Sprintf("exec.command = [ \"/bin/sh\", \"-c\", \"test $FAIRLEAD_BACKEND_ADDRESS = %s -a -n $FAIRLEAD_POOL\" ]", good.IPv4), serve: func(netip.Addr, int) {}, alone: true},
	}
	c := w.config
	for i, k := range kinds {
		port := 9100 + i
		k.serve(good.IPv4, port)
		straight := rig.Pool{Name: "straight-" + k.kind, Options: checkOf(k.kind, k.more), Backends: []rig.Backend{
			{Address: good.IPv4, Port: uint16(port), Weight: 1, Name: "good"}, {Address: bad.IPv4, Port: uint16(port), Weight: 1, Name: "bad"}}}
		c.Pools = append(c.Pools, straight)
		c.Services = append(c.Services, rig.Service{Name: straight.Name, VIP: w.topo.VIP4(8), Protocol: "tcp", Port: uint16(port), Pool: straight.Name, Method: "nat"})
		if k.alone {
			continue
		}
		k.serve(vip, port)
		tunnel := rig.Pool{Name: "tunnel-" + k.kind, Options: checkOf(k.kind, k.more), Backends: []rig.Backend{
			{Address: good.IPv4, Weight: 1, Name: "good"}, {Address: bad.IPv4, Weight: 1, Name: "bad"}}}
		c.Pools = append(c.Pools, tunnel)
		c.Services = append(c.Services, rig.Service{Name: tunnel.Name, VIP: vip, Protocol: "tcp", Port: uint16(port), Pool: tunnel.Name, Method: "ipip"})
	}
	// A closed port says so to those who ask there; through the tunnel there is
	// nobody who could.
	node, err := rig.Start(w.ctx, binary, t.TempDir(), w.topo.LB, c.Text())
	w.node = node
	w.must(err)
	for _, k := range kinds {
		wrong := "down"
		if k.kind == "icmp" {
			wrong = "up" // every host answers
		}
		found := w.untilHealth("straight-"+k.kind, map[string]string{"good": "up", "bad": wrong})
		if why := found["bad"].Health.Error; wrong == "down" && k.kind != "exec" && why != "connection refused" {
			t.Errorf("straight %s: %q", k.kind, why)
		}
		if !k.alone {
			found := w.untilHealth("tunnel-"+k.kind, map[string]string{"good": "up", "bad": "down"})
			if why := found["bad"].Health.Error; !strings.HasSuffix(why, " in time") {
				t.Errorf("through the tunnel %s: %q", k.kind, why)
			}
		}
	}
	w.must(w.node.Stop())
	w.noTraces()
}

// listen runs a server on a backend until the test ends.
func (w *world) listen(b *lab.Node, at netip.Addr, port int, serve func(net.Listener) error) {
	w.t.Helper()
	ln, err := b.Listen("tcp", netip.AddrPortFrom(at, uint16(port)).String())
	w.must(err)
	done := make(chan error, 1)
	go func() { done <- serve(ln) }()
	w.t.Cleanup(func() {
		ln.Close()
		<-done
	})
}

func accept(ln net.Listener) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		conn.Close()
	}
}

// fine answers a health check, and only for its host.
func fine() http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if r.Host != "www.example.com" || r.URL.Path != "/healthz" {
			out.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprint(out, "fine")
	})
}

// serveTLS is an HTTPS server with a certificate of nobody's.
func serveTLS(t *testing.T, ln net.Listener) error {
	pattern := httptest.NewTLSServer(http.NotFoundHandler())
	defer pattern.Close()
	s := &http.Server{Handler: fine(), TLSConfig: pattern.TLS.Clone()}
	return s.ServeTLS(ln, "", "")
}
