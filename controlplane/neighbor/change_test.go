package neighbor_test

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"fairlead/controlplane/model"
	"fairlead/controlplane/neighbor"
	"fairlead/perf/lab"
)

// TestSilentNeighbor keeps the MAC address of a neighbour that no longer
// answers, says so once, and takes another one as soon as there is one.
func TestSilentNeighbor(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 1})
	r.hurry()
	b := r.Backends[0]
	r.watch(neighbor.Config{Interfaces: r.both(), Targets: r.backends()})
	before := r.behind(b.Interface)
	for _, a := range r.backends() {
		r.untilHop(a, before)
	}
	r.must(b.Interface.SetDown())
	for _, a := range r.backends() {
		r.send(a) // the kernel finds out when it has something to send
	}
	for _, a := range r.backends() {
		r.untilTrue("it is given up", func() bool {
			n := r.entry(a)
			return n != nil && n.State == netlink.NUD_FAILED
		})
		line := []string{"neighbour does not answer; its last MAC address stays in use", "address=" + a.String()}
		r.untilTrue("the log says so", func() bool { return r.logged(line...) == 1 })
		if got := r.last().NextHops[a]; got != before {
			t.Errorf("%s: %+v, want it to stay %+v", a, got, before)
		}
	}
	r.setMAC(b.Interface, [6]byte{0x02, 0xbb, 0, 0, 0, 1})
	r.must(b.Interface.SetUp())
	r.must(b.Interface.AddAddress(netip.PrefixFrom(b.IPv6, 64)))
	for _, a := range r.backends() {
		r.untilHop(a, r.behind(b.Interface))
	}
	if n := r.logged("neighbour does not answer"); n != 2 {
		t.Errorf("%d log lines about neighbours that do not answer, want one for each address", n)
	}
}

// send has the load balancer's kernel send something to an address.
func (r *rig) send(a netip.Addr) {
	r.t.Helper()
	c, err := r.LB.Dial(r.t.Context(), "udp", netip.AddrPortFrom(a, 9).String())
	r.must(err)
	defer c.Close()
	_, err = c.Write([]byte("anybody there?"))
	r.must(err)
}

// TestUnresolvable has no MAC address for a target that nobody answers for,
// until somebody does. Waiting for it ends when the kernel has given up.
func TestUnresolvable(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 1})
	r.hurry()
	b := r.Backends[0]
	absent := []netip.Addr{r.Back.Segment.Addr4(77), r.Back.Segment.Addr6(77)}
	w := r.watch(neighbor.Config{Interfaces: r.both(), Targets: absent})
	unresolved := model.NextHop{Interface: r.Back.Interface.Name}
	for _, a := range absent {
		r.untilHop(a, unresolved)
	}
	ready, err := w.SetTargets(append(absent, r.backends()...), nil)
	r.must(err)
	<-ready
	for _, a := range absent {
		if got := r.last().NextHops[a]; got != unresolved {
			t.Errorf("%s: %+v, want %+v", a, got, unresolved)
		}
		if n := r.logged("neighbour does not answer; its MAC address is not known", "address="+a.String()); n != 1 {
			t.Errorf("%s: logged %d times", a, n)
		}
	}
	for _, a := range r.backends() {
		if got, want := r.last().NextHops[a], r.behind(b.Interface); got != want {
			t.Errorf("%s: %+v, want %+v", a, got, want)
		}
	}
	for i, bits := range []int{24, 64} {
		r.must(b.Interface.AddAddress(netip.PrefixFrom(absent[i], bits)))
		r.untilHop(absent[i], r.behind(b.Interface))
		if n := r.logged("neighbour answers", "address="+absent[i].String()); n != 1 {
			t.Errorf("%s: that it answers was logged %d times", absent[i], n)
		}
	}
}

// TestForeignEntries lives with what others do to the kernel's neighbour table:
// entries that are deleted are made again, those set by hand are believed and
// left alone.
func TestForeignEntries(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 2})
	b1, b2 := r.Backends[0], r.Backends[1]
	byHand := func(a netip.Addr, mac string) *netlink.Neigh {
		return &netlink.Neigh{LinkIndex: r.Back.Interface.Index, IP: a.AsSlice(), State: netlink.NUD_PERMANENT, HardwareAddr: hardware(mac)}
	}
	r.must(r.LB.Netlink().NeighSet(byHand(b2.IPv4, "02:cc:00:00:00:01")))
	w := r.watch(neighbor.Config{Interfaces: r.both(), Targets: r.backends()})
	r.untilHop(b2.IPv4, model.NextHop{Interface: "eth1", MAC: [6]byte{2, 0xcc, 0, 0, 0, 1}, Resolved: true})

	for _, a := range []netip.Addr{b1.IPv4, b1.IPv6} {
		r.untilHop(a, r.behind(b1.Interface))
		r.must(r.LB.Netlink().NeighDel(&netlink.Neigh{LinkIndex: r.Back.Interface.Index, IP: a.AsSlice()}))
		r.untilTrue("the entry is there and managed again", func() bool {
			n := r.entry(a)
			return n != nil && n.HardwareAddr != nil && n.FlagsExt&netlink.NTF_EXT_MANAGED != 0
		})
		if got, want := r.last().NextHops[a], r.behind(b1.Interface); got != want {
			t.Errorf("%s: %+v, want %+v", a, got, want)
		}
	}
	r.must(r.LB.Netlink().NeighSet(byHand(b1.IPv6, "02:cc:00:00:00:02")))
	r.untilHop(b1.IPv6, model.NextHop{Interface: "eth1", MAC: [6]byte{2, 0xcc, 0, 0, 0, 2}, Resolved: true})
	r.must(r.LB.Netlink().NeighSet(byHand(b2.IPv4, "02:cc:00:00:00:03")))
	r.untilHop(b2.IPv4, model.NextHop{Interface: "eth1", MAC: [6]byte{2, 0xcc, 0, 0, 0, 3}, Resolved: true})

	r.must(w.Close())
	for _, a := range []netip.Addr{b1.IPv6, b2.IPv4} {
		if n := r.entry(a); n == nil || n.State != netlink.NUD_PERMANENT {
			t.Errorf("the entry of %s that was set by hand is now %+v", a, n)
		}
	}
}

// TestTargetsChange follows the set of targets.
func TestTargetsChange(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 2})
	b1, b2 := r.Backends[0], r.Backends[1]
	w := r.watch(neighbor.Config{Interfaces: r.both()})
	for _, targets := range [][]netip.Addr{
		{b1.IPv4}, {b1.IPv4, b2.IPv4, b2.IPv4}, {b2.IPv4, b1.IPv6}, nil, {b1.IPv4, {}},
	} {
		ready, err := w.SetTargets(targets, nil)
		r.must(err)
		want := map[netip.Addr]model.NextHop{}
		for i, a := range targets {
			if a.IsValid() {
				want[a] = r.behind(b1.Interface)
			}
			if a == b2.IPv4 {
				want[a] = r.behind(b2.Interface)
			}
			targets[i] = netip.Addr{} // the watcher has its own copy
		}
		<-ready
		if got := r.last().NextHops; !maps.Equal(got, want) {
			t.Errorf("next hops %v, want %v", got, want)
		}
	}
}
