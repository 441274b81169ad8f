package e2e

import (
	"net/netip"
	"testing"

	"fairlead/controlplane/api"
	"fairlead/dataplane/packet/packettest"
	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
)

// sshPort stands for whatever the node itself serves.
const sshPort = 22

// TestHostTraffic shows that everything that is not for a VIP or a SNAT
// address is the host's, as without Fairlead: connections to the node's own
// addresses, from before it starts until after it has stopped, what the node
// routes, its ARP and its neighbour discovery.
func TestHostTraffic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	nat, ipip := w.addSite(nat4), w.addSite(ipip6)
	w.serve()
	_, err := traffic.ServeStream(w.topo.LB, ":22")
	w.must(err)
	ssh := &pingers{w: w}
	ssh.open(w.topo.Client.Host, netip.AddrPortFrom(w.topo.Front.IPv4, sshPort))
	ssh.open(w.topo.Client.Host, netip.AddrPortFrom(w.topo.Front.IPv6, sshPort))
	ssh.open(w.topo.Backends[0].Host, netip.AddrPortFrom(w.topo.Back.IPv4, sshPort))
	ssh.open(w.topo.Backends[0].Host, netip.AddrPortFrom(w.topo.Back.IPv6, sshPort))
	ssh.await(1)

	w.start()
	ssh.await(2)
	for _, own := range []netip.Addr{w.topo.Front.IPv4, w.topo.Front.IPv6} {
		// Asked for anew by ARP and neighbour discovery, and answered.
		w.must(rig.ForgetNeighbors(w.topo.Client))
		w.must(rig.Ping(w.ctx, w.topo.Client.Host, own))
		w.knows(w.topo.Client, own, w.topo.Front.Interface)
	}
	// The node asks, too, and is answered.
	for _, far := range []netip.Addr{w.topo.Client.IPv4, w.topo.Client.IPv6, w.topo.Backends[1].IPv4, w.topo.Backends[1].IPv6} {
		w.must(rig.Ping(w.ctx, w.topo.LB, far))
	}
	before := carried(w.status())
	for _, far := range []netip.Addr{w.topo.Backends[2].IPv4, w.topo.Backends[2].IPv6} {
		at := netip.AddrPortFrom(far, natOffset+streamPort)
		r, err := traffic.Transfer{Target: at, Direction: traffic.BothWays, Bytes: 5 << 20, Seed: 1}.Run(w.ctx, w.topo.Client.Host)
		w.must(err)
		if r.Client.Addr() != w.topo.Client.IPv4 && r.Client.Addr() != w.topo.Client.IPv6 {
			t.Errorf("a backend that is reached by routing sees the client %s", r.Client)
		}
	}
	if after := carried(w.status()); after != before {
		t.Errorf("workers received %d frames of what the node routes", after-before)
	}
	for _, s := range []*site{nat, ipip} {
		w.http(s, 20)
	}
	w.balance()
	ssh.await(2)
	w.must(w.node.Stop())
	ssh.await(2)
	ssh.stop()
}

// carried is how many IP packets workers have received. Questions for Ethernet
// addresses are not among them: the data path may answer for a tunnel source,
// which is the node's own address.
func carried(s *api.Status) uint64 {
	return s.Ledger.Received - s.Ledger.Reasons["arp_reply"] - s.Ledger.Reasons["neighbor_advert"]
}

// open opens one long-lived connection from a host.
func (p *pingers) open(from *lab.Host, to netip.AddrPort) {
	p.w.t.Helper()
	one, err := traffic.StartPinger(p.w.ctx, from, traffic.PingerConfig{Target: to})
	p.w.must(err)
	p.all = append(p.all, one)
}

// knows demands that a host has found an address at an interface.
func (w *world) knows(n *lab.Node, addr netip.Addr, at *lab.Interface) {
	w.t.Helper()
	mac, err := rig.NeighborMAC(n, addr)
	w.must(err)
	if mac != at.MAC.String() {
		w.t.Errorf("%s has found %s at %s, want %s of %s", n.Name, addr, mac, at.MAC, at.Name)
	}
}

// TestOnLinkVIPs has VIPs in the client's own segment, which nobody but the
// data path answers for: by ARP, by neighbour discovery, and to pings; and one
// that is to be silent.
func TestOnLinkVIPs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	sites := []*site{w.addSiteAt(nat4, w.topo.OnLinkVIP4(1)), w.addSiteAt(nat6, w.topo.OnLinkVIP6(1))}
	silent := []*site{w.addSiteAt(nat4, w.topo.OnLinkVIP4(2)), w.addSiteAt(nat6, w.topo.OnLinkVIP6(2))}
	for _, s := range silent {
		w.config.VIPs = append(w.config.VIPs, rig.VIP{Address: s.vip, Options: "arp = false\nping = false"})
	}
	w.serve()
	w.start()
	for _, s := range sites {
		w.must(rig.Ping(w.ctx, w.topo.Client.Host, s.vip))
		w.knows(w.topo.Client, s.vip, w.topo.Front.Interface)
		w.http(s, 20)
	}
	wire := w.wire(w.topo.Client)
	from, to := mac(w.topo.Client.Interface), mac(w.topo.Front.Interface)
	multicast := func(a netip.Addr) [6]byte {
		raw := a.As16()
		return [6]byte{0x33, 0x33, 0xff, raw[13], raw[14], raw[15]}
	}
	for i, s := range sites {
		quiet := silent[i].vip
		var asks [2][]byte
		for n, vip := range []netip.Addr{quiet, s.vip} {
			if vip.Is4() {
				asks[n] = packettest.ARPRequest(w.topo.Client.IPv4, vip, packettest.MACs([6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, from))
			} else {
				asks[n] = packettest.NeighborSolicit(w.topo.Client.IPv6, vip, packettest.MACs(multicast(vip), from))
			}
		}
		pings := [2][]byte{
			packettest.Echo(w.clientAddress(s), quiet, 7, 1, packettest.MACs(to, from)),
			packettest.Echo(w.clientAddress(s), s.vip, 7, 2, packettest.MACs(to, from)),
		}
		// The first of each pair is for the silent one: its answer would come first.
		for _, pair := range [][2][]byte{asks, pings} {
			for _, frame := range pair {
				w.must(wire.WriteFrame(frame))
			}
			answer := wire.next("an answer for a VIP", func(f []byte) bool { return answersFor(f, quiet) || answersFor(f, s.vip) })
			if answersFor(answer, quiet) {
				t.Errorf("the data path answers for %s, which is to be silent: %x", quiet, answer)
			}
			verify(t, answer)
		}
	}
	status := w.balance("icmp_unsupported")
	if n := status.Ledger.Reasons["icmp_unsupported"]; n != 2 {
		t.Errorf("%d pings to silent VIPs were dropped, want 2", n)
	}
	w.must(w.node.Stop())
}
