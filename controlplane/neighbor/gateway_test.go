package neighbor_test

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/controlplane/model"
	"fairlead/controlplane/neighbor"
	"fairlead/perf/lab"
)

// Addresses that are not on the link.
var (
	far4 = netip.MustParseAddr("192.0.2.10")
	far6 = netip.MustParseAddr("2001:db8:ffff::10")
)

// TestGateway follows routes: a gateway that comes, changes, and goes, in both
// families.
func TestGateway(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 2})
	b1, b2 := r.Backends[0], r.Backends[1]
	r.watch(neighbor.Config{Interfaces: r.both(), Targets: []netip.Addr{far4, far6}})
	o := r.until("first view", func(*model.Observations) bool { return true })
	if len(o.NextHops) != 0 {
		t.Errorf("next hops without a route: %v", o.NextHops)
	}
	r.route("192.0.2.0/24", b1.IPv4)
	r.route("2001:db8:ffff::/48", b1.IPv6)
	r.untilHop(far4, r.behind(b1.Interface))
	r.untilHop(far6, r.behind(b1.Interface))

	r.route("192.0.2.0/24", b2.IPv4)
	r.untilHop(far4, r.behind(b2.Interface))
	r.untilHop(far6, r.behind(b1.Interface))
	// IPv6 routes of the same metric are all used; the more exact one wins.
	r.route("2001:db8:ffff::/64", b2.IPv6)
	r.untilHop(far6, r.behind(b2.Interface))

	r.must(r.LB.Netlink().RouteDel(r.routeTo("192.0.2.0/24", b2.IPv4)))
	r.untilNoHop(far4)
	r.must(r.LB.Netlink().RouteDel(r.routeTo("2001:db8:ffff::/64", b2.IPv6)))
	r.untilHop(far6, r.behind(b1.Interface))
}

// TestGatewayMAC shows that targets follow their gateway's MAC address.
func TestGatewayMAC(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 1})
	b := r.Backends[0]
	r.must(b.Sysctl("net.ipv4.conf.eth0.arp_notify", "1"))
	r.must(b.Sysctl("net.ipv6.conf.eth0.ndisc_notify", "1"))
	r.route("192.0.2.0/24", b.IPv4)
	r.route("2001:db8:ffff::/48", b.IPv6)
	r.watch(neighbor.Config{Interfaces: r.both(), Targets: []netip.Addr{far4, far6}})
	r.untilHop(far4, r.behind(b.Interface))
	r.untilHop(far6, r.behind(b.Interface))
	r.setMAC(b.Interface, [6]byte{0x02, 0xbb, 0, 0, 0, 1})
	r.untilHop(far4, r.behind(b.Interface))
	r.untilHop(far6, r.behind(b.Interface))
	if n := r.logged("neighbour has another MAC address", "address="+b.IPv4.String(), "mac=02:bb:00:00:00:01"); n != 1 {
		t.Errorf("the change was logged %d times", n)
	}
}

// TestGatewayOfOtherFamily finds IPv4 addresses behind an IPv6 gateway (RFC
// 5549), and IPv6 ones behind a link-local gateway, as routers announce it.
func TestGatewayOfOtherFamily(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 1})
	b := r.Backends[0]
	local := r.linkLocal(b.Interface)
	r.must(r.LB.Netlink().RouteReplace(&netlink.Route{Dst: prefix("192.0.2.0/24"), LinkIndex: r.Back.Interface.Index,
		Via: &netlink.Via{AddrFamily: unix.AF_INET6, Addr: local.AsSlice()}}))
	r.route("2001:db8:ffff::/48", local)
	r.watch(neighbor.Config{Interfaces: r.both(), Targets: []netip.Addr{far4, far6}})
	r.untilHop(far4, r.behind(b.Interface))
	r.untilHop(far6, r.behind(b.Interface))
}

// linkLocal is an interface's own IPv6 address.
func (r *rig) linkLocal(i *lab.Interface) (a netip.Addr) {
	r.t.Helper()
	r.untilTrue("a link-local address", func() bool {
		all, err := i.Host.Netlink().AddrList(r.link(i), unix.AF_INET6)
		r.must(err)
		for _, have := range all {
			if have.IP.IsLinkLocalUnicast() && have.Flags&unix.IFA_F_TENTATIVE == 0 {
				a, _ = netip.AddrFromSlice(have.IP)
				return true
			}
		}
		return false
	})
	return a
}

// TestConfiguredGateway stands in front of the routes of its family through its
// interface, serves addresses without a route, and is itself resolved.
func TestConfiguredGateway(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 2})
	b1, b2 := r.Backends[0], r.Backends[1]
	ports := r.both()
	ports[1].Gateway = b2.IPv4
	r.route("192.0.2.0/25", b1.IPv4)
	r.route("2001:db8:ffff::/48", b1.IPv6)
	without, forbidden := netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("203.0.113.200")
	r.must(r.LB.Netlink().RouteReplace(&netlink.Route{Dst: prefix("203.0.113.128/25"), Type: unix.RTN_UNREACHABLE}))
	r.watch(neighbor.Config{Interfaces: ports, Targets: []netip.Addr{far4, far6, without, forbidden, b1.IPv4}})
	for a, via := range map[netip.Addr]*lab.Node{far4: b2, without: b2, b2.IPv4: b2, far6: b1, b1.IPv4: b1} {
		r.untilHop(a, r.behind(via.Interface))
	}
	r.untilNoHop(forbidden)
	if got := r.last().Interfaces[1].Gateway; got != b2.IPv4 {
		t.Errorf("the interface's gateway is %v, want %v", got, b2.IPv4)
	}
}

// TestLinkLocalGateway is told apart by its zone: two interfaces may have the
// same one.
func TestLinkLocalGateway(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 1})
	b := r.Backends[0]
	local := r.linkLocal(b.Interface)
	ports := r.both()
	ports[0].Gateway, ports[1].Gateway = local, local
	r.watch(neighbor.Config{Interfaces: ports})
	r.untilHop(local.WithZone(r.Back.Interface.Name), r.behind(b.Interface))
	o := r.last()
	if got, want := o.Interfaces[1].Gateway, local.WithZone(r.Back.Interface.Name); got != want {
		t.Errorf("the interface's gateway is %v, want %v", got, want)
	}
	if got := o.NextHops[o.Interfaces[0].Gateway]; got.Resolved || got.Interface != r.Front.Interface.Name {
		t.Errorf("the gateway that is not on the first arm: %+v", got)
	}
}

// TestStatic shows that static next hops stand in front of everything: of a
// target, of a gateway, of what has no route. They are no business of the
// kernel's, and can be changed.
func TestStatic(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 2})
	b1, b2 := r.Backends[0], r.Backends[1]
	r.route("192.0.2.0/24", b2.IPv4)
	unrouted := netip.MustParseAddr("203.0.113.7")
	front, back := r.Front.Interface.Name, r.Back.Interface.Name
	statics := []neighbor.Static{
		{Address: b1.IPv4, MAC: [6]byte{2, 1}, Interface: front},
		{Address: b2.IPv4, MAC: [6]byte{2, 2}, Interface: back},
		{Address: unrouted, MAC: [6]byte{2, 3}, Interface: back},
	}
	targets := []netip.Addr{b1.IPv4, b1.IPv6, far4, unrouted}
	w := r.watch(neighbor.Config{Interfaces: r.both(), Static: statics, Targets: targets, Settle: patience})
	o := r.until("first view", func(*model.Observations) bool { return true })
	for a, want := range map[netip.Addr]model.NextHop{
		b1.IPv4:  {Interface: front, MAC: [6]byte{2, 1}, Resolved: true},
		b2.IPv4:  {Interface: back, MAC: [6]byte{2, 2}, Resolved: true},
		unrouted: {Interface: back, MAC: [6]byte{2, 3}, Resolved: true},
		far4:     {Interface: back, MAC: [6]byte{2, 2}, Resolved: true},
		b1.IPv6:  r.behind(b1.Interface),
	} {
		if o.NextHops[a] != want {
			t.Errorf("%s: %+v, want %+v", a, o.NextHops[a], want)
		}
	}
	for _, a := range []netip.Addr{b1.IPv4, b2.IPv4} {
		if n := r.entry(a); n != nil {
			t.Errorf("the kernel was asked for %s: %+v", a, n)
		}
	}

	ready, err := w.SetTargets(targets, []neighbor.Static{{Address: b1.IPv6, MAC: [6]byte{2, 6}, Interface: front}})
	r.must(err)
	<-ready
	o = r.last()
	for a, want := range map[netip.Addr]model.NextHop{
		b1.IPv4: r.behind(b1.Interface),
		far4:    r.behind(b2.Interface),
		b1.IPv6: {Interface: front, MAC: [6]byte{2, 6}, Resolved: true},
	} {
		if o.NextHops[a] != want {
			t.Errorf("afterwards, %s: %+v, want %+v", a, o.NextHops[a], want)
		}
	}
	if len(o.NextHops) != 3 {
		t.Errorf("next hops: %v, want three", o.NextHops)
	}

	_, err = w.SetTargets(nil, []neighbor.Static{{Address: b1.IPv6, Interface: "eth7"}})
	if want := "static next hop " + b1.IPv6.String() + " is behind eth7, which is none of the interfaces"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}
