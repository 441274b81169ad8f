package rewrite

import (
	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// OuterArgs are what the outer headers of a tunnel say. The family of the
// addresses is the family of the outer header.
type OuterArgs struct {
	Src, Dst       packet.Addr // tunnel source, backend
	DstMAC, SrcMAC [6]byte
	Entropy        uint32 // flow hash; its low 20 bits become the outer IPv6 flow label
	ID             uint16 // outer IPv4 identification of packets that may be fragmented underway
	TTL            uint8  // outer TTL or hop limit
}

// maxOuterLen is the longest outer packet, in bytes: what IPv4's total length
// can say. IPv6 could say 40 more, which no link needs.
const maxOuterLen = 65535

// Overhead is by how many bytes a forwarding method makes the IP packet
// longer.
func Overhead(method fib.Method, outerIs6 bool) int {
	switch method {
	case fib.MethodIPIP:
		return ipHeaderLen(!outerIs6)
	case fib.MethodGUE:
		return ipHeaderLen(!outerIs6) + packet.UDPLen + packet.GUELen
	}
	return 0
}

// pushOuter puts an outer IP header before the packet, with between bytes of
// room for further headers between the two, and the Ethernet header, with its
// VLAN tags and new addresses, before that. Padding behind the packet is cut
// off. proto is the protocol of what follows the outer IP header, which is
// returned.
//
// DSCP and ECN are copied outward (RFC 6040 section 4.1, normal mode). The
// outer packet may be fragmented only if the inner one may.
func (b *Buf) pushOuter(info *packet.Info, outer *OuterArgs, between int, proto uint8) ([]byte, reason.Reason) {
	is4 := outer.Dst.Is4()
	if outer.Src.Is4() != is4 {
		return nil, reason.FamilyMismatch
	}
	ipLen := ipHeaderLen(is4)
	inner := b.Start + int(info.L3)
	payload := between + int(info.IPLen)
	l3 := inner - between - ipLen
	if l3 < int(info.L3) {
		return nil, reason.HeadroomExhausted
	}
	if ipLen+payload > maxOuterLen {
		return nil, reason.TooBig
	}
	if info.VLANs > 0 {
		b.moveLink(info, l3) // otherwise everything before the packet is written below
	}
	b.Start, b.End = l3-int(info.L3), inner+int(info.IPLen)
	frame := b.Frame()
	SetMACs(frame, outer.DstMAC, outer.SrcMAC)
	if is4 {
		setEtherType(frame, info, packet.EtherTypeIPv4)
		fields := ipv4Fields{src: outer.Src, dst: outer.Dst, length: ipLen + payload,
			id: outer.ID, tos: info.TOS, ttl: outer.TTL, proto: proto}
		if info.DontFragment {
			// Never fragmented, so it needs no identification (RFC 6864).
			fields.id, fields.flags = 0, packet.IPv4FlagDF
		}
		putIPv4(frame[info.L3:], &fields)
	} else {
		setEtherType(frame, info, packet.EtherTypeIPv6)
		putIPv6(frame[info.L3:], &ipv6Fields{src: outer.Src, dst: outer.Dst, payload: payload,
			label: flowLabel(outer.Entropy), trafficClass: info.TOS, hopLimit: outer.TTL, next: proto})
	}
	return frame[int(info.L3)+ipLen:], reason.None
}

// innerProto is the protocol number of the packet as the content of another.
func innerProto(info *packet.Info) uint8 {
	if info.Kind == packet.KindIPv6 {
		return packet.ProtoIPv6
	}
	return packet.ProtoIPIP
}

// flowLabel makes a flow label of a flow hash; 0 would say that the packet is
// not labelled (RFC 6437 section 3).
func flowLabel(entropy uint32) uint32 {
	if label := entropy & packet.IPv6FlowLabelMask; label != 0 {
		return label
	}
	return 1
}
