package dataplane_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// The addresses and identities of the FIBs that Decide is tested with.
const (
	slotUp, slotDraining, slotDown, slotReused = 1, 2, 3, 4

	vipID, snatID, otherVIPID, quietID, tunnelID = 1, 2, 3, 4, 5
	removedID                                    = 77
)

var slotOf = map[health]uint32{up: slotUp, draining: slotDraining, down: slotDown}

func decideAddr(v6 bool, n int) packet.Addr {
	if v6 {
		return addr(fmt.Sprintf("2001:db8::%x", n))
	}
	return addr(fmt.Sprintf("198.18.0.%d", n))
}

// decideSnapshot is the node of a situation: a service on port 80 of each
// protocol, and a pool with a backend of each health. Maglev chooses the one
// that is up.
func decideSnapshot(t testing.TB, s *situation) *fib.Snapshot {
	t.Helper()
	b := &fib.Builder{
		Settings:   fib.Settings{HashSeed: [2]uint64{3, 4}, Tunnel4: addr("198.18.10.1"), Tunnel6: addr("2001:db8:10::1"), GUEPort: 6080, OuterTTL: 64},
		Interfaces: []fib.Interface{{MAC: ourMAC0, MTU: 1500, Gateway: fib.NoIndex}},
		NextHops:   []fib.NextHop{{DstMAC: backendMAC, SrcMAC: ourMAC0, Resolved: 1, MTU: 1500}, {SrcMAC: ourMAC0, MTU: 1500}},
		Timeouts:   []fib.Timeouts{{}},
		Locals: []fib.Local{
			{Addr: decideAddr(s.v6, 1), ID: vipID, Kind: fib.LocalVIP, Flags: fib.LocalAnswerARP, SNAT: fib.NoIndex},
			{Addr: decideAddr(s.v6, 2), ID: snatID, Kind: fib.LocalSNAT, Flags: fib.LocalAnswerARP, SNAT: 0},
			{Addr: decideAddr(s.v6, 3), ID: otherVIPID, Kind: fib.LocalVIP, SNAT: fib.NoIndex},
			{Addr: decideAddr(s.v6, 4), ID: quietID, Kind: fib.LocalVIP, Flags: fib.LocalNoPing, SNAT: fib.NoIndex},
			{Addr: decideAddr(s.v6, 5), ID: tunnelID, Kind: fib.LocalTunnel, Flags: fib.LocalAnswerARP, SNAT: fib.NoIndex},
		},
		SNATs:    []fib.SNAT{{Addr: decideAddr(s.v6, 2), Local: snatID, PortFirst: 1024, PortLast: 65535}},
		Services: []fib.Service{{}},
		Backends: []fib.Backend{{}},
	}
	for _, state := range []health{up, draining, down, gone} {
		slot := uint32(len(b.Backends))
		backend := fib.Backend{Addr: decideAddr(s.v6 != s.otherFamily, 100+int(slot)), ID: fib.MakeID(slot, 1), Weight: 1, Port: 8080}
		switch state {
		case draining:
			backend.Flags, backend.Weight = fib.BackendDraining, 0
		case down:
			backend.Flags = fib.BackendDown
		case gone:
			backend.ID = fib.MakeID(slot, 2)
		}
		switch s.way {
		case unresolved:
			backend.NextHop = 1
		case noRoute:
			backend.NextHop = fib.NoIndex
		}
		b.Backends = append(b.Backends, backend)
		b.Members = append(b.Members, slot)
	}
	pool := fib.Pool{MemberCount: uint32(len(b.Members))}
	if !s.empty {
		b.Tables = []uint16{0, 0, 0, 0, 0, 0, 0}
		pool.TableSize = uint32(len(b.Tables))
	}
	b.Pools = []fib.Pool{pool}
	for _, proto := range []uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP} {
		svc := fib.Service{ID: fib.MakeID(uint32(len(b.Services)), 1), Local: vipID, PortFirst: 80, PortLast: 80, Proto: proto, Method: s.method, Gone: s.policy}
		if s.sticky {
			svc.Affinity, svc.AffinityMS = 1, 1000
		}
		if s.closed {
			b.SourceRanges = []fib.SourceRange{{Addr: addr("2001:db8:ffff::"), Bits: 48}}
			svc.RangeCount = 1
		}
		b.Services = append(b.Services, svc)
		b.Matches = append(b.Matches, fib.PortMatch{Local: vipID, Proto: proto, PortFirst: 80, PortLast: 80, Service: svc.ID.Slot()})
	}
	image, err := b.Encode(1)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := fib.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}

func serviceSlot(proto uint8) uint32 {
	switch proto {
	case packet.ProtoTCP:
		return 1
	case packet.ProtoUDP:
		return 2
	}
	return 3
}

func backendID(h health) uint32 {
	switch h {
	case gone:
		return uint32(fib.MakeID(slotReused, 1))
	case beyond:
		return uint32(fib.MakeID(1000, 1))
	}
	return uint32(fib.MakeID(slotOf[h], 1))
}

// input is a situation as Decide sees it, with what it points to.
type input struct {
	dataplane.Input
	info     packet.Info
	flow     flow.Flow
	affinity flow.Flow
	frame    [14]byte
}

func (s *situation) input(snapshot *fib.Snapshot, in *input) {
	*in = input{}
	copy(in.frame[:], ourMAC0[:])
	if s.toGroup {
		in.frame[0] |= 1
	}
	in.Snapshot, in.Frame, in.Info = snapshot, in.frame[:], &in.info
	dst := 9
	switch s.to {
	case fib.LocalVIP:
		dst = 1
	case fib.LocalSNAT:
		dst = 2
	case fib.LocalTunnel:
		dst = 5
	}
	in.info = packet.Info{Src: decideAddr(s.v6, 50), Dst: decideAddr(s.v6, dst), Kind: packet.KindIPv4, Proto: s.proto, TTL: s.ttl, TCPFlags: s.flags,
		L3: 14, IPLen: uint16(s.size), SrcPort: 4000, DstPort: 80, DontFragment: !s.mayCut}
	if s.v6 {
		in.info.Kind, in.info.DontFragment = packet.KindIPv6, true
	}
	if s.fromVIP {
		in.info.Src = decideAddr(s.v6, 3)
	}
	if s.noService {
		in.info.DstPort = 81
	}
	switch s.piece {
	case firstPiece:
		in.info.Frag = packet.FragAny | packet.FragFirst | packet.FragMore
	case laterPiece:
		in.info.Frag = packet.FragAny
	}
	in.Local = snapshot.Local(in.info.Dst)
	if s.known {
		in.flow = flow.Flow{Client: decideAddr(s.v6, 50), ClientPort: 4000, VIP: vipID, VIPPort: 80, Proto: s.proto, State: s.state,
			ServiceID: uint32(fib.MakeID(serviceSlot(s.proto), 1)), BackendID: backendID(s.backend)}
		if s.serviceEnd {
			in.flow.ServiceID = uint32(fib.MakeID(serviceSlot(s.proto), 7))
		}
		switch s.binding {
		case bound:
			in.flow.SNAT, in.flow.SNATPort = snatID, 5000
		case released:
			in.flow.SNAT, in.flow.SNATPort = removedID, 5000
		}
		in.Flow = &in.flow
		if s.to == fib.LocalSNAT {
			in.Dir = flow.Reply
		}
	}
	if s.client >= 0 {
		in.affinity = flow.Flow{State: flow.StateAffinity, BackendID: backendID(health(s.client))}
		in.Affinity, in.Over = &in.affinity, s.over
	}
	if s.hasReturn {
		in.MTU = 1500
	}
}

// check compares Decide with the oracle.
func (s *situation) check(t *testing.T, snapshot *fib.Snapshot, seen map[reason.Reason]int) {
	var in input
	s.input(snapshot, &in)
	info, fl, affinity, frame := in.info, in.flow, in.affinity, in.frame
	v := dataplane.Decide(&in.Input)
	seen[v.Reason]++
	if in.info != info || in.flow != fl || in.affinity != affinity || in.frame != frame {
		t.Fatalf("%+v: Decide has changed its input", *s)
	}
	if again := dataplane.Decide(&in.Input); again != v {
		t.Fatalf("%+v: decided once %+v, then %+v", *s, v, again)
	}
	want := s.expect()
	w := dataplane.Verdict{Action: want.reason.Action(), Reason: want.reason, Op: want.op, FlowOp: want.flow,
		Service: fib.NoIndex, Backend: fib.NoIndex, NextHop: v.NextHop, MTU: v.MTU}
	if want.service {
		w.Service = serviceSlot(s.proto)
	}
	if want.backend != nobody {
		w.Backend = slotOf[want.backend]
	}
	if w.Action == reason.Transmit {
		w.MTU, w.NextHop = want.mtu, fib.NoIndex
		if want.op == dataplane.OpNATForward || want.op == dataplane.OpL2 || want.op == dataplane.OpIPIP || want.op == dataplane.OpGUE {
			w.NextHop = 0
		}
	}
	if v != w {
		t.Fatalf("%+v:\n got %+v %v\nwant %+v %v", *s, v, v.Reason, w, w.Reason)
	}
}

// nodes calls f for every node of the domain.
func nodes(t *testing.T, f func(s situation, snapshot *fib.Snapshot)) {
	booleans := []bool{false, true}
	for _, method := range []fib.Method{fib.MethodNAT, fib.MethodIPIP, fib.MethodGUE, fib.MethodL2} {
		for _, policy := range []fib.GonePolicy{fib.GoneReset, fib.GoneRehash, fib.GoneDrop} {
			for _, way := range []way{resolved, unresolved, noRoute} {
				for _, v6 := range booleans {
					for _, otherFamily := range booleans {
						for _, empty := range booleans {
							for _, closed := range booleans {
								for _, sticky := range booleans {
									s := situation{method: method, policy: policy, way: way, v6: v6, otherFamily: otherFamily, empty: empty, closed: closed, sticky: sticky}
									f(s, decideSnapshot(t, &s))
								}
							}
						}
					}
				}
			}
		}
	}
}

// TestDecide compares Decide with the oracle on every node of the domain. The
// packets and what the flow table may know of them are so many that each run
// takes others.
func TestDecide(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	seen := make(map[reason.Reason]int)
	count := 0
	nodes(t, func(s situation, snapshot *fib.Snapshot) {
		packets(s, func(s situation) {
			if random.IntN(6) == 0 {
				s.randomFlow(random)
				s.check(t, snapshot, seen)
				count++
			}
		})
	})
	t.Logf("%d situations: %v", count, seen)
	for _, r := range []reason.Reason{
		reason.ForwardNew, reason.ForwardFlow, reason.ReplyFlow, reason.FragmentForward, reason.TooBigReply, reason.TTLExpiredReply, reason.ResetReply,
		reason.PassNotOurs, reason.ProtocolUnsupported, reason.ServiceNotFound, reason.ServiceEmpty, reason.RefusedReply, reason.BackendGone, reason.FlowNotFound, reason.TCPNotSYN,
		reason.NextHopUnresolved, reason.SourceNotAllowed, reason.SourceInvalid, reason.TTLExpired, reason.TooBig, reason.FamilyMismatch, reason.LinkBroadcast,
	} {
		if seen[r] == 0 {
			t.Errorf("no situation ends with %v", r)
		}
	}
}

// TestDecideKnownFlows goes through every state that the flow table may be in,
// on the nodes where that matters, for packets without a fault of their own.
func TestDecideKnownFlows(t *testing.T) {
	seen := make(map[reason.Reason]int)
	nodes(t, func(s situation, snapshot *fib.Snapshot) {
		if s.way != resolved || s.otherFamily || s.v6 {
			return
		}
		s.ttl, s.size, s.hasReturn, s.known = 64, 1000, true, true
		for _, s.to = range []fib.LocalKind{fib.LocalVIP, fib.LocalSNAT} {
			for _, s.proto = range []uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP} {
				for _, s.flags = range flagsOf(s.proto) {
					for _, s.piece = range []piece{whole, firstPiece, laterPiece} {
						eachFlow(s, func(s situation) { s.check(t, snapshot, seen) })
					}
				}
			}
		}
	})
}

func eachFlow(s situation, f func(situation)) {
	states := []flow.State{flow.StateUnreplied, flow.StateStream}
	if s.proto == packet.ProtoTCP {
		states = []flow.State{flow.StateHalfOpen, flow.StateEstablished, flow.StateFinWait, flow.StateClosed}
	}
	for _, s.state = range states {
		for _, s.serviceEnd = range []bool{false, true} {
			for s.backend = up; s.backend <= beyond; s.backend++ {
				for s.binding = unbound; s.binding <= released; s.binding++ {
					if s.to == fib.LocalSNAT && s.binding != bound {
						continue
					}
					for s.client = -1; s.client <= int(beyond) && (s.sticky || s.client < 0); s.client++ {
						s.noService = s.serviceEnd && s.client == int(down)
						f(s)
					}
				}
			}
		}
	}
}

func flagsOf(proto uint8) []uint8 {
	if proto != packet.ProtoTCP {
		return []uint8{0}
	}
	return []uint8{packet.TCPFlagSYN, packet.TCPFlagSYN | packet.TCPFlagACK, packet.TCPFlagACK, packet.TCPFlagACK | packet.TCPFlagFIN, packet.TCPFlagRST}
}

// packets calls f for every packet of the domain.
func packets(s situation, f func(situation)) {
	booleans := []bool{false, true}
	for _, s.to = range []fib.LocalKind{0, fib.LocalTunnel, fib.LocalVIP, fib.LocalSNAT} {
		for _, s.proto = range []uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP, 47} {
			if s.to == fib.LocalSNAT && s.proto == 47 {
				continue // has no flow and ends with that
			}
			for _, s.flags = range flagsOf(s.proto) {
				for _, s.piece = range []piece{whole, firstPiece, laterPiece} {
					for _, s.ttl = range []uint8{0, 1, 2} {
						for _, s.size = range []uint32{1000, 1480, 1501} {
							for _, s.mayCut = range booleans {
								for _, s.toGroup = range booleans {
									f(s)
								}
							}
						}
					}
				}
			}
		}
	}
}

// randomFlow puts the packet in relation to the flow table at random.
func (s *situation) randomFlow(r *rand.Rand) {
	s.noService, s.fromVIP, s.hasReturn = r.IntN(8) == 0, r.IntN(8) == 0, r.IntN(8) != 0
	s.known = r.IntN(3) != 0
	s.client, s.over = r.IntN(int(beyond)+2)-1, r.IntN(3) == 0
	s.serviceEnd = r.IntN(6) == 0
	s.backend, s.binding = health(r.IntN(int(beyond)+1)), binding(r.IntN(3))
	if s.to == fib.LocalSNAT {
		s.binding = bound
	}
	states := []flow.State{flow.StateUnreplied, flow.StateStream}
	if s.proto == packet.ProtoTCP {
		states = []flow.State{flow.StateHalfOpen, flow.StateEstablished, flow.StateFinWait, flow.StateClosed}
	}
	s.state = states[r.IntN(len(states))]
}
