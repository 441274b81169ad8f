package dataplane

import (
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
	"fairlead/dataplane/rewrite"
)

// Input is all that Decide may look at. The caller has parsed the packet and
// looked up what the tables know of it.
type Input struct {
	Snapshot *fib.Snapshot
	Info     *packet.Info
	Local    *fib.Local     // the address of ours it was sent to (or asks for), nil when there is none
	Flow     *flow.Flow     // the flow it belongs to, or that an ICMP error quotes; nil when none is known
	Dir      flow.Direction // the direction of Flow it matched
	Affinity *flow.Flow     // the client's session affinity record, nil when there is none
	MayReply bool           // an answer to this packet is allowed by RFC 1122 and RFC 4443
	MTU      uint32         // largest IP packet of the interface a NAT reply leaves by, 0 when that is not known
}

// Decide says what happens to a packet. It is pure: the worker, replay,
// explain and every test call this one function, and nothing else decides
// where a packet goes or why it is dropped. What later stages may still find
// (a full ring, no free SNAT port, a spent reply budget) has reasons of its
// own.
func Decide(in *Input) Verdict {
	switch in.Info.Kind {
	case packet.KindARP:
		return decideARP(in)
	case packet.KindIPv4, packet.KindIPv6:
	default:
		return pass(reason.PassNonIP)
	}
	if isNeighborSolicitation(in.Info) {
		return decideNeighbor(in)
	}
	if in.Local == nil {
		return pass(reason.PassNotOurs)
	}
	switch in.Local.Kind {
	case fib.LocalVIP:
		if isICMP(in.Info.Proto) {
			return decideICMP(in)
		}
		return decideForward(in)
	case fib.LocalSNAT:
		if isICMP(in.Info.Proto) {
			return decideICMP(in)
		}
		return decideReply(in)
	}
	return pass(reason.PassNotOurs)
}

func decideARP(in *Input) Verdict {
	if in.Info.ARPOp != packet.ARPRequest || in.Local == nil || in.Local.Flags&fib.LocalAnswerARP == 0 {
		return pass(reason.PassARP)
	}
	return answer(reason.ARPReply, OpARPReply)
}

func decideNeighbor(in *Input) Verdict {
	if in.Local == nil || in.Local.Flags&fib.LocalAnswerARP == 0 {
		return pass(reason.PassNeighbor)
	}
	return answer(reason.NeighborAdvert, OpNeighborAdvert)
}

// decideForward is for TCP, UDP and SCTP packets to a VIP.
func decideForward(in *Input) Verdict {
	s, info := in.Snapshot, in.Info
	if !isTransport(info.Proto) {
		return drop(reason.ProtocolUnsupported)
	}
	if f := in.Flow; f != nil && in.Dir == flow.Forward {
		if svc := s.ServiceByID(fib.ID(f.ServiceID)); svc != nil {
			return decideKnown(in, svc)
		}
		// The service the flow was made for is gone; another may have its port.
	}
	svc := s.Service(in.Local.ID, info.Proto, info.DstPort)
	if svc == nil {
		return forget(in, drop(reason.ServiceNotFound))
	}
	return decideNew(in, svc)
}

// decideKnown is for packets of a flow that the table knows.
func decideKnown(in *Input, svc *fib.Service) Verdict {
	s, info, f := in.Snapshot, in.Info, in.Flow
	if !s.Allowed(svc, info.Src) {
		return forget(in, dropAt(reason.SourceNotAllowed, svc))
	}
	if restarts(info, f) {
		return decideNew(in, svc)
	}
	b := s.BackendByID(fib.ID(f.BackendID))
	bound := f.SNAT != 0
	if b == nil || b.Flags&fib.BackendDown != 0 || bound != (svc.Method == fib.MethodNAT) || bound && s.LocalByID(f.SNAT) == nil {
		return decideGone(in, svc)
	}
	r := reason.ForwardFlow
	if info.Frag&packet.FragAny != 0 && info.Frag&packet.FragFirst == 0 {
		r = reason.FragmentForward
	}
	return carry(in, svc, b, Verdict{Reason: r, FlowOp: FlowTouch})
}

// decideGone is for packets of a flow whose backend is dead or removed.
func decideGone(in *Input, svc *fib.Service) Verdict {
	if in.Info.Proto != packet.ProtoTCP || svc.Gone == fib.GoneRehash {
		return decideNew(in, svc)
	}
	if svc.Gone == fib.GoneReset && in.MayReply && in.Info.TCPFlags&packet.TCPFlagRST == 0 && in.Info.Frag == 0 {
		v := answer(reason.ResetReply, OpReset)
		v.Service, v.FlowOp = svc.ID.Slot(), FlowForget
		return v
	}
	return forget(in, dropAt(reason.BackendGone, svc))
}

// decideNew chooses a backend by session affinity or by Maglev.
func decideNew(in *Input, svc *fib.Service) Verdict {
	s, info := in.Snapshot, in.Info
	if !s.Allowed(svc, info.Src) {
		return dropAt(reason.SourceNotAllowed, svc)
	}
	if svc.Method == fib.MethodNAT {
		switch {
		case info.Frag&packet.FragAny != 0 && info.Frag&packet.FragFirst == 0:
			return forget(in, dropAt(reason.FlowNotFound, svc))
		case info.Proto == packet.ProtoTCP && in.Flow == nil && !opens(info):
			return dropAt(reason.TCPNotSYN, svc)
		}
	}
	b := choose(in, svc)
	if b == nil {
		return forget(in, dropAt(reason.ServiceEmpty, svc))
	}
	v := Verdict{Reason: reason.ForwardNew, FlowOp: FlowInsert}
	if in.Flow != nil {
		v.FlowOp = FlowReplace
	}
	return carry(in, svc, b, v)
}

// choose picks the backend of a new flow, nil when the pool has none.
func choose(in *Input, svc *fib.Service) *fib.Backend {
	s, info := in.Snapshot, in.Info
	if svc.Affinity != 0 && in.Affinity != nil {
		b := s.BackendByID(fib.ID(in.Affinity.BackendID))
		if b != nil && b.Pool == svc.Pool && b.Flags&(fib.BackendDown|fib.BackendDraining) == 0 && b.Weight > 0 {
			return b
		}
	}
	slot := s.Pick(s.Pool(svc.Pool), FlowHash(s, svc, info.Src, info.Dst, info.SrcPort, info.DstPort, info.Proto))
	if slot == fib.NoIndex {
		return nil
	}
	return s.Backend(slot)
}

// FlowHash is the hash that picks a flow's Maglev slot: of the whole 5-tuple,
// or of the client's address alone when the service has session affinity.
func FlowHash(s *fib.Snapshot, svc *fib.Service, src, dst packet.Addr, sport, dport uint16, proto uint8) uint64 {
	if svc.Affinity != 0 {
		return s.AffinityHash(src, dst)
	}
	return s.FlowHash(src, dst, sport, dport, proto)
}

// carry completes a verdict that sends the packet to backend b, or says why it
// cannot get there.
func carry(in *Input, svc *fib.Service, b *fib.Backend, v Verdict) Verdict {
	s, info := in.Snapshot, in.Info
	v.Action = reason.Transmit
	v.Service, v.Backend, v.NextHop = svc.ID.Slot(), b.ID.Slot(), b.NextHop
	if info.TTL <= 1 {
		return expired(in, v)
	}
	if b.NextHop == fib.NoIndex || s.NextHop(b.NextHop).Resolved == 0 {
		return v.fail(reason.NextHopUnresolved)
	}
	switch svc.Method {
	case fib.MethodNAT:
		v.Op = OpNATForward
	case fib.MethodIPIP:
		v.Op = OpIPIP
	case fib.MethodGUE:
		v.Op = OpGUE
	case fib.MethodL2:
		v.Op = OpL2
	}
	if svc.Method == fib.MethodNAT || svc.Method == fib.MethodL2 {
		if b.Addr.Is4() != (info.Kind == packet.KindIPv4) {
			return v.fail(reason.FamilyMismatch)
		}
	} else if tunnelSource(s, b).IsZero() {
		return v.fail(reason.FamilyMismatch)
	}
	mtu := s.NextHop(b.NextHop).MTU
	if b.MTU != 0 {
		mtu = b.MTU
	}
	return fits(in, v, mtu, uint32(rewrite.Overhead(svc.Method, !b.Addr.Is4())))
}

// tunnelSource is the outer source address of packets to b.
func tunnelSource(s *fib.Snapshot, b *fib.Backend) packet.Addr {
	if b.Addr.Is4() {
		return s.Settings().Tunnel4
	}
	return s.Settings().Tunnel6
}

// decideReply is for TCP, UDP and SCTP packets to a SNAT address.
func decideReply(in *Input) Verdict {
	f := in.Flow
	if f == nil || in.Dir != flow.Reply {
		return drop(reason.FlowNotFound)
	}
	svc := in.Snapshot.ServiceByID(fib.ID(f.ServiceID))
	if svc == nil {
		return forget(in, drop(reason.ServiceNotFound))
	}
	v := Verdict{Action: reason.Transmit, Reason: reason.ReplyFlow, Op: OpNATReply, FlowOp: FlowTouch, Service: svc.ID.Slot(), Backend: fib.ID(f.BackendID).Slot(), NextHop: fib.NoIndex}
	if in.Info.Frag&packet.FragAny != 0 && in.Info.Frag&packet.FragFirst == 0 {
		v.Reason = reason.FragmentForward
	}
	if in.Info.TTL <= 1 {
		return expired(in, v)
	}
	if in.MTU == 0 || in.Snapshot.LocalByID(f.VIP) == nil {
		return v.fail(reason.NextHopUnresolved)
	}
	return fits(in, v, in.MTU, 0)
}

// expired answers a packet whose TTL has run out.
func expired(in *Input, v Verdict) Verdict {
	if !in.MayReply {
		return v.fail(reason.TTLExpired)
	}
	return v.answerInstead(reason.TTLExpiredReply, OpTTLExpired)
}

// fits answers packets that exceed the path's MTU and must not be fragmented;
// v stands for all others, which the worker fragments when they are too long.
func fits(in *Input, v Verdict, mtu, overhead uint32) Verdict {
	if mtu == 0 || uint32(in.Info.IPLen)+overhead <= mtu {
		return v
	}
	room := mtu - min(mtu, overhead)
	v.MTU = room
	if !in.Info.DontFragment && room >= ipv4MinMTU {
		return v
	}
	if !in.MayReply {
		return v.fail(reason.TooBig)
	}
	return v.answerInstead(reason.TooBigReply, OpTooBig)
}

// ipv4MinMTU is what every IPv4 link carries (RFC 791 section 3.1).
const ipv4MinMTU = 68

// restarts reports whether a SYN opens a new connection on the tuple of one
// that has ended.
func restarts(info *packet.Info, f *flow.Flow) bool {
	return opens(info) && (f.State == flow.StateFinWait || f.State == flow.StateClosed)
}

func opens(info *packet.Info) bool {
	return info.TCPFlags&(packet.TCPFlagSYN|packet.TCPFlagACK) == packet.TCPFlagSYN
}

func isTransport(proto uint8) bool {
	return proto == packet.ProtoTCP || proto == packet.ProtoUDP || proto == packet.ProtoSCTP
}

func isICMP(proto uint8) bool { return proto == packet.ProtoICMP || proto == packet.ProtoICMPv6 }

func isNeighborSolicitation(info *packet.Info) bool {
	return info.Kind == packet.KindIPv6 && info.Proto == packet.ProtoICMPv6 && info.Frag == 0 && info.ICMPType == packet.ICMPv6NeighborSolicit
}
