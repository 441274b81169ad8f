package neighbor

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"fairlead/controlplane/model"
	"fairlead/perf/lab"
)

// farTargets are addresses behind a gateway.
func farTargets(t testing.TB, topo *lab.Topology, n int) (targets []netip.Addr, route *netlink.Route) {
	t.Helper()
	b := topo.Backends[0]
	route = &netlink.Route{Dst: &net.IPNet{IP: net.IPv4(10, 0, 0, 0), Mask: net.CIDRMask(8, 32)}, Gw: b.IPv4.AsSlice(), LinkIndex: topo.Back.Interface.Index}
	if err := topo.LB.Netlink().RouteReplace(route); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		targets = append(targets, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	return targets, route
}

// TestManyTargets follows a gateway of 20,000 targets, and has 2,000 neighbours
// resolved, more than the kernel's table holds of those it may forget.
func TestManyTargets(t *testing.T) {
	topo := newLab(t, lab.Config{Backends: 2})
	far, route := farTargets(t, topo, 20_000)
	b := topo.Backends[0]
	// The backend answers for a whole subnet.
	near := netip.MustParsePrefix("198.19.0.0/16")
	for h, gw := range map[*lab.Host]string{topo.LB: "198.19.0.1", b.Host: "198.19.255.254"} {
		link, err := h.Netlink().LinkByName(map[bool]string{true: "eth1", false: "eth0"}[h == topo.LB])
		if err != nil {
			t.Fatal(err)
		}
		addr := cidr(gw + "/16")
		if err := h.Netlink().AddrAdd(link, addr); err != nil {
			t.Fatal(err)
		}
	}
	lo, err := b.Netlink().LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Netlink().AddrAdd(lo, cidr("198.19.0.0/17")); err != nil { // all of it is local
		t.Fatal(err)
	}
	targets := far
	for a := near.Addr().Next().Next(); len(targets) < len(far)+2000; a = a.Next() {
		targets = append(targets, a)
	}
	views := make(chan *model.Observations, 10_000)
	w := watchIn(t, topo.LB, Config{Interfaces: []Interface{{Name: "eth1"}}}, func(o *model.Observations) { views <- o })
	last := func() (o *model.Observations) {
		for o = <-views; len(views) > 0; {
			o = <-views
		}
		return o
	}
	ready, err := w.SetTargets(targets, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-ready
	o := last()
	check := func(targets []netip.Addr, by *lab.Node) {
		t.Helper()
		want := model.NextHop{Interface: "eth1", MAC: [6]byte(by.Interface.MAC), Resolved: true}
		bad := 0
		for _, a := range targets {
			if o.NextHops[a] != want {
				if bad++; bad < 10 {
					t.Errorf("%s: %+v, want %+v", a, o.NextHops[a], want)
				}
			}
		}
	}
	check(targets, b)
	if len(o.NextHops) != len(targets) {
		t.Errorf("%d next hops for %d targets", len(o.NextHops), len(targets))
	}
	route.Gw = topo.Backends[1].IPv4.AsSlice()
	if err := topo.LB.Netlink().RouteReplace(route); err != nil {
		t.Fatal(err)
	}
	for want := [6]byte(topo.Backends[1].Interface.MAC); o.NextHops[far[0]].MAC != want; {
		o = <-views
	}
	check(far, topo.Backends[1])
	check(targets[len(far):], b)
}

// BenchmarkRouteLookup is the time to look up one route of many.
func BenchmarkRouteLookup(b *testing.B) {
	topo := newLab(b, lab.Config{Backends: 1})
	targets, _ := farTargets(b, topo, 10_000)
	c := dialIn(b, topo.LB)
	b.Run("batch", func(b *testing.B) {
		b.ReportAllocs()
		for done := 0; done < b.N; done += len(targets) {
			n := min(b.N-done, len(targets))
			found := 0
			err := c.batch(n, func(i int, e *encoder) { putLookup(e, targets[i], 0) }, func(_ int, m *message) {
				found += len(parseRoute(m).paths)
			})
			if err != nil || found != n {
				b.Fatal(found, err)
			}
		}
	})
	b.Run("netlink", func(b *testing.B) { // one by one, by the other implementation
		b.ReportAllocs()
		for i := range b.N {
			if _, err := topo.LB.Netlink().RouteGet(targets[i%len(targets)].AsSlice()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkEvaluate is the time to look up all of 100,000 targets after a change
// of routes and to make a view of them.
func BenchmarkEvaluate(b *testing.B) {
	topo := newLab(b, lab.Config{Backends: 2})
	targets, route := farTargets(b, topo, 100_000)
	r, err := newResolver(&Config{Interfaces: []Interface{{Name: "eth1"}}, Log: slog.New(slog.DiscardHandler)}, dialIn(b, topo.LB))
	if err != nil {
		b.Fatal(err)
	}
	work := func(set changeSet) {
		r.routeDue = time.Time{}
		if err := r.work(set, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	gateways := make(map[netip.Addr]static)
	for i, g := range topo.Backends {
		gateways[g.IPv4] = static{0, [6]byte{2, byte(i)}}
	}
	work(changeSet{everything: true, wanted: []*wanted{{targets: targets, statics: gateways, ready: make(chan struct{})}}})
	r.news(time.Now())
	for i := 0; b.Loop(); i++ {
		route.Gw = topo.Backends[(i+1)%2].IPv4.AsSlice()
		if err := topo.LB.Netlink().RouteReplace(route); err != nil {
			b.Fatal(err)
		}
		work(changeSet{routes: true})
		if view := r.news(time.Now()); view == nil || len(view.NextHops) != len(targets)+len(gateways) {
			b.Fatal("no view")
		}
	}
}
