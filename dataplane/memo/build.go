package memo

import (
	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/rewrite"
)

// Build is the route of an identity by a snapshot: what Decide and the rewrites
// make of every plain packet of such a flow, in a form that needs no deciding.
// It is false when there is no such route. What Decide looks at for a known
// flow, Build looks at too, all of it: Adopt tells by it which routes a new
// snapshot changes. The one exception is the service's source ranges, since
// which clients they let in is no part of an identity.
func Build(s *fib.Snapshot, id *Identity) (Route, bool) {
	svc, b, vip := s.ServiceByID(id.Service), s.BackendByID(id.Backend), s.LocalByID(id.VIP)
	if svc == nil || b == nil || vip == nil || vip.Kind != fib.LocalVIP {
		return Route{}, false
	}
	r := Route{Service: svc.ID.Slot(), Backend: b.ID.Slot(), NextHop: fib.NoIndex, Flags: InKernel}
	if id.Reply {
		return r.reply(s, id, vip)
	}
	return r.forward(s, id, svc, b)
}

func (r Route) reply(s *fib.Snapshot, id *Identity, vip *fib.Local) (Route, bool) {
	snat, out := s.LocalByID(id.SNAT), s.Interface(id.Port)
	if snat == nil || snat.Kind != fib.LocalSNAT || out == nil || out.MTU == 0 {
		return Route{}, false
	}
	r.Op, r.Port, r.IfIndex, r.MTU = NATReply, id.Port, out.IfIndex, out.MTU
	r.DstMAC, r.SrcMAC = id.MAC, out.MAC
	r.Src = vip.Addr
	return r, true
}

func (r Route) forward(s *fib.Snapshot, id *Identity, svc *fib.Service, b *fib.Backend) (Route, bool) {
	hop := s.NextHop(b.NextHop)
	if b.Flags&fib.BackendDown != 0 || (id.SNAT != 0) != (svc.Method == fib.MethodNAT) || hop == nil || hop.Resolved == 0 {
		return Route{}, false
	}
	out := s.Interface(hop.Port)
	if out == nil {
		return Route{}, false
	}
	mtu := hop.MTU
	if b.MTU != 0 && (b.MTU < mtu || mtu == 0) {
		mtu = b.MTU
	}
	if mtu == 0 || mtu > packet.MaxFrame {
		mtu = packet.MaxFrame
	}
	overhead := uint32(rewrite.Overhead(svc.Method, !b.Addr.Is4()))
	if overhead > mtu {
		return Route{}, false
	}
	r.MTU, r.NextHop, r.Port, r.IfIndex = mtu-overhead, b.NextHop, hop.Port, out.IfIndex
	r.DstMAC, r.SrcMAC = hop.DstMAC, hop.SrcMAC
	switch svc.Method {
	case fib.MethodNAT:
		snat := s.LocalByID(id.SNAT)
		if snat == nil {
			return Route{}, false
		}
		r.Op, r.Src, r.Dst = NATForward, snat.Addr, b.Addr
		return r, r.Src.Is4() == r.Dst.Is4()
	case fib.MethodL2:
		r.Op = L2
		return r, b.Addr.Is4() == s.LocalByID(id.VIP).Addr.Is4()
	}
	return r.tunnel(s, svc, b)
}

func (r Route) tunnel(s *fib.Snapshot, svc *fib.Service, b *fib.Backend) (Route, bool) {
	set := s.Settings()
	r.Op, r.TTL, r.Dst, r.Src = IPIP, set.OuterTTL, b.Addr, set.Tunnel4
	if !b.Addr.Is4() {
		r.Src, r.Flags = set.Tunnel6, r.Flags|Outer6
	}
	if svc.Method == fib.MethodGUE {
		r.Op, r.GUEPort = GUE, set.GUEPort
		if r.Flags&Outer6 != 0 {
			r.Flags &^= InKernel // its UDP checksum covers the whole packet
		}
	}
	if r.Flags&Outer6 == 0 {
		r.Sum = r.outerSum()
	}
	return r, !r.Src.IsZero()
}

// outerSum is the sum of what the outer IPv4 headers by this route have in
// common: all but TOS, length, identification and fragment flags.
func (r *Route) outerSum() uint32 {
	proto := uint32(packet.ProtoUDP)
	if r.Op == IPIP {
		proto = 0 // IPv4 or IPv6 in it: added for each packet
	}
	src, dst := uint32(r.Src.Lo), uint32(r.Dst.Lo)
	return 0x4500 + uint32(r.TTL)<<8 + proto + src>>16 + src&0xffff + dst>>16 + dst&0xffff
}
