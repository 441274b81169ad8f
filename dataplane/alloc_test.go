package dataplane_test

import (
	"fmt"
	"testing"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/nic/nictest"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// notMet are the reasons that frames in memory cannot end with.
var notMet = map[reason.Reason]string{
	reason.PassFailAction:    "the XDP program's",
	reason.Oversize:          "longer than any chunk",
	reason.HeadroomExhausted: "the headroom holds the longest outer headers",
	reason.RestartLost:       "the next process's",
	reason.TransmitRingFull:  "TestNoAllocationInTrouble",
	reason.TransmitDown:      "TestNoAllocationInTrouble",
	reason.ForwardStateless:  "TestNoAllocationInTrouble",
	reason.FlowTableFull:     "TestNoAllocationInTrouble",
}

// TestNoVerdictAllocates carries frames that end with every reason, over and
// over, and demands that none of it allocates.
func TestNoVerdictAllocates(t *testing.T) {
	services := everyService()
	open := testService{vip: "198.18.101.1", proto: packet.ProtoUDP, port: 80, method: fib.MethodNAT, backends: []string{"198.18.10.11:80"}}
	closed := testService{vip: "198.18.101.2", proto: packet.ProtoTCP, port: 80, method: fib.MethodNAT, backends: []string{"198.18.10.11:80"}}
	empty := testService{vip: "198.18.101.3", proto: packet.ProtoTCP, port: 80, method: fib.MethodL2}
	unresolved := testService{vip: "198.18.101.4", proto: packet.ProtoTCP, port: 80, method: fib.MethodL2, backends: []string{"198.18.10.21:80"}}
	family := testService{vip: "198.18.101.5", proto: packet.ProtoTCP, port: 80, method: fib.MethodL2, backends: []string{"[2001:db8:10::11]:80"}}
	exhausted := testService{vip: "2001:db8:101::1", proto: packet.ProtoTCP, port: 80, method: fib.MethodNAT, backends: []string{"[2001:db8:10::99]:80"}}
	dead := testService{vip: "198.18.101.6", proto: packet.ProtoTCP, port: 80, method: fib.MethodNAT, backends: []string{"198.18.10.31:80"}}
	dropping := testService{vip: "198.18.101.7", proto: packet.ProtoTCP, port: 80, method: fib.MethodNAT, backends: []string{"198.18.10.32:80"}, edit: withPolicy(fib.GoneDrop)}
	n := newNodeWith(t, nictest.Config{Wire: func([]byte) {}}, append(services, open, closed, empty, unresolved, family, exhausted, dead, dropping)...)
	find := func(vip string) (svc *fib.Service, first *fib.Backend) {
		for i := range n.b.Services {
			svc = &n.b.Services[i]
			for _, l := range n.b.Locals {
				if svc.ID != 0 && l.ID == svc.Local && l.Addr == addr(vip) {
					p := &n.b.Pools[svc.Pool]
					return svc, &n.b.Backends[n.b.Members[p.Members]]
				}
			}
		}
		t.Fatalf("no service %s", vip)
		return nil, nil
	}
	n.b.NextHops = append(n.b.NextHops, fib.NextHop{MTU: 1500})
	_, b := find("198.18.101.4")
	b.NextHop = 1
	svc, _ := find("198.18.101.2")
	n.b.SourceRanges = []fib.SourceRange{{Addr: addr("192.0.2.0"), Bits: 120}}
	svc.RangeCount = 1
	n.b.SNATs[1].PortFirst, n.b.SNATs[1].PortLast = 5000, 5000
	n.b.Settings.ReplyRate, n.b.Settings.ReplyBurst = 500, 50
	n.publish()
	alive := n.snaps.Current()
	// Some flows lose their backend in every round.
	for _, vip := range []string{"198.18.101.6", "198.18.101.7"} {
		_, b := find(vip)
		b.Flags = fib.BackendDown
	}
	n.publish()
	broken := n.snaps.Current()

	client, client6 := "203.0.113.9:1000", "[2001:db8:20::9]:1000"
	var first, second [2][][]byte
	to := func(port int, frames ...[]byte) { second[port] = append(second[port], frames...) }
	// first is sent while all backends live.
	for _, s := range append(services, open, dead, dropping) {
		vip, from := s.vip+":80", client
		if packettest.Addr(s.vip).Is6() {
			vip, from = "["+s.vip+"]:80", client6
		}
		macs := packettest.MACs(ourMAC0, clientMAC)
		switch s.proto {
		case packet.ProtoTCP:
			first[0] = append(first[0], fromClient(from, vip, packettest.Flags(syn)), fromClient(from, vip, packettest.Flags(ack), packettest.PayloadLen(100)))
			if s.vip < "198.18.101" || s.vip[0] == '2' {
				to(0, fromClient(from, vip, packettest.Flags(ack)), fromClient(from, vip, packettest.Flags(rst)))
			}
		case packet.ProtoUDP:
			first[0] = append(first[0], packettest.UDP(packettest.AddrPort(from), packettest.AddrPort(vip), macs, packettest.PayloadLen(100)))
		default:
			first[0] = append(first[0], packettest.SCTP(packettest.AddrPort(from), packettest.AddrPort(vip), macs, packettest.PayloadLen(100)))
		}
	}
	tcp := func(vip string, opts ...packettest.Option) []byte {
		return fromClient(client, vip, append([]packettest.Option{packettest.Flags(syn)}, opts...)...)
	}
	v4, v6, vip4 := packettest.Addr("203.0.113.9"), packettest.Addr("2001:db8:20::9"), packettest.Addr("198.18.101.1")
	vip6 := packettest.Addr(services[3].vip)
	udp := func(opts ...packettest.Option) []byte { return udpFrom(client, "198.18.101.1:80", opts...) }
	to(0,
		fromClient(client, "198.18.101.6:80", packettest.Flags(ack)), fromClient(client, "198.18.101.7:80", packettest.Flags(ack)),
		packettest.Echo(v4, vip4, 1, 1, packettest.PayloadLen(1400)), packettest.ARPRequest(v4, vip4), packettest.NeighborSolicit(v6, vip6),
		udp(packettest.DF(), packettest.PayloadLen(1480)), udp(packettest.TTL(1)), udp(packettest.TTL(1), packettest.Fragment(80, false, 1), packettest.PayloadLen(80)),
		udp(packettest.Fragment(0, true, 1), packettest.PayloadLen(80), packettest.UDPLength(168)), udp(packettest.Fragment(80, false, 1), packettest.PayloadLen(80)),
		udp(packettest.PayloadLen(1480)), udp(packettest.MACs([6]byte{1, 0, 0x5e, 0, 0, 1}, clientMAC)), udp(packettest.DF(), packettest.Fragment(160, false, 1), packettest.PayloadLen(1490)),
		udpFrom(client, "192.0.2.1:80"), packettest.ARPReply(v4, vip4), packettest.NeighborSolicit(v6, packettest.Addr("2001:db8:ffff::1")),
		udp()[:10], udp(packettest.VLAN(1, 2, 3)), udp(packettest.BadIPChecksum()), udp()[:30], udp(packettest.Fragment(0, true, 2), packettest.PayloadLen(3)),
		tcp("198.18.101.1:80"), tcp("198.18.101.2:80"), tcp("198.18.101.3:80"), tcp("198.18.101.3:80", packettest.Flags(ack)), tcp("198.18.101.4:80"), tcp("198.18.101.5:80"),
		tcp("198.18.100.1:80", packettest.Flags(ack), packettest.Seq(9)), fromClient("203.0.113.9:77", "198.18.100.1:80", packettest.Flags(ack)),
		tcp("198.18.100.1:80", packettest.Flags(syn|fin)), tcp("198.18.100.1:80")[:50], udpFrom("127.0.0.1:80", "198.18.101.1:80"), udp(packettest.UDPLength(3)),
		fromClient(client6, "[2001:db8:101::1]:80", packettest.Flags(syn)), fromClient("[2001:db8:20::8]:1000", "[2001:db8:101::1]:80", packettest.Flags(syn)),
		packettest.IP(v4, vip4, 132, make([]byte, 4)), packettest.IP(v4, vip4, 47, make([]byte, 4)), packettest.IP(v4, vip4, 1, make([]byte, 4)), packettest.IP(v4, vip4, 6, make([]byte, 4)),
		packettest.Echo(v4, vip4, 1, 1, packettest.BadChecksum()), packettest.EchoReply(v4, vip4, 1, 1), udpFrom(client, "198.18.10.200:9"),
		errorAbout(t, udpFrom("198.18.101.1:80", "203.0.113.9:9"), 0, 0), errorAbout(t, udpFrom("198.18.101.1:80", client), 0, 0),
		packettest.Echo(v4, vip4, 1, 1, packettest.Fragment(0, true, 3), packettest.PayloadLen(80)),
		packettest.IP(v6, vip6, 0, make([]byte, 4)), packettest.UDP(packettest.AddrPort(client6), packettest.AddrPort("["+vip6.String()+"]:80"), packettest.DestOpts(65)),
		append(append([]byte(nil), clientMAC[:]...), 1, 2, 3, 4, 5, 6, 0x88, 0xcc, 0, 0), append(udp()[:12:12], 0x86, 0xdd, 0x40, 0, 0, 0, 0, 0, 0, 0),
		append(packettest.ARPRequest(v4, vip4)[:14:14], make([]byte, 28)...),
	)
	broken6 := packettest.UDP(packettest.AddrPort(client6), packettest.AddrPort("["+vip6.String()+"]:80"))
	broken6[14] = 0x40
	to(0, broken6)
	for i := range 70 {
		to(0, udp(packettest.Fragment(80, false, uint32(1000+i)), packettest.PayloadLen(80)), udp(packettest.TTL(1)))
	}

	n.quiet = true
	// What NAT backends answer, once: the bindings stay the same for the life
	// of a UDP flow.
	n.queues[0].Inject(udp())
	n.worker.Step()
	var reply []byte
	n.flows.Range(func(f *flow.Flow) bool {
		if f.SNAT != 0 && f.ClientPort == 1000 && endpoint(f.Backend, f.BackendPort) == "198.18.10.11:80" && f.Proto == packet.ProtoUDP && f.VIPPort == 80 {
			reply = packettest.UDP(packettest.AddrPort("198.18.10.11:80"), packettest.AddrPort(fmt.Sprintf("198.18.10.200:%d", f.SNATPort)), packettest.MACs(ourMAC1, backendMAC), packettest.PayloadLen(50))
		}
		return reply == nil
	})
	first[1] = append(first[1], reply)

	pump := func(frames [2][][]byte) {
		for port := range frames {
			for i, f := range frames[port] {
				n.queues[port].Inject(f)
				if i%48 == 47 {
					n.worker.Step()
				}
			}
		}
		for n.worker.Step() > 0 {
		}
	}
	round := func() {
		n.snaps.Publish(alive)
		pump(first)
		n.now += 100
		n.snaps.Publish(broken)
		pump(second)
		n.now += 2000
		n.worker.Step()
		n.worker.Step()
	}
	round()
	// A swap of snapshots prepares the worker for the new one, which may
	// allocate: it is not done for a packet.
	swaps := testing.AllocsPerRun(20, func() {
		n.snaps.Publish(alive)
		n.worker.Step()
		n.snaps.Publish(broken)
		n.worker.Step()
	})
	if allocs := testing.AllocsPerRun(20, round); allocs > swaps {
		t.Errorf("%v allocations, %v of them for the swaps of snapshots", allocs, swaps)
	}
	n.check()
	for _, r := range reason.All() {
		if notMet[r] == "" && r != reason.StaleSteering && n.ledger.Ended[r] == 0 {
			t.Errorf("no frame ended with %v", r)
		}
	}
}

// TestNoAllocationInTrouble demands the same of a full table and full or dead
// rings.
func TestNoAllocationInTrouble(t *testing.T) {
	direct := pooled(fib.MethodL2, packet.ProtoTCP, nil)
	direct.vip = "198.18.100.2"
	n := newNodeWith(t, nictest.Config{Wire: func([]byte) {}}, pooled(fib.MethodNAT, packet.ProtoTCP, nil), direct)
	n.quiet = true
	for i := range tableSize {
		src := fmt.Sprintf("203.0.113.%d:%d", 1+i%200, 2000+i/200)
		n.queues[0].Inject(fromClient(src, pooledVIP, packettest.Flags(syn)))
		n.queues[0].Inject(fromClient(src, pooledVIP, packettest.Flags(ack)))
		n.worker.Step()
	}
	frames := [][]byte{fromClient("192.0.2.1:1", pooledVIP, packettest.Flags(syn)), fromClient("192.0.2.1:1", "198.18.100.2:80", packettest.Flags(syn)),
		fromClient("203.0.113.1:2000", pooledVIP, packettest.Flags(ack))}
	if allocs := testing.AllocsPerRun(50, func() {
		for mode := range 3 {
			if mode == 1 {
				n.queues[1].RefuseTransmit(100)
			}
			n.queues[1].SetDown(mode == 2)
			for _, f := range frames {
				n.queues[0].Inject(f)
			}
			n.worker.Step()
			n.queues[1].RefuseTransmit(mode / 2 * 100)
			n.queues[0].Inject(frames[2])
			n.worker.Step()
			n.queues[1].RefuseTransmit(0)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	for r, where := range notMet {
		if where == "TestNoAllocationInTrouble" && n.ledger.Ended[r] == 0 {
			t.Errorf("no frame ended with %v", r)
		}
	}
	n.queues[1].SetDown(false)
}
