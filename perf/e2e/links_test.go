package e2e

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
	"fairlead/perf/rig"
)

// TestLinkDown pulls the plug of each cable and takes each interface down and
// up again. Connections wait and go on, and nothing spins meanwhile.
func TestLinkDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{limit: 2 * time.Minute})
	sites := []*site{w.addSite(nat4), w.addSite(ipip4)}
	w.serve()
	w.start()
	p := w.ping(15, sites...)
	for _, ifc := range []*lab.Interface{
		w.topo.Front.Interface.Peer, w.topo.Back.Interface.Peer, // the plug
		w.topo.Front.Interface, w.topo.Back.Interface, // the interface itself
	} {
		w.must(ifc.SetDown())
		w.idles(time.Second)
		w.must(ifc.SetUp())
		p.await(2)
	}
	p.stop()
	for _, s := range sites {
		w.http(s, 50)
	}
	// What was to leave by an interface that is down is counted as that.
	status := w.balance("transmit_down", "transmit_ring_full")
	if status.Data.Restarts != 0 {
		t.Errorf("the data process was replaced %d times", status.Data.Restarts)
	}
	w.must(w.node.Stop())
}

// idles demands that neither process uses much of a processor in the time to
// come.
func (w *world) idles(window time.Duration) {
	w.t.Helper()
	pids := [2]int{w.node.Process().Pid(), w.status().Data.PID}
	var before [2]time.Duration
	for i, pid := range pids {
		used, err := rig.CPUTime(pid)
		w.must(err)
		before[i] = used
	}
	begin := time.Now()
	w.until("time passes", func() bool { return time.Since(begin) >= window })
	for i, pid := range pids {
		used, err := rig.CPUTime(pid)
		w.must(err)
		if used -= before[i]; used > window/2 {
			w.t.Errorf("process %d used %v of processor time in %v with a link down", pid, used, window)
		}
	}
}

// TestInterfaceReplaced deletes each interface of the node and makes it anew,
// under the same name and with another number and another Ethernet address.
// What does not need it goes on without, and every flow goes on with the new
// one.
func TestInterfaceReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{limit: 2 * time.Minute})
	w.rebound = true
	sites := []*site{w.addSite(nat4), w.addSite(gue4)}
	onLink := w.addSiteAt(nat4, w.topo.OnLinkVIP4(1))
	w.serve()
	w.start()
	p := w.ping(15, append(sites, onLink)...)

	before := w.interfaces()
	w.must(w.topo.Back.Interface.Delete())
	w.idles(time.Second)
	for range 2 {
		for _, s := range sites {
			w.must(rig.Ping(w.ctx, w.topo.Client.Host, s.vip)) // answered by the way it came
		}
		w.must(w.node.KillData(w.ctx)) // the next one does without the interface, too
	}
	w.plug(&w.topo.Back, w.topo.BackSwitch, lab.LinkConfig{})
	w.rebinds(before)
	// The node's own address, too, has moved to another Ethernet address: hosts
	// notice that by themselves, but only after minutes.
	for _, b := range w.topo.Backends {
		w.must(rig.ForgetNeighbors(b))
	}
	p.await(2)

	before = w.interfaces()
	w.must(w.topo.Front.Interface.Delete())
	w.idles(time.Second)
	w.plug(&w.topo.Front, w.topo.FrontSwitch, lab.LinkConfig{})
	w.rebinds(before)
	w.must(rig.ForgetNeighbors(w.topo.Client))
	p.await(2)
	p.stop()

	wire, err := w.topo.Backends[0].PacketConn(w.topo.Backends[0].Interface.Name)
	w.must(err)
	defer wire.Close()
	for _, s := range append(sites, onLink) {
		w.spread(s, w.http(s, 60))
	}
	from := w.sourceMAC(wire, w.config.SNAT[0])
	if want := w.topo.Back.Interface.MAC.String(); from != want {
		t.Errorf("packets to backends come from %s, the interface's address is %s", from, want)
	}
	// The VIP is where the interface is now.
	mac, err := rig.NeighborMAC(w.topo.Client, onLink.vip)
	w.must(err)
	if want := w.topo.Front.Interface.MAC.String(); mac != want {
		t.Errorf("the client has found %s at %s, the interface's address is %s", onLink.vip, mac, want)
	}
	status := w.balance("transmit_down", "transmit_ring_full", "restart_lost", "next_hop_unresolved")
	if status.Data.Restarts != 2 {
		t.Errorf("data processes died %d times, killed were 2", status.Data.Restarts)
	}
	w.must(w.node.Stop())
}

// sourceMAC is the Ethernet address that IPv4 packets of an address come from.
func (w *world) sourceMAC(wire *lab.PacketConn, ip netip.Addr) string {
	w.t.Helper()
	deadline, _ := w.ctx.Deadline()
	w.must(wire.SetReadDeadline(deadline))
	for {
		frame, err := wire.ReadFrame()
		w.must(err)
		if len(frame) < 34 || frame[12] != 0x08 || frame[13] != 0x00 {
			continue // no IPv4
		}
		if src, _ := netip.AddrFromSlice(frame[26:30]); src == ip {
			return net.HardwareAddr(frame[6:12]).String()
		}
	}
}

// plug gives the node a new interface in place of a deleted one.
func (w *world) plug(arm *lab.Arm, sw *lab.Switch, cfg lab.LinkConfig) {
	w.t.Helper()
	ifc, err := sw.Plug(w.topo.LB, arm.Interface.Name, cfg)
	w.must(err)
	arm.Interface = ifc
	w.must(ifc.AddAddress(netip.PrefixFrom(arm.IPv4, arm.Segment.IPv4.Bits())))
	w.must(ifc.AddAddress(netip.PrefixFrom(arm.IPv6, arm.Segment.IPv6.Bits())))
}

// interfaces are the numbers of the node's interfaces by name.
func (w *world) interfaces() map[string]int {
	w.t.Helper()
	return numbers(w.status())
}

func numbers(s *api.Status) map[string]int {
	m := map[string]int{}
	for _, i := range s.Interfaces {
		m[i.Name] = i.Index
	}
	return m
}

// rebinds waits until the node drives an interface of another number than before.
func (w *world) rebinds(before map[string]int) {
	w.t.Helper()
	w.must(w.node.Until(w.ctx, func(s *api.Status) bool {
		if s.Data.PID == 0 {
			return false
		}
		for name, number := range numbers(s) {
			if number != before[name] {
				return true
			}
		}
		return false
	}))
}
