package dataplane_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/nic/nictest"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// everyService is a FIB with each method in each combination of families.
func everyService() []testService {
	b4 := []string{"198.18.10.11:80", "198.18.10.12:80", "198.18.10.13:80"}
	b6 := []string{"[2001:db8:10::11]:80", "[2001:db8:10::12]:80"}
	var list []testService
	n := 0
	add := func(m fib.Method, v6 bool, backends []string) {
		n++
		vip := fmt.Sprintf("198.18.100.%d", n)
		if v6 {
			vip = fmt.Sprintf("2001:db8:100::%d", n)
		}
		for _, proto := range []uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP} {
			list = append(list, testService{vip: vip, proto: proto, port: 80, method: m, backends: backends, edit: func(s *fib.Service) {
				if n%3 == 0 {
					s.Affinity, s.AffinityMS = 1, 60_000
				}
				s.Gone = fib.GonePolicy(n % 3)
			}})
		}
	}
	add(fib.MethodNAT, false, b4)
	add(fib.MethodNAT, true, b6)
	add(fib.MethodL2, false, b4)
	add(fib.MethodL2, true, b6)
	for _, m := range []fib.Method{fib.MethodIPIP, fib.MethodGUE} {
		add(m, false, b4)
		add(m, true, b6)
		add(m, true, b4)
		add(m, false, b6)
	}
	return list
}

// traffic makes random frames: most of them sensible, some broken.
type traffic struct {
	*rand.Rand
	services []testService
	pieces   [][]byte    // fragments still to arrive
	sent     [2][][]byte // what the worker sent lately, to be answered, quoted or sent back
}

func (r *traffic) frame() (port int, frame []byte) {
	if len(r.pieces) > 0 && r.IntN(2) == 0 {
		frame, r.pieces = r.pieces[0], r.pieces[1:]
		return 0, frame
	}
	switch r.IntN(10) {
	case 0, 1:
		if f := r.recent(1); f != nil {
			if answer := reverse(f); answer != nil {
				return 1, answer
			}
		}
	case 2:
		if f := r.recent(r.IntN(2)); f != nil {
			if quote := r.quote(f); quote != nil {
				return r.IntN(2), quote
			}
		}
	}
	frame = r.request()
	for r.IntN(8) == 0 {
		frame[r.IntN(len(frame))] ^= 1 << r.IntN(8)
	}
	if r.IntN(40) == 0 {
		frame = frame[:r.IntN(len(frame)+1)]
	}
	return r.IntN(2), frame
}

func (r *traffic) recent(port int) []byte {
	if n := len(r.sent[port]); n > 0 {
		return r.sent[port][r.IntN(n)]
	}
	return nil
}

func (r *traffic) request() []byte {
	s := r.services[r.IntN(len(r.services))]
	dst := netip.AddrPortFrom(netip.MustParseAddr(s.vip), s.port)
	src := netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("203.0.113.%d", 1+r.IntN(20))), uint16(1024+r.IntN(50)))
	if dst.Addr().Is6() {
		src = netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:20::%d", 1+r.IntN(20))), src.Port())
	}
	if r.IntN(20) == 0 {
		dst = netip.AddrPortFrom(dst.Addr(), uint16(r.IntN(65536)))
	}
	opts := []packettest.Option{packettest.MACs(ourMAC0, clientMAC), packettest.PayloadLen(r.IntN(1450))}
	opts = append(opts, packettest.TOS(uint8(r.IntN(256))))
	switch r.IntN(8) {
	case 0:
		opts = append(opts, packettest.TTL(uint8(r.IntN(3))))
	case 1:
		opts = append(opts, packettest.VLAN(uint16(r.IntN(4095))))
	case 2:
		opts = append(opts, packettest.Fragment(8*r.IntN(4), r.IntN(2) == 0, uint32(r.IntN(4))), packettest.PayloadLen(8*(1+r.IntN(100))))
	case 4:
		whole := packettest.UDP(src, netip.AddrPortFrom(dst.Addr(), 80), packettest.MACs(ourMAC0, clientMAC), packettest.PayloadLen(2000+r.IntN(4000)))
		r.pieces = packettest.Fragments(whole, 1500, r.Uint32())
		r.Shuffle(len(r.pieces), func(i, j int) { r.pieces[i], r.pieces[j] = r.pieces[j], r.pieces[i] })
	case 3:
		if dst.Addr().Is4() {
			opts = append(opts, packettest.DF())
		}
	}
	switch r.IntN(12) {
	case 0:
		return packettest.Echo(src.Addr(), dst.Addr(), 1, 2, opts[:1]...)
	case 1:
		if dst.Addr().Is4() {
			return packettest.ARPRequest(src.Addr(), dst.Addr())
		}
		return packettest.NeighborSolicit(src.Addr(), dst.Addr())
	}
	switch s.proto {
	case packet.ProtoTCP:
		flags := []uint8{packet.TCPFlagSYN, packet.TCPFlagACK, packet.TCPFlagACK, packet.TCPFlagACK | packet.TCPFlagFIN, packet.TCPFlagRST, packet.TCPFlagSYN | packet.TCPFlagFIN}
		return packettest.TCP(src, dst, append(opts, packettest.Flags(flags[r.IntN(len(flags))]))...)
	case packet.ProtoUDP:
		return packettest.UDP(src, dst, opts...)
	}
	return packettest.SCTP(src, dst, opts...)
}

// reverse answers a frame as its receiver would, nil for what has no ports.
func reverse(frame []byte) []byte {
	var info packet.Info
	if packet.Parse(frame, &info) != reason.None || info.SrcPort == 0 {
		return nil
	}
	src, dst := netip.AddrPortFrom(info.Dst.Netip(), info.DstPort), netip.AddrPortFrom(info.Src.Netip(), info.SrcPort)
	macs := packettest.MACs(ourMAC1, backendMAC)
	switch info.Proto {
	case packet.ProtoTCP:
		return packettest.TCP(src, dst, macs, packettest.Flags(packet.TCPFlagSYN|packet.TCPFlagACK))
	case packet.ProtoUDP:
		return packettest.UDP(src, dst, macs)
	case packet.ProtoSCTP:
		return packettest.SCTP(src, dst, macs)
	}
	return nil
}

// quote makes an ICMP error about a frame, from a router.
func (r *traffic) quote(frame []byte) []byte {
	var info packet.Info
	if packet.Parse(frame, &info) != reason.None {
		return nil
	}
	if info.Kind == packet.KindIPv4 {
		return packettest.ICMPError(netip.MustParseAddr("192.0.2.7"), info.Src.Netip(), packet.ICMPv4Unreachable, packet.ICMPv4CodePortUnreachable, frame)
	}
	if info.Kind == packet.KindIPv6 {
		return packettest.ICMPError(netip.MustParseAddr("2001:db8:7::7"), info.Src.Netip(), packet.ICMPv6Unreachable, packet.ICMPv6CodePortUnreachable, frame)
	}
	return nil
}

// TestLedgerAlwaysBalances drives random packets, random full rings and random
// snapshot swaps through a worker, and demands after every single round that
// every frame is accounted for and every chunk has one owner.
func TestLedgerAlwaysBalances(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			balances(t, seed)
		})
	}
}

func balances(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 7))
	services := everyService()
	n := newNodeWith(t, nictest.Config{RXSize: 64, TXSize: 32, FillSize: 256, CompletionSize: 256, Seed: seed, KickBudget: 16, Faults: nictest.Faults{
		ShortReceive: 0.2, TransmitFull: 0.2, RefillFull: 0.2, KickIdle: 0.2, CompletionDelay: 3,
	}}, services...)
	n.quiet = true
	r := &traffic{Rand: random, services: services}
	injected := uint64(0)
	for round := range 2500 {
		for range random.IntN(48) {
			port, frame := r.frame()
			if n.queues[port].Inject(frame) {
				injected++
			}
		}
		n.worker.Step()
		if err := n.ledger.Check(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if round%64 == 0 {
			n.check()
		}
		for port := range n.queues {
			if sent := n.queues[port].Sent(); len(sent) > 0 {
				r.sent[port] = sent
			}
		}
		switch random.IntN(64) {
		case 0:
			n.now += 200
		case 1:
			n.mutate(random)
		case 3:
			n.queues[random.IntN(2)].RefuseTransmit(100)
		case 2:
			down := random.IntN(2)
			n.queues[down].SetDown(true)
			n.worker.Step()
			n.queues[down].SetDown(false)
		}
	}
	for i := range n.queues {
		n.queues[i].RefuseTransmit(0)
	}
	for range 8 {
		n.now += 1000
		for n.worker.Step() > 0 {
		}
	}
	n.check()
	if n.ledger.Received != injected {
		t.Errorf("%d frames arrived, the ledger received %d", injected, n.ledger.Received)
	}
	if n.ledger.InFlight != 0 {
		t.Errorf("%d frames are still in flight", n.ledger.InFlight)
	}
	if got := n.pool.Count(0) + n.pool.Count(1); got != n.pool.Chunks() {
		t.Errorf("%d of %d chunks are free or in fill rings", got, n.pool.Chunks())
	}
	for _, must := range []reason.Reason{reason.ForwardNew, reason.ForwardFlow, reason.ReplyFlow, reason.FragmentForward, reason.EchoReply,
		reason.ARPReply, reason.NeighborAdvert, reason.ICMPErrorForward, reason.TTLExpiredReply, reason.TransmitRingFull, reason.ServiceNotFound} {
		if n.ledger.Ended[must] == 0 {
			t.Errorf("no frame ended with %v: the test is not what it claims to be", must)
		}
	}
}

// mutate publishes the FIB with something changed: a backend down, up,
// draining or gone, a next hop lost, a service removed.
func (n *node) mutate(random *rand.Rand) {
	slot := 1 + random.IntN(len(n.b.Backends)-1)
	b := &n.b.Backends[slot]
	switch random.IntN(6) {
	case 0:
		b.Flags ^= fib.BackendDown
	case 1:
		b.Flags ^= fib.BackendDraining
	case 2:
		n.b.NextHops[0].Resolved ^= 1
	case 3:
		// Another backend has taken the slot: the flows of the old one are of
		// a backend that is gone.
		b.ID = fib.MakeID(b.ID.Slot(), b.ID.Epoch()%200+1)
	case 4:
		s := &n.b.Services[1+random.IntN(len(n.b.Services)-1)]
		s.ID = fib.MakeID(s.ID.Slot(), s.ID.Epoch()%200+1)
	case 5:
		n.b.NextHops[0].MTU = 1280 + uint32(random.IntN(300))
	}
	n.publish()
}
