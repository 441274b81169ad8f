package neighbor_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"fairlead/controlplane/model"
	"fairlead/controlplane/neighbor"
	"fairlead/perf/lab"
)

// TestInterfaceDownAndUp loses the ways through an interface that is down and
// finds them again.
func TestInterfaceDownAndUp(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 1})
	b := r.Backends[0]
	r.watch(neighbor.Config{Interfaces: r.both(), Targets: r.backends()})
	for range 2 {
		for _, a := range r.backends() {
			r.untilHop(a, r.behind(b.Interface))
		}
		r.must(r.Back.Interface.SetDown())
		for _, a := range r.backends() {
			r.untilNoHop(a)
		}
		r.must(r.Back.Interface.SetUp())
		r.must(r.Back.Interface.AddAddress(netip.PrefixFrom(r.Back.IPv6, 64)))
	}
}

// TestInterfaceReplaced deletes an interface and makes it anew. Its place among
// the observed ones stays, and with the route its neighbours are back.
func TestInterfaceReplaced(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 1})
	b := r.Backends[0]
	r.watch(neighbor.Config{Interfaces: r.both(), Targets: r.backends()})
	for _, a := range r.backends() {
		r.untilHop(a, r.behind(b.Interface))
	}
	before := *r.Back.Interface
	r.must(r.Back.Interface.Delete())
	o := r.until("the interface is gone", func(o *model.Observations) bool { return o.Interfaces[1].Index == 0 && len(o.NextHops) == 0 })
	want := []model.Interface{
		{Name: "eth0", Index: r.Front.Interface.Index, MAC: [6]byte(r.Front.Interface.MAC), MTU: 1500},
		{Name: "eth1", Index: 0, MAC: [6]byte(before.MAC), MTU: 1500},
	}
	if !slices.Equal(o.Interfaces, want) {
		t.Errorf("interfaces %+v, want %+v", o.Interfaces, want)
	}
	ifc, err := r.BackSwitch.Plug(r.LB, "eth1", lab.LinkConfig{MTU: 1400})
	r.must(err)
	r.Back.Interface = ifc
	r.must(ifc.AddAddress(netip.PrefixFrom(r.Back.IPv4, 24)))
	r.must(ifc.AddAddress(netip.PrefixFrom(r.Back.IPv6, 64)))
	for _, a := range r.backends() {
		o = r.untilHop(a, r.behind(b.Interface))
	}
	want[1] = model.Interface{Name: "eth1", Index: ifc.Index, MAC: [6]byte(ifc.MAC), MTU: 1400}
	if !slices.Equal(o.Interfaces, want) || ifc.Index == before.Index {
		t.Errorf("interfaces %+v, want %+v", o.Interfaces, want)
	}
	for text, want := range map[string]int{"interface is gone": 1, "interface is there": 2} {
		if n := r.logged(text, "interface=eth1"); n != want {
			t.Errorf("%q was logged %d times, want %d", text, n, want)
		}
	}
}

// TestInterfaceFacts follows address and MTU of an interface, but for what is
// configured.
func TestInterfaceFacts(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 1})
	ports := r.both()
	ports[0].MAC, ports[0].MTU = [6]byte{2, 0xee}, 1300
	ports = append(ports, neighbor.Interface{Name: "eth2", MAC: [6]byte{2, 0xff}, MTU: 9000})
	r.watch(neighbor.Config{Interfaces: ports})
	fact := func(i int, want model.Interface) {
		t.Helper()
		o := r.until(fmt.Sprintf("interface %d is %+v", i, want), func(o *model.Observations) bool { return o.Interfaces[i] == want })
		if len(o.Interfaces) != 3 {
			t.Errorf("%d interfaces", len(o.Interfaces))
		}
	}
	front, back := r.Front.Interface, r.Back.Interface
	fact(0, model.Interface{Name: "eth0", Index: front.Index, MAC: [6]byte{2, 0xee}, MTU: 1300})
	fact(1, model.Interface{Name: "eth1", Index: back.Index, MAC: [6]byte(back.MAC), MTU: 1500})
	fact(2, model.Interface{Name: "eth2", MAC: [6]byte{2, 0xff}, MTU: 9000})

	r.must(front.SetMTU(1280)) // less than configured
	fact(0, model.Interface{Name: "eth0", Index: front.Index, MAC: [6]byte{2, 0xee}, MTU: 1280})
	r.must(back.SetMTU(1280))
	fact(1, model.Interface{Name: "eth1", Index: back.Index, MAC: [6]byte(back.MAC), MTU: 1280})
	r.setMAC(back, [6]byte{0x02, 0xbb, 0, 0, 0, 9})
	fact(1, model.Interface{Name: "eth1", Index: back.Index, MAC: [6]byte{0x02, 0xbb, 0, 0, 0, 9}, MTU: 1280})
}

// TestInterfaceNames finds an interface by a further name of it, and loses it
// when it is called something else.
func TestInterfaceNames(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 1})
	r.must(r.LB.Netlink().LinkAddAltName(r.link(r.Back.Interface), "backends"))
	r.watch(neighbor.Config{Interfaces: []neighbor.Interface{{Name: "backends"}, {Name: "eth0"}}})
	index := func(i, want int) {
		t.Helper()
		r.until(fmt.Sprintf("interface %d has index %d", i, want), func(o *model.Observations) bool { return o.Interfaces[i].Index == want })
	}
	index(0, r.Back.Interface.Index)
	index(1, r.Front.Interface.Index)
	r.must(r.LB.Netlink().LinkDelAltName(r.link(r.Back.Interface), "backends"))
	index(0, 0)
	r.must(r.LB.Netlink().LinkSetName(r.link(r.Front.Interface), "wan"))
	index(1, 0)
	r.must(r.LB.Netlink().LinkSetName(r.link(r.Back.Interface), "eth0"))
	index(1, r.Back.Interface.Index)
}

// TestBridgePort asserts that an interface that leaves a bridge, of which the
// kernel notifies by a deleted link of the same number, is still there.
func TestBridgePort(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 1})
	nl := r.LB.Netlink()
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br9", TxQLen: -1}}
	r.must(nl.LinkAdd(bridge))
	r.watch(neighbor.Config{Interfaces: r.both()})
	r.must(nl.LinkSetMaster(r.link(r.Front.Interface), bridge))
	r.must(nl.LinkSetNoMaster(r.link(r.Front.Interface)))
	// What comes after it has been seen says that it has been seen.
	r.must(r.Front.Interface.SetMTU(1400))
	r.until("the MTU has changed", func(o *model.Observations) bool { return o.Interfaces[0].MTU == 1400 })
	if n := r.logged("interface is gone"); n != 0 {
		t.Errorf("the interface was taken for gone %d times", n)
	}
}

// TestOutside warns of a target that only an interface that is none of ours
// leads to, and finds another way when there is one.
func TestOutside(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 2})
	b1, b2 := r.Backends[0], r.Backends[1]
	own := r.Back.IPv4
	r.watch(neighbor.Config{Interfaces: r.both()[:1], Targets: []netip.Addr{b1.IPv4, b1.IPv6, b2.IPv4, own}})
	for a, name := range map[netip.Addr]string{b1.IPv4: "eth1", b1.IPv6: "eth1", b2.IPv4: "eth1", own: "lo"} {
		r.untilHop(a, model.NextHop{Interface: name})
	}
	// A route of higher metric, by which the kernel would not go.
	r.must(r.LB.Netlink().RouteReplace(&netlink.Route{Dst: prefix("198.18.10.0/24"), Gw: r.Client.IPv4.AsSlice(), LinkIndex: r.Front.Interface.Index, Priority: 500}))
	for _, a := range []netip.Addr{b1.IPv4, b2.IPv4} {
		r.untilHop(a, model.NextHop{Interface: "eth0", MAC: [6]byte(r.Client.Interface.MAC), Resolved: true})
	}
	r.must(r.LB.Netlink().RouteReplace(&netlink.Route{Dst: prefix("2001:db8:10::/64"), Gw: r.Client.IPv6.AsSlice(), LinkIndex: r.Front.Interface.Index, Priority: 5000}))
	r.untilHop(b1.IPv6, model.NextHop{Interface: "eth0", MAC: [6]byte(r.Client.Interface.MAC), Resolved: true})
	if got := r.last().NextHops[own]; got != (model.NextHop{Interface: "lo"}) {
		t.Errorf("the host's own address: %+v", got)
	}
	if n := r.logged("a target is behind an interface that is none of ours", "interface=eth1"); n != 1 {
		t.Errorf("three targets behind the same interface were warned of in %d lines", n)
	}
}
