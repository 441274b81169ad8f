package dataplane

import (
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// decideICMP is for ICMP and ICMPv6 packets to a VIP or a SNAT address: pings
// are answered, and errors go to whom the packet they quote concerns.
func decideICMP(in *Input) Verdict {
	info := in.Info
	if (info.Proto == packet.ProtoICMP) != (info.Kind == packet.KindIPv4) {
		return drop(reason.ProtocolUnsupported)
	}
	if info.Frag&packet.FragAny != 0 {
		return drop(reason.FragmentUnsupported)
	}
	if isEchoRequest(info) {
		if in.Local.Flags&fib.LocalNoPing != 0 || !in.MayReply {
			return drop(reason.ICMPUnsupported)
		}
		return answer(reason.EchoReply, OpEchoReply)
	}
	if info.Inner.Proto == 0 {
		return drop(reason.ICMPUnsupported)
	}
	if info.Inner.Src != info.Dst {
		return drop(reason.ICMPFlowNotFound) // it quotes a packet that was not sent from here
	}
	if in.Local.Kind == fib.LocalSNAT {
		return decideErrorToClient(in)
	}
	return decideErrorToBackend(in)
}

// decideErrorToClient is for an error about a packet that we sent to a NAT
// backend.
func decideErrorToClient(in *Input) Verdict {
	f := in.Flow
	if f == nil || in.Dir != flow.Reply {
		return drop(reason.ICMPFlowNotFound)
	}
	svc := in.Snapshot.ServiceByID(fib.ID(f.ServiceID))
	if svc == nil || in.Snapshot.LocalByID(f.VIP) == nil {
		return drop(reason.ICMPFlowNotFound)
	}
	v := Verdict{Action: reason.Transmit, Reason: reason.ICMPErrorForward, Op: OpICMPToClient, Service: svc.ID.Slot(), Backend: fib.ID(f.BackendID).Slot(), NextHop: fib.NoIndex}
	if in.Info.TTL <= 1 {
		return v.fail(reason.TTLExpired)
	}
	if in.MTU == 0 {
		return v.fail(reason.NextHopUnresolved)
	}
	return v
}

// decideErrorToBackend is for an error about a packet that a backend sent to a
// client in the VIP's name. Direct-reply methods need no flow entry for it:
// the quoted packet has the addresses and ports that Maglev hashes.
func decideErrorToBackend(in *Input) Verdict {
	s, q := in.Snapshot, &in.Info.Inner
	if q.Fragment || !isTransport(q.Proto) {
		return drop(reason.ICMPFlowNotFound)
	}
	var svc *fib.Service
	var b *fib.Backend
	if f := in.Flow; f != nil && in.Dir == flow.Forward {
		svc = s.ServiceByID(fib.ID(f.ServiceID))
		b = s.BackendByID(fib.ID(f.BackendID))
		if svc == nil || b == nil || (f.SNAT != 0) != (svc.Method == fib.MethodNAT) || f.SNAT != 0 && s.LocalByID(f.SNAT) == nil {
			return drop(reason.ICMPFlowNotFound)
		}
	} else {
		svc = s.Service(in.Local.ID, q.Proto, q.SrcPort)
		if svc == nil || svc.Method == fib.MethodNAT {
			return drop(reason.ICMPFlowNotFound)
		}
		slot := s.Pick(s.Pool(svc.Pool), FlowHash(s, svc, q.Dst, q.Src, q.DstPort, q.SrcPort, q.Proto))
		if slot == fib.NoIndex {
			return dropAt(reason.ServiceEmpty, svc)
		}
		b = s.Backend(slot)
	}
	v := carry(in, svc, b, Verdict{Reason: reason.ICMPErrorForward})
	if v.Op == OpNATForward {
		v.Op = OpICMPToBackend
	}
	return v
}

func isEchoRequest(info *packet.Info) bool {
	if info.Proto == packet.ProtoICMP {
		return info.ICMPType == packet.ICMPv4Echo
	}
	return info.ICMPType == packet.ICMPv6Echo
}
