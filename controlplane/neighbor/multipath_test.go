package neighbor_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/controlplane/model"
	"fairlead/controlplane/neighbor"
	"fairlead/perf/lab"
)

// addresses are n addresses from first on.
func addresses(first string, n int) (all []netip.Addr) {
	for a := netip.MustParseAddr(first); len(all) < n; a = a.Next() {
		all = append(all, a)
	}
	return all
}

// multipath routes a prefix by backends, with weights.
func (r *rig) multipath(dst string, weights map[int]int) {
	r.t.Helper()
	route := &netlink.Route{Dst: prefix(dst)}
	for _, i := range slices.Sorted(maps.Keys(weights)) {
		gateway := r.Backends[i].IPv4
		if route.Dst.IP.To4() == nil {
			gateway = r.Backends[i].IPv6
		}
		route.MultiPath = append(route.MultiPath, &netlink.NexthopInfo{LinkIndex: r.Back.Interface.Index, Gw: gateway.AsSlice(), Hops: weights[i] - 1})
	}
	r.must(r.LB.Netlink().RouteReplace(route))
}

// users counts the targets that go by each backend, and which those are.
func (r *rig) users(o *model.Observations, targets []netip.Addr) (count map[string]int, by map[netip.Addr]string) {
	r.t.Helper()
	count, by = map[string]int{}, map[netip.Addr]string{}
	for _, a := range targets {
		name := "none"
		for _, b := range r.Backends {
			if o.NextHops[a] == r.behind(b.Interface) {
				name = b.Name
			}
		}
		count[name]++
		by[a] = name
	}
	return count, by
}

// TestMultipath spreads targets over the ways of a route by their weights, in
// both families and with a group of next hops.
func TestMultipath(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 2})
	r.multipath("192.0.2.0/24", map[int]int{0: 3, 1: 1})
	r.multipath("2001:db8:ffff::/48", map[int]int{0: 1, 1: 1})
	targets4, targets6 := addresses("192.0.2.0", 256), addresses("2001:db8:ffff::1", 256)
	r.watch(neighbor.Config{Interfaces: r.both(), Targets: append(targets6, targets4...), Settle: patience})
	o := r.until("first view", func(*model.Observations) bool { return true })
	n, _ := r.users(o, targets4)
	if n["b1"]+n["b2"] != 256 || n["b1"] < 160 || n["b1"] > 224 {
		t.Errorf("with weights of 3 and 1: %v", n)
	}
	n, _ = r.users(o, targets6)
	if n["b1"]+n["b2"] != 256 || n["b1"] < 96 || n["b1"] > 160 {
		t.Errorf("with equal weights: %v", n)
	}
}

// TestNextHopGroup follows a route by a group of next hops, whose ways change
// without the route.
func TestNextHopGroup(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 3})
	for i, b := range r.Backends {
		r.ip("nexthop", "add", "id", string(rune('1'+i)), "via", b.IPv4.String(), "dev", r.Back.Interface.Name)
	}
	r.ip("nexthop", "add", "id", "10", "group", "1/2")
	r.ip("route", "add", "192.0.2.0/24", "nhid", "10")
	targets := addresses("192.0.2.0", 64)
	r.watch(neighbor.Config{Interfaces: r.both(), Targets: targets, Settle: patience})
	over := func(names ...string) func(*model.Observations) bool {
		return func(o *model.Observations) bool {
			n, _ := r.users(o, targets)
			return slices.Equal(slices.Sorted(maps.Keys(n)), names)
		}
	}
	r.until("over the first two", over("b1", "b2"))
	r.ip("nexthop", "replace", "id", "10", "group", "2/3")
	r.until("over the last two", over("b2", "b3"))
	r.ip("nexthop", "replace", "id", "10", "group", "3")
	r.until("over the last", over("b3"))
}

// TestMultipathLoss takes the gateways of a route away and brings them back:
// what went by one that does not answer goes by the others, and nothing else
// moves; when all are gone, the last addresses stay in use.
func TestMultipathLoss(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Config{Backends: 3})
	r.hurry()
	r.multipath("192.0.2.0/24", map[int]int{0: 1, 1: 1, 2: 1})
	targets := addresses("192.0.2.0", 90)
	w := r.watch(neighbor.Config{Interfaces: r.both(), Targets: targets, Settle: patience})
	_, before := r.users(r.until("first view", func(*model.Observations) bool { return true }), targets)
	r.must(r.Backends[0].Interface.SetDown())
	o := r.until("nobody goes by the first", func(o *model.Observations) bool {
		n, _ := r.users(o, targets)
		return n["b1"] == 0 && n["none"] == 0
	})
	_, after := r.users(o, targets)
	for a, name := range before {
		if name != "b1" && after[a] != name {
			t.Errorf("%s went by %s, which is there, and goes by %s", a, name, after[a])
		}
	}
	ways, err := w.Ways(t.Context())
	r.must(err)
	lost := 0
	for _, way := range ways {
		if len(way.Hops) != 3 || way.Hops[0].Lost || !way.Hops[0].Resolved {
			t.Fatalf("%+v", way)
		}
		for _, h := range way.Hops[1:] {
			if h.Lost {
				lost++
				if h.Address != r.Backends[0].IPv4 || h.Interface != r.Back.Interface.Name {
					t.Errorf("lost is %+v", h)
				}
			}
		}
	}
	if lost != len(targets) {
		t.Errorf("the lost hop is among those of %d targets, want %d", lost, len(targets))
	}
	r.must(r.Backends[0].Interface.SetUp())
	r.until("everybody is back", func(o *model.Observations) bool {
		_, now := r.users(o, targets)
		return maps.Equal(now, before)
	})
	for _, b := range r.Backends {
		r.must(b.Interface.SetDown())
	}
	r.untilTrue("all are known to be lost", func() bool {
		ways, err := w.Ways(t.Context())
		r.must(err)
		return !slices.ContainsFunc(ways, func(w neighbor.Way) bool {
			return slices.ContainsFunc(w.Hops, func(h neighbor.Hop) bool { return !h.Lost })
		})
	})
	if n, _ := r.users(r.last(), targets); n["none"] != 0 {
		t.Errorf("without any gateway left, targets have lost their address: %v", n)
	}
}

// TestLostSoon has, in both families, a gateway that others stand beside found lost with the
// kernel's own timers, which by themselves would take half a minute, and asserts
// that it stays one that the kernel keeps resolved.
func TestLostSoon(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Config{Backends: 2})
	r.multipath("192.0.2.0/24", map[int]int{0: 1, 1: 1})
	r.multipath("2001:db8:ffff::/48", map[int]int{0: 1, 1: 1})
	targets := append(addresses("192.0.2.0", 20), addresses("2001:db8:ffff::1", 20)...)
	r.watch(neighbor.Config{Interfaces: r.both(), Targets: targets, Settle: patience})
	r.until("first view", func(*model.Observations) bool { return true })
	r.must(r.Backends[0].Interface.SetDown())
	r.until("nobody goes by the first", func(o *model.Observations) bool {
		n, _ := r.users(o, targets)
		return n["b2"] == len(targets)
	})
	const managed = 1 // NTF_EXT_MANAGED
	for _, b := range r.Backends {
		r.untilTrue("the entry is kept resolved", func() bool { n := r.entry(b.IPv4); return n != nil && n.FlagsExt&managed != 0 })
	}
}

// TestMultipathOverTwoInterfaces leaves an interface that carries nothing, and
// one that is none of ours.
func TestMultipathOverTwoInterfaces(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Config{Backends: 1})
	other, _, err := r.Cable(r.LB, "eth7", r.Client.Host, "eth7", lab.LinkConfig{})
	r.must(err)
	r.must(other.AddAddress(netip.MustParsePrefix("203.0.113.1/24")))
	r.must(r.LB.Netlink().RouteReplace(&netlink.Route{Dst: prefix("192.0.2.0/24"), MultiPath: []*netlink.NexthopInfo{
		{LinkIndex: other.Index, Gw: net.IPv4(203, 0, 113, 2)},
		{LinkIndex: r.Front.Interface.Index, Gw: r.Client.IPv4.AsSlice()},
		{LinkIndex: r.Back.Interface.Index, Gw: r.Backends[0].IPv4.AsSlice()},
	}}))
	targets := addresses("192.0.2.0", 64)
	r.watch(neighbor.Config{Interfaces: r.both(), Targets: targets, Settle: patience})
	front := model.NextHop{Interface: r.Front.Interface.Name, MAC: [6]byte(r.Client.Interface.MAC), Resolved: true}
	count := func(o *model.Observations) (byFront, byBack, else_ int) {
		for _, a := range targets {
			switch o.NextHops[a] {
			case front:
				byFront++
			case r.behind(r.Backends[0].Interface):
				byBack++
			default:
				else_++
			}
		}
		return byFront, byBack, else_
	}
	r.until("over both of ours", func(o *model.Observations) bool { f, b, e := count(o); return f > 16 && b > 16 && e == 0 })
	r.must(r.Front.Interface.Peer.SetDown())
	r.until("over the one that carries", func(o *model.Observations) bool { f, b, e := count(o); return f == 0 && b == 64 && e == 0 })
	r.must(r.Front.Interface.Peer.SetUp())
	r.until("over both again", func(o *model.Observations) bool { f, b, e := count(o); return f > 16 && b > 16 && e == 0 })
}

// TestOddRoutes asserts what becomes of targets whose routes forbid, lie in
// another table, or lead to a neighbour that was set by hand.
func TestOddRoutes(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 2})
	b1, b2 := r.Backends[0], r.Backends[1]
	for i, kind := range []int{unix.RTN_UNREACHABLE, unix.RTN_BLACKHOLE, unix.RTN_PROHIBIT, unix.RTN_THROW} {
		r.must(r.LB.Netlink().RouteAdd(&netlink.Route{Dst: prefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32).String()), Type: kind}))
		r.must(r.LB.Netlink().RouteAdd(&netlink.Route{Dst: prefix("2001:db8:ffff::" + string(rune('0'+i)) + "/128"), Type: kind}))
	}
	ruled, local := netip.MustParseAddr("203.0.113.7"), r.Front.IPv4
	r.ip("rule", "add", "to", "203.0.113.0/24", "lookup", "77")
	r.ip("route", "add", "203.0.113.0/24", "via", b2.IPv4.String(), "table", "77")
	onlink, byHand := netip.MustParseAddr("203.0.114.7"), netip.MustParseAddr("203.0.115.7")
	r.ip("route", "add", "203.0.114.0/24", "via", "203.0.114.254", "dev", r.Back.Interface.Name, "onlink")
	r.ip("neigh", "add", "203.0.114.254", "lladdr", "02:00:00:00:0e:01", "dev", r.Back.Interface.Name, "nud", "permanent")
	r.ip("route", "add", "203.0.115.0/24", "dev", r.Back.Interface.Name)
	r.ip("neigh", "add", byHand.String(), "lladdr", "02:00:00:00:0e:02", "dev", r.Back.Interface.Name, "nud", "noarp")
	forbidden := append(addresses("192.0.2.0", 4), addresses("2001:db8:ffff::0", 4)...)
	w := r.watch(neighbor.Config{Interfaces: r.both(), Targets: append(forbidden, ruled, local, onlink, byHand, b1.IPv4), Settle: patience})
	r.untilHop(ruled, r.behind(b2.Interface))
	r.untilHop(onlink, model.NextHop{Interface: r.Back.Interface.Name, MAC: [6]byte(hardware("02:00:00:00:0e:01")), Resolved: true})
	r.untilHop(byHand, model.NextHop{Interface: r.Back.Interface.Name, MAC: [6]byte(hardware("02:00:00:00:0e:02")), Resolved: true})
	r.untilHop(local, model.NextHop{Interface: "lo"})
	for _, a := range forbidden {
		r.untilNoHop(a)
	}
	ways, err := w.Ways(t.Context())
	r.must(err)
	states := map[netip.Addr]string{onlink: "permanent", byHand: "noarp", b1.IPv4: "reachable"}
	for _, way := range ways {
		if want := states[way.Target]; want != "" && (len(way.Hops) != 1 || way.Hops[0].State != want || way.Hops[0].Since.IsZero()) {
			t.Errorf("%+v, want %s", way, want)
		}
		if way.Target == local && (len(way.Hops) != 0 || way.Outside != "lo") {
			t.Errorf("our own address: %+v", way)
		}
	}
	if len(ways) != len(forbidden)+5 || !slices.IsSortedFunc(ways, func(a, b neighbor.Way) int { return a.Target.Compare(b.Target) }) {
		t.Errorf("%d ways, want %d in order", len(ways), len(forbidden)+5)
	}
}

// TestWaysEnd asserts that nobody waits for an answer for ever.
func TestWaysEnd(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 1})
	w := r.watch(neighbor.Config{Interfaces: r.both()})
	r.must(w.Close())
	if _, err := w.Ways(t.Context()); err == nil || err.Error() != "the watcher of routes and neighbours has ended" {
		t.Errorf("after the end: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Ways(ctx); err == nil || !errors.Is(err, context.Canceled) && err.Error() != "the watcher of routes and neighbours has ended" {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// TestMakeBeforeBreak moves a route to gateways that nobody has spoken to: the
// old one is used until the new one's address is known, so that no view is
// without one; one that does not answer is given up, and with it the target.
func TestMakeBeforeBreak(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Config{Backends: 3})
	r.hurry()
	r.route("192.0.2.0/24", r.Backends[0].IPv4)
	w := r.watch(neighbor.Config{Interfaces: r.both(), Targets: []netip.Addr{far4}, Settle: patience})
	r.untilHop(far4, r.behind(r.Backends[0].Interface))
	for _, b := range r.Backends[1:] {
		r.route("192.0.2.0/24", b.IPv4)
		r.untilHop(far4, r.behind(b.Interface))
	}
	r.mu.Lock()
	for _, o := range r.views {
		if hop := o.NextHops[far4]; !hop.Resolved {
			t.Errorf("a view has %+v", hop)
		}
	}
	r.mu.Unlock()
	nobody := netip.MustParseAddr("198.18.10.200")
	r.route("192.0.2.0/24", nobody)
	interim := false
	r.until("there is no address any more", func(o *model.Observations) bool {
		ways, err := w.Ways(t.Context())
		r.must(err)
		hops := ways[0].Hops
		interim = interim || len(hops) == 2 && hops[0].Weight == 0 && hops[0].Address == r.Backends[2].IPv4 && hops[1].Address == nobody && !hops[1].Resolved
		return o.NextHops[far4] == model.NextHop{Interface: r.Back.Interface.Name}
	})
	ways, err := w.Ways(t.Context())
	r.must(err)
	if hops := ways[0].Hops; len(hops) != 1 || hops[0].Address != nobody || !hops[0].Lost || !interim {
		t.Errorf("in the end: %+v, interim %v", hops, interim)
	}
	r.route("192.0.2.0/24", r.Backends[0].IPv4)
	r.untilHop(far4, r.behind(r.Backends[0].Interface))
}
