package dataplane

import (
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// decideICMP is for ICMP and ICMPv6 packets to a VIP or a SNAT address: pings
// are answered, and errors go to whom the packet they quote concerns.
func decideICMP(in *Input, v *Verdict) {
	info := in.Info
	switch {
	case (info.Proto == packet.ProtoICMP) != (info.Kind == packet.KindIPv4):
		v.drop(reason.ProtocolUnsupported)
	case info.Frag&packet.FragAny != 0:
		v.drop(reason.FragmentUnsupported)
	case isEchoRequest(info):
		if in.Local.Flags&fib.LocalNoPing != 0 || !in.mayReply() {
			v.drop(reason.ICMPUnsupported)
			return
		}
		v.answer(reason.EchoReply, OpEchoReply)
	case info.Inner.Proto == 0 || !mayRelay(info):
		v.drop(reason.ICMPUnsupported)
	case info.Inner.Src != info.Dst:
		v.drop(reason.ICMPFlowNotFound) // it quotes a packet that was not sent from here
	case in.Local.Kind == fib.LocalSNAT:
		decideErrorToClient(in, v)
	default:
		decideErrorToBackend(in, v)
	}
}

// decideErrorToClient is for an error about a packet that we sent to a NAT
// backend.
func decideErrorToClient(in *Input, v *Verdict) {
	f := in.Flow
	if f == nil || in.Dir != flow.Reply {
		v.drop(reason.ICMPFlowNotFound)
		return
	}
	s := in.Snapshot
	svc, b := s.ServiceByID(fib.ID(f.ServiceID)), s.BackendByID(fib.ID(f.BackendID))
	if svc == nil || b == nil || s.LocalByID(f.VIP) == nil || !s.Allowed(svc, f.Client) {
		v.drop(reason.ICMPFlowNotFound)
		return
	}
	v.Action, v.Reason, v.Op = reason.Transmit, reason.ICMPErrorForward, OpICMPToClient
	v.Service, v.Backend = svc.ID.Slot(), b.ID.Slot()
	switch {
	case in.Info.TTL <= 1:
		v.drop(reason.TTLExpired)
	case in.MTU == 0:
		v.drop(reason.NextHopUnresolved)
	case uint32(in.Info.IPLen) > in.MTU:
		decideTooBig(in, in.MTU, v)
	}
}

// decideErrorToBackend is for an error about a packet that a backend sent to a
// client in the VIP's name. Direct-reply methods need no flow entry for it:
// the quoted packet has the addresses and ports that Maglev hashes.
func decideErrorToBackend(in *Input, v *Verdict) {
	s, q := in.Snapshot, &in.Info.Inner
	if q.Fragment || !isTransport(q.Proto) {
		v.drop(reason.ICMPFlowNotFound)
		return
	}
	var svc *fib.Service
	var b *fib.Backend
	if f := in.Flow; f != nil && in.Dir == flow.Forward {
		svc = s.ServiceByID(fib.ID(f.ServiceID))
		b = s.BackendByID(fib.ID(f.BackendID))
		if svc == nil || b == nil || !s.Allowed(svc, f.Client) || (f.SNAT != 0) != (svc.Method == fib.MethodNAT) || f.SNAT != 0 && s.LocalByID(f.SNAT) == nil {
			v.drop(reason.ICMPFlowNotFound)
			return
		}
	} else {
		svc = s.Service(in.Local.ID, q.Proto, q.SrcPort)
		if svc == nil || svc.Method == fib.MethodNAT || !s.Allowed(svc, q.Dst) {
			v.drop(reason.ICMPFlowNotFound)
			return
		}
		v.Service = svc.ID.Slot()
		slot := s.Pick(s.Pool(svc.Pool), FlowHash(s, svc, q.Dst, q.Src, q.DstPort, q.SrcPort, q.Proto))
		if slot == fib.NoIndex {
			v.drop(reason.ServiceEmpty)
			return
		}
		b = s.Backend(slot)
	}
	v.Reason = reason.ICMPErrorForward
	carry(in, svc, b, v)
	if v.Op == OpNATForward {
		v.Op = OpICMPToBackend
	}
}

// mayRelay reports whether an error may go on to whom it concerns. A redirect
// is for the link that it is sent on, and anybody could forge one for a
// backend's (RFC 1122 section 3.2.2.2); source quench is to be ignored (RFC
// 6633).
func mayRelay(info *packet.Info) bool {
	return info.Proto != packet.ProtoICMP || info.ICMPType != packet.ICMPv4Redirect && info.ICMPType != packet.ICMPv4SourceQuench
}

func isEchoRequest(info *packet.Info) bool {
	if info.Proto == packet.ProtoICMP {
		return info.ICMPType == packet.ICMPv4Echo
	}
	return info.ICMPType == packet.ICMPv6Echo
}
