package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/controlplane/api"
	"fairlead/dataplane/packet/packettest"
	"fairlead/perf/lab"
	"fairlead/perf/rig"
)

// beyond makes a host behind gateways, with n addresses in a subnet of its own,
// each of which stands for a backend. It answers by the last gateway.
func (w *world) beyond(n int, gateways ...*lab.Node) (far []*lab.Node) {
	w.t.Helper()
	sw, err := w.topo.AddSwitch("farsw")
	w.must(err)
	host, err := w.topo.AddHost("far")
	w.must(err)
	end, err := sw.Plug(host, "eth0", lab.LinkConfig{})
	w.must(err)
	subnet := netip.MustParsePrefix("203.0.113.0/24")
	number := func(i int) netip.Addr {
		a := subnet.Addr().As4()
		a[3] = byte(i)
		return netip.AddrFrom4(a)
	}
	for i, g := range gateways {
		w.must(g.EnableForwarding())
		leg, err := sw.Plug(g.Host, "far0", lab.LinkConfig{})
		w.must(err)
		w.must(leg.AddAddress(netip.PrefixFrom(number(1+i), 24)))
	}
	for i := range n {
		one := &lab.Node{Host: host, Interface: end, IPv4: number(10 + i)}
		w.must(end.AddAddress(netip.PrefixFrom(one.IPv4, 24)))
		far = append(far, one)
	}
	w.must(host.AddDefaultRoute(number(len(gateways))))
	return far
}

// farRoute has the node reach the hosts beyond by gateways.
func (w *world) farRoute(gateways ...*lab.Node) {
	w.t.Helper()
	route := &netlink.Route{Dst: &net.IPNet{IP: net.IPv4(203, 0, 113, 0), Mask: net.CIDRMask(24, 32)}}
	for _, g := range gateways {
		route.MultiPath = append(route.MultiPath, &netlink.NexthopInfo{LinkIndex: w.topo.Back.Interface.Index, Gw: g.IPv4.AsSlice()})
	}
	w.must(w.topo.LB.Netlink().RouteReplace(route))
}

// hurry has neighbours that do not answer given up sooner than by the kernel's
// own timers.
func (w *world) hurry() {
	w.t.Helper()
	of := "net.ipv4.neigh." + w.topo.Back.Interface.Name
	w.must(w.topo.LB.Sysctl(of+".retrans_time_ms", "100"))
	w.must(w.topo.LB.Sysctl(of+".interval_probe_time_ms", "500"))
}

// routes asks the node for the ways to its backends.
func (w *world) routes() (all []api.Route) {
	w.t.Helper()
	w.must(api.NewClient(w.node.Socket).Routes(w.ctx, nil, func(r *api.Route) error {
		all = append(all, *r)
		return nil
	}))
	return all
}

// goBy counts the backends that are reached by each gateway.
func (w *world) goBy() map[string]int {
	w.t.Helper()
	count := map[string]int{}
	for _, r := range w.routes() {
		switch {
		case len(r.Hops) == 0:
			count["none"]++
		case !r.Hops[0].Resolved:
			count["unresolved"]++
		default:
			count[r.Hops[0].Address]++
		}
	}
	return count
}

// farWorld is a node whose only site has eight backends behind two gateways.
func farWorld(t *testing.T) (w *world, s *site, gateways []*lab.Node) {
	w = newWorld(t, worldConfig{lab: lab.Config{Backends: 2}})
	w.config.Neighbors = nil
	gateways = w.topo.Backends
	far := w.beyond(8, gateways...)
	w.hurry()
	s = w.addSite(nat4)
	s.members = nil
	for i, one := range far {
		// Their names and addresses are all that a pool is made of.
		s.members = append(s.members, member{&lab.Node{Host: &lab.Host{Name: fmt.Sprintf("far%d", i)}, IPv4: one.IPv4}, 1})
	}
	w.topo.Backends = far[:1] // who is served on
	w.serve()
	return w, s, gateways
}

// TestGatewayLost has backends behind two gateways, of which one is gone
// without a word and comes back. Backends that were reached by it are reached
// by the other, and no connection breaks.
func TestGatewayLost(t *testing.T) {
	t.Parallel()
	w, s, gateways := farWorld(t)
	w.farRoute(gateways...)
	w.start()
	first, second := gateways[0].IPv4.String(), gateways[1].IPv4.String()
	spread := w.goBy()
	if spread[first] == 0 || spread[second] == 0 || spread[first]+spread[second] != 8 {
		t.Fatalf("backends go by %v", spread)
	}
	p := w.ping(24, s)
	w.must(gateways[0].Interface.SetDown())
	w.until("everybody goes by the other gateway", func() bool { return w.goBy()[second] == 8 })
	p.await(2)
	w.http(s, 40)
	if r := w.routes()[0]; r.Problem != "1 of 2 next hops do not answer; the others are used" {
		t.Errorf("the first way is %+v", r)
	}
	w.must(gateways[0].Interface.SetUp())
	w.until("as before", func() bool { now := w.goBy(); return now[first] == spread[first] && now[second] == spread[second] })
	p.await(2)
	p.stop()
	w.balance()
	w.must(w.node.Stop())
}

// TestGatewayChanges moves a route from one gateway to another and back, under
// connections that lose nothing by it; has a gateway change its Ethernet
// address; and has a route that forbids come and go.
func TestGatewayChanges(t *testing.T) {
	t.Parallel()
	w, s, gateways := farWorld(t)
	w.farRoute(gateways[0])
	w.start()
	p := w.ping(16, s)
	for n := range 10 {
		by := gateways[(n+1)%2]
		w.farRoute(by)
		w.until("the route is followed", func() bool { return w.goBy()[by.IPv4.String()] == 8 })
		p.await(1)
	}
	w.balance() // not one frame was dropped

	// The last gateway is the first one: it becomes another machine.
	link, err := gateways[0].Netlink().LinkByName(gateways[0].Interface.Name)
	w.must(err)
	w.must(gateways[0].Sysctl("net.ipv4.conf.eth0.arp_notify", "1"))
	mac := net.HardwareAddr{2, 0xcc, 0, 0, 0, 1}
	w.must(gateways[0].Netlink().LinkSetHardwareAddr(link, mac))
	w.until("the new address is known", func() bool {
		return !slices.ContainsFunc(w.routes(), func(r api.Route) bool { return r.Hops[0].MAC != mac.String() })
	})
	p.await(2)
	w.balance()

	one := s.members[0].IPv4
	forbid := &netlink.Route{Dst: &net.IPNet{IP: one.AsSlice(), Mask: net.CIDRMask(32, 32)}, Type: unix.RTN_BLACKHOLE}
	w.must(w.topo.LB.Netlink().RouteAdd(forbid))
	w.until("there is no way to one", func() bool { return w.goBy()["none"] == 1 })
	if r := w.routes()[0]; r.Target != one.String() || r.Problem != "no route leads there, or one that forbids" || !slices.Equal(r.Backends, []string{
		s.service(namePort) + "/far0", s.service(streamPort) + "/far0", s.service(webPort) + "/far0"}) {
		t.Errorf("the first way is %+v", r)
	}
	w.must(w.topo.LB.Netlink().RouteDel(forbid))
	w.until("there is a way again", func() bool { return w.goBy()[gateways[0].IPv4.String()] == 8 })
	p.await(2)
	p.stop()
	w.http(s, 40)
	w.balance("next_hop_unresolved")
	w.must(w.node.Stop())
}

// TestBackendFailsAndReturns takes a backend's cable out until the kernel has
// given it up, and puts it back: its connections go on, without a packet having
// been dropped for want of an Ethernet address.
func TestBackendFailsAndReturns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{lab: lab.Config{Backends: 2}})
	w.config.Neighbors = nil
	w.hurry()
	w.must(w.topo.LB.Sysctl("net.ipv4.neigh."+w.topo.Back.Interface.Name+".base_reachable_time_ms", "500"))
	w.must(w.topo.LB.Sysctl("net.ipv4.neigh."+w.topo.Back.Interface.Name+".delay_first_probe_time", "1"))
	s := w.addSite(nat4)
	w.serve()
	w.start()
	p := w.ping(12, s)
	gone := w.topo.Backends[1]
	problem := func() string {
		var found string
		w.must(api.NewClient(w.node.Socket).Neighbors(w.ctx, nil, func(n *api.Neighbor) error {
			if n.Address == gone.IPv4.String() {
				found = n.Problem
			}
			return nil
		}))
		return found
	}
	w.must(gone.Interface.SetDown())
	w.until("the kernel has given it up", func() bool { return problem() == "it does not answer any more; its last address stays in use" })
	w.must(gone.Interface.SetUp())
	w.until("it answers again", func() bool { return problem() == "" })
	p.await(2)
	p.stop()
	w.balance()
	w.must(w.node.Stop())
}

// TestAnnouncedAddresses has neighbours with wrong ideas learn where VIPs are as
// soon as the node forwards, and finds another host that has one of them.
func TestAnnouncedAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	sites := []*site{w.addSiteAt(nat4, w.topo.OnLinkVIP4(1)), w.addSiteAt(nat6, w.topo.OnLinkVIP6(1))}
	silent := w.addSiteAt(nat4, w.topo.OnLinkVIP4(2))
	w.config.VIPs = append(w.config.VIPs, rig.VIP{Address: silent.vip, Options: "arp = false"})
	w.config.Options = "[arp]\nrepeat_interval = \"100ms\"\nrefresh = \"1s\"\n"
	wrong := net.HardwareAddr{2, 9, 9, 9, 9, 9}
	for _, s := range append(sites, silent) {
		w.must(w.topo.Client.Netlink().NeighSet(&netlink.Neigh{LinkIndex: w.topo.Client.Interface.Index, IP: s.vip.AsSlice(), HardwareAddr: wrong, State: unix.NUD_STALE}))
	}
	w.serve()
	w.start()
	for _, s := range sites {
		w.until("the client knows better", func() bool {
			mac, err := rig.NeighborMAC(w.topo.Client, s.vip)
			return err == nil && mac == w.topo.Front.Interface.MAC.String()
		})
		w.http(s, 10)
	}
	if mac, err := rig.NeighborMAC(w.topo.Client, silent.vip); err != nil || mac != wrong.String() {
		t.Errorf("the silent VIP is at %s, %v", mac, err)
	}
	addresses := func() map[string]api.Address {
		all := map[string]api.Address{}
		w.must(api.NewClient(w.node.Socket).Addresses(w.ctx, nil, func(a *api.Address) error {
			all[a.Address] = *a
			return nil
		}))
		return all
	}
	w.until("everything was announced and is announced again", func() bool {
		for _, a := range addresses() {
			if a.Answered && a.Kind != "tunnel" && a.Announced < 4 {
				return false
			}
		}
		return true
	})
	for address, a := range addresses() {
		var on []string
		switch {
		case a.Kind == "snat":
			on = []string{w.topo.Back.Interface.Name}
		case a.Answered && a.Kind == "vip":
			on = []string{w.topo.Front.Interface.Name}
		}
		if !slices.Equal(a.Interfaces, on) && len(a.Interfaces)+len(on) > 0 || a.Conflict != nil {
			t.Errorf("%s: %+v, want it announced on %v", address, a, on)
		}
	}
	if warnings := w.status().Warnings; len(warnings) > 0 {
		t.Errorf("warnings: %q", warnings)
	}
	vip := sites[0].vip
	w.must(w.topo.Client.Interface.AddAddress(netip.PrefixFrom(vip, 32)))
	want := fmt.Sprintf("address %s is also claimed by %s on interface %s", vip, w.topo.Client.Interface.MAC, w.topo.Front.Interface.Name)
	w.until("the other host is noticed", func() bool { return slices.Contains(w.status().Warnings, want) })
	if c := addresses()[vip.String()].Conflict; c == nil || c.MAC != w.topo.Client.Interface.MAC.String() {
		t.Errorf("the conflict is %+v", c)
	}
	w.must(w.node.Stop())
}

// TestDrainedNodeIsSilent drains a node: questions for its VIPs are no longer
// answered, those for SNAT addresses are, and connections go on. Put back into
// service, it says where its VIPs are.
func TestDrainedNodeIsSilent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	s := w.addSiteAt(nat4, w.topo.OnLinkVIP4(1))
	w.config.Options = "[arp]\nrefresh = \"0s\"\nrepeat = 1\n"
	w.serve()
	w.start()
	p := w.ping(6, s)
	client := api.NewClient(w.node.Socket)
	answered := func() (vip, snat bool) {
		w.must(client.Addresses(w.ctx, nil, func(a *api.Address) error {
			vip = vip || a.Kind == "vip" && a.Answered
			snat = snat || a.Kind == "snat" && a.Answered
			return nil
		}))
		return vip, snat
	}
	w.must(client.Call(w.ctx, http.MethodPost, "/v1/drain", nil, nil, nil))
	w.until("the VIP is not answered for", func() bool { vip, snat := answered(); return !vip && snat })
	wire := w.wire(w.topo.Client)
	ask := func(a netip.Addr) {
		w.must(wire.WriteFrame(packettest.ARPRequest(w.topo.Client.IPv4, a, packettest.MACs([6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac(w.topo.Client.Interface)))))
	}
	ask(s.vip)
	ask(w.topo.SNAT4(1)) // whose answer would come after the VIP's
	answer := wire.next("an answer", func(f []byte) bool { return answersFor(f, s.vip) || answersFor(f, w.topo.SNAT4(1)) })
	if answersFor(answer, s.vip) {
		t.Error("a drained node answers for its VIP")
	}
	p.await(2)
	w.must(client.Call(w.ctx, http.MethodPost, "/v1/undrain", nil, nil, nil))
	announced := wire.next("an announcement", func(f []byte) bool { return answersFor(f, s.vip) })
	if from := net.HardwareAddr(announced[6:12]); from.String() != w.topo.Front.Interface.MAC.String() {
		t.Errorf("the VIP is announced at %s", from)
	}
	w.until("the VIP is answered for", func() bool { vip, _ := answered(); return vip })
	p.await(2)
	p.stop()
	w.balance()
	w.must(w.node.Stop())
}
