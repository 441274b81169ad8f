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
	Frame    []byte
	Info     *packet.Info   // of Frame; the ports of a later fragment are those of its first one
	Local    *fib.Local     // the address of ours it was sent to (or asks for), nil when there is none
	Flow     *flow.Flow     // the flow it belongs to, or that an ICMP error quotes; nil when none is known
	Affinity *flow.Flow     // the client's session affinity record, nil when there is none
	Over     bool           // Affinity is there, but its time is over: the client may go anywhere
	Dir      flow.Direction // the direction of Flow it matched
	MTU      uint32         // largest IP packet of the interface a NAT reply leaves by, 0 when that is not known
}

// mayReply reports whether an answer to the packet is allowed (RFC 1122 section
// 3.2.2, RFC 4443 section 2.4).
func (in *Input) mayReply() bool { return rewrite.MayReply(in.Frame, in.Info) }

// Decide says what happens to a packet. It is pure: the worker, replay,
// explain and every test call this one function, and nothing else decides
// where a packet goes or why it is dropped. What later stages may still find
// (a full ring, no free SNAT port, a spent reply budget) has reasons of its
// own.
func Decide(in *Input) Verdict {
	v := none
	decide(in, &v)
	return v
}

func decide(in *Input, v *Verdict) {
	switch in.Info.Kind {
	case packet.KindIPv4, packet.KindIPv6:
	case packet.KindARP:
		decideARP(in, v)
		return
	default:
		v.pass(reason.PassNonIP)
		return
	}
	switch {
	case isNeighborSolicitation(in.Info):
		decideNeighbor(in, v)
	case in.Local == nil || in.Local.Kind == fib.LocalTunnel:
		v.pass(reason.PassNotOurs)
	case packet.Ethernet(in.Frame).DstIsGroup():
		// Every other node on the segment has it too.
		v.drop(reason.LinkBroadcast)
	case isICMP(in.Info.Proto):
		decideICMP(in, v)
	case in.Local.Kind == fib.LocalVIP:
		decideForward(in, v)
	default:
		decideReply(in, v)
	}
}

func decideARP(in *Input, v *Verdict) {
	if in.Info.ARPOp != packet.ARPRequest || in.Local == nil || in.Local.Flags&fib.LocalAnswerARP == 0 {
		v.pass(reason.PassARP)
		return
	}
	v.answer(reason.ARPReply, OpARPReply)
}

func decideNeighbor(in *Input, v *Verdict) {
	if in.Local == nil || in.Local.Flags&fib.LocalAnswerARP == 0 {
		v.pass(reason.PassNeighbor)
		return
	}
	v.answer(reason.NeighborAdvert, OpNeighborAdvert)
}

// decideForward is for TCP, UDP and SCTP packets to a VIP.
func decideForward(in *Input, v *Verdict) {
	s, info := in.Snapshot, in.Info
	if !isTransport(info.Proto) {
		v.drop(reason.ProtocolUnsupported)
		return
	}
	if f := in.Flow; f != nil && in.Dir == flow.Forward {
		if svc := s.ServiceByID(fib.ID(f.ServiceID)); svc != nil {
			decideKnown(in, svc, v)
			return
		}
	}
	svc := s.Service(in.Local.ID, info.Proto, info.DstPort)
	switch {
	case svc == nil:
		v.drop(reason.ServiceNotFound)
		v.forget(in)
	case in.Flow != nil && svc.Method == fib.MethodNAT && s.Allowed(svc, info.Src):
		// The service that the flow was made for is gone, and its binding with
		// it; another service has the port now.
		decideGone(in, svc, v)
	default:
		decideNew(in, svc, v)
	}
}

// decideKnown is for packets of a flow that the table knows.
func decideKnown(in *Input, svc *fib.Service, v *Verdict) {
	s, info, f := in.Snapshot, in.Info, in.Flow
	v.Service = svc.ID.Slot()
	if !s.Allowed(svc, info.Src) {
		v.drop(reason.SourceNotAllowed)
		v.forget(in)
		return
	}
	if restarts(info, f) {
		decideNew(in, svc, v)
		return
	}
	b := s.BackendByID(fib.ID(f.BackendID))
	bound := f.SNAT != 0
	if b == nil || b.Flags&fib.BackendDown != 0 || bound != (svc.Method == fib.MethodNAT) || bound && s.LocalByID(f.SNAT) == nil {
		decideGone(in, svc, v)
		return
	}
	v.Reason, v.FlowOp = reason.ForwardFlow, FlowTouch
	if isLaterFragment(info) {
		v.Reason = reason.FragmentForward
	}
	carry(in, svc, b, v)
}

// decideGone is for packets of a flow whose backend is dead or removed. A SYN
// has no connection to lose, whatever the policy says of those.
func decideGone(in *Input, svc *fib.Service, v *Verdict) {
	v.Service = svc.ID.Slot()
	switch {
	case in.Info.Proto != packet.ProtoTCP, svc.Gone == fib.GoneRehash, opens(in.Info):
		decideNew(in, svc, v)
		return
	case svc.Gone == fib.GoneReset && rewrite.MayReset(in.Frame, in.Info):
		// The client believes a reset only when its sequence number is the next
		// one due, and else asks with a challenge ACK for another (RFC 5961
		// section 3.2): so the flow is not forgotten yet.
		v.answer(reason.ResetReply, OpReset)
		v.FlowOp = FlowReset
	default:
		v.drop(reason.BackendGone)
		v.forget(in)
	}
}

// decideNew chooses a backend by session affinity or by Maglev.
func decideNew(in *Input, svc *fib.Service, v *Verdict) {
	s, info := in.Snapshot, in.Info
	v.Service = svc.ID.Slot()
	b, r := (*fib.Backend)(nil), reason.None
	switch {
	case !s.Allowed(svc, info.Src):
		r = reason.SourceNotAllowed
	case isVIP(s, info.Src):
		r = reason.SourceInvalid
	case svc.Method == fib.MethodNAT && isLaterFragment(info):
		r = reason.FlowNotFound
	case svc.Method == fib.MethodNAT && info.Proto == packet.ProtoTCP && in.Flow == nil && !opens(info):
		r = reason.TCPNotSYN
	default:
		if b = choose(in, svc); b == nil {
			refuse(in, svc, v)
			return
		}
	}
	if r != reason.None {
		v.drop(r)
		v.forget(in)
		return
	}
	v.Reason, v.FlowOp = reason.ForwardNew, FlowInsert
	if in.Flow != nil {
		v.FlowOp = FlowReplace
	}
	carry(in, svc, b, v)
}

// refuse is for packets that no backend is there for. Who asks for a connection, or
// sends a datagram, is told at once that there is none, as by a host where nothing
// listens; a packet that seems to belong to a connection is not answered, for a
// backend that takes no new flows may well have that one.
func refuse(in *Input, svc *fib.Service, v *Verdict) {
	switch {
	case svc.Gone == fib.GoneDrop:
		v.drop(reason.ServiceEmpty)
	case opens(in.Info) && rewrite.MayReset(in.Frame, in.Info):
		v.answer(reason.RefusedReply, OpReset)
	case in.Info.Proto == packet.ProtoUDP && in.mayReply():
		v.answer(reason.RefusedReply, OpUnreachable)
	default:
		v.drop(reason.ServiceEmpty)
	}
	v.forget(in)
}

// portUnreachable is the code of a family's port-unreachable (RFC 792, RFC 4443
// section 3.1).
func portUnreachable(info *packet.Info) uint8 {
	if info.Kind == packet.KindIPv4 {
		return packet.ICMPv4CodePortUnreachable
	}
	return packet.ICMPv6CodePortUnreachable
}

// choose picks the backend of a new flow, nil when the pool has none. A TCP
// packet that opens no connection belongs to one that another node has seen the
// beginning of, or this one before it lost its table: it goes by the base, which
// is the same everywhere and does not follow every change.
func choose(in *Input, svc *fib.Service) *fib.Backend {
	s, info := in.Snapshot, in.Info
	hash := FlowHash(s, svc, info.Src, info.Dst, info.SrcPort, info.DstPort, info.Proto)
	if in.Flow == nil && info.Proto == packet.ProtoTCP && !opens(info) {
		if slot, ok := s.PickBase(s.Pool(svc.Pool), hash); ok && slot != fib.NoIndex {
			if b := s.Backend(slot); b.Flags&fib.BackendDown == 0 {
				return b
			}
		}
	}
	if svc.Affinity != 0 && in.Affinity != nil && in.Over {
		hash = s.FlowHash(info.Src, info.Dst, info.SrcPort, info.DstPort, info.Proto)
	} else if svc.Affinity != 0 && in.Affinity != nil {
		b := s.BackendByID(fib.ID(in.Affinity.BackendID))
		if b != nil && b.Pool == svc.Pool && b.Flags&(fib.BackendDown|fib.BackendDraining) == 0 && b.Weight > 0 {
			return b
		}
	}
	slot := s.Pick(s.Pool(svc.Pool), hash)
	if slot == fib.NoIndex {
		return nil
	}
	return s.Backend(slot)
}

// Known reports whether every node of the cluster sends packets of a flow where
// this one does, without having been told of it: the flow's backend is the one
// that its pool's base has for it, and the other base where there is one; or, where
// no first packet would show that a connection begins, the one that the table has. A
// flow that is not known is an exception, of which peers are told. Nobody is told of
// flows of a pool without a base, nor of NAT flows, whose bindings are this node's
// own.
func Known(s *fib.Snapshot, f *flow.Flow) bool {
	svc, vip := s.ServiceByID(fib.ID(f.ServiceID)), s.LocalByID(f.VIP)
	if svc == nil || vip == nil || svc.Method == fib.MethodNAT || f.State == flow.StateAffinity {
		return true
	}
	p := s.Pool(svc.Pool)
	if p.BaseSize == 0 {
		return true
	}
	hash := FlowHash(s, svc, f.Client, vip.Addr, f.ClientPort, f.VIPPort, f.Proto)
	at := func(slot uint32) bool {
		return slot != fib.NoIndex && s.Backend(slot).ID == fib.ID(f.BackendID)
	}
	if f.Proto != packet.ProtoTCP {
		return at(s.Pick(p, hash))
	}
	base, _ := s.PickBase(p, hash)
	also, there := s.PickAlso(p, hash)
	return at(base) && (!there || at(also))
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
func carry(in *Input, svc *fib.Service, b *fib.Backend, v *Verdict) {
	s, info := in.Snapshot, in.Info
	v.Action = reason.Transmit
	v.Service, v.Backend, v.NextHop = svc.ID.Slot(), b.ID.Slot(), b.NextHop
	if info.TTL <= 1 {
		decideExpired(in, v)
		return
	}
	hop := s.NextHop(b.NextHop)
	if hop == nil || hop.Resolved == 0 {
		v.drop(reason.NextHopUnresolved)
		return
	}
	mtu, overhead := hop.MTU, uint32(0)
	if b.MTU != 0 && (b.MTU < mtu || mtu == 0) {
		mtu = b.MTU
	}
	sameFamily := b.Addr.Is4() == (info.Kind == packet.KindIPv4)
	switch svc.Method {
	case fib.MethodNAT:
		v.Op = OpNATForward
	case fib.MethodL2:
		v.Op = OpL2
	case fib.MethodIPIP:
		v.Op = OpIPIP
	case fib.MethodGUE:
		v.Op = OpGUE
	}
	if v.Op == OpIPIP || v.Op == OpGUE {
		overhead = uint32(rewrite.Overhead(svc.Method, !b.Addr.Is4()))
		sameFamily = !tunnelSource(s, b).IsZero()
	}
	if !sameFamily {
		v.drop(reason.FamilyMismatch)
		return
	}
	if uint32(info.IPLen)+overhead > mtu && mtu != 0 {
		decideTooBig(in, mtu-min(mtu, overhead), v)
	}
}

// tunnelSource is the outer source address of packets to b.
func tunnelSource(s *fib.Snapshot, b *fib.Backend) packet.Addr {
	if b.Addr.Is4() {
		return s.Settings().Tunnel4
	}
	return s.Settings().Tunnel6
}

// decideReply is for TCP, UDP and SCTP packets to a SNAT address.
func decideReply(in *Input, v *Verdict) {
	f := in.Flow
	if f == nil || in.Dir != flow.Reply {
		v.drop(reason.FlowNotFound)
		return
	}
	s := in.Snapshot
	svc, b := s.ServiceByID(fib.ID(f.ServiceID)), s.BackendByID(fib.ID(f.BackendID))
	switch {
	case svc == nil:
		v.drop(reason.ServiceNotFound)
		v.forget(in)
		return
	case !s.Allowed(svc, f.Client):
		v.Service = svc.ID.Slot()
		v.drop(reason.SourceNotAllowed)
		v.forget(in)
		return
	case b == nil:
		// The flow stays, so that its client's next packet is dealt with as
		// the service says.
		v.Service = svc.ID.Slot()
		v.drop(reason.BackendGone)
		return
	}
	v.Action, v.Reason, v.Op, v.FlowOp = reason.Transmit, reason.ReplyFlow, OpNATReply, FlowTouch
	v.Service, v.Backend = svc.ID.Slot(), b.ID.Slot()
	if isLaterFragment(in.Info) {
		v.Reason = reason.FragmentForward
	}
	switch {
	case in.Info.TTL <= 1:
		decideExpired(in, v)
	case in.MTU == 0 || s.LocalByID(f.VIP) == nil:
		v.drop(reason.NextHopUnresolved)
	case uint32(in.Info.IPLen) > in.MTU:
		decideTooBig(in, in.MTU, v)
	}
}

// decideExpired answers a packet whose TTL has run out.
func decideExpired(in *Input, v *Verdict) {
	if !in.mayReply() {
		v.drop(reason.TTLExpired)
		return
	}
	v.answer(reason.TTLExpiredReply, OpTTLExpired)
}

// decideTooBig is for packets that exceed room, the largest packet that fits
// with what is put in front of it. Those that may be fragmented still go their
// way: the worker cuts them to v.MTU.
func decideTooBig(in *Input, room uint32, v *Verdict) {
	v.MTU = room
	switch {
	case !in.Info.DontFragment && room >= ipv4MinMTU:
	case !in.mayReply():
		v.drop(reason.TooBig)
	default:
		v.answer(reason.TooBigReply, OpTooBig)
	}
}

// ipv4MinMTU is what every IPv4 link carries (RFC 791 section 3.1).
const ipv4MinMTU = 68

// restarts reports whether a SYN opens a new connection on the tuple of one
// that has ended.
func restarts(info *packet.Info, f *flow.Flow) bool {
	return opens(info) && (f.State == flow.StateFinWait || f.State == flow.StateClosed)
}

// isVIP reports whether a packet claims to come from a VIP. None does: VIPs
// send to clients, never to each other, and one forged packet between two
// services that answer everything would go on for ever.
func isVIP(s *fib.Snapshot, src packet.Addr) bool {
	l := s.Local(src)
	return l != nil && l.Kind == fib.LocalVIP
}

// opens reports whether a packet asks for a new connection.
func opens(info *packet.Info) bool {
	return info.TCPFlags&(packet.TCPFlagSYN|packet.TCPFlagACK) == packet.TCPFlagSYN
}

func isLaterFragment(info *packet.Info) bool {
	return info.Frag&(packet.FragAny|packet.FragFirst) == packet.FragAny
}

func isTransport(proto uint8) bool {
	return proto == packet.ProtoTCP || proto == packet.ProtoUDP || proto == packet.ProtoSCTP
}

func isICMP(proto uint8) bool { return proto == packet.ProtoICMP || proto == packet.ProtoICMPv6 }

func isNeighborSolicitation(info *packet.Info) bool {
	return info.Kind == packet.KindIPv6 && info.Proto == packet.ProtoICMPv6 && info.Frag == 0 && info.ICMPType == packet.ICMPv6NeighborSolicit
}
