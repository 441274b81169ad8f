package rewrite

import (
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// An ICMP error quotes as much of its packet as keeps the error below the size
// that every path carries.
const (
	maxError4 = 576               // RFC 1812 section 4.3.2.3
	maxError6 = packet.IPv6MinMTU // RFC 4443 section 2.4 (c)
	errorTOS4 = 6 << 5            // precedence internetwork control: RFC 1812 section 4.3.2.5
)

// icmpError is what an ICMP error says, in either family.
type icmpError struct {
	typ, code uint8
	rest      uint32 // the header's second word
}

// TooBig answers a packet that does not fit the way ahead: frag-needed (RFC
// 1191 section 4) or packet-too-big (RFC 4443 section 3.2), from src, an
// address of ours of the packet's family. mtu is the largest packet that would
// have gone through. A sender ignores an IPv6 MTU below 1280 (RFC 8201 section
// 4), and so the way to a backend must carry 1280 and the outer headers.
//
// This and the other ICMP errors are made in place: the packet stays where it
// is and becomes the quote. It must be as it was received, and the caller has
// asked MayReply.
//
// Reasons: FamilyMismatch when src is of the other family, HeadroomExhausted
// when the headers do not fit before the packet.
func TooBig(b *Buf, info *packet.Info, src packet.Addr, mtu uint32) reason.Reason {
	if info.Kind == packet.KindIPv4 {
		return replyError(b, info, src, icmpError{packet.ICMPv4Unreachable, packet.ICMPv4CodeFragNeeded, min(mtu, 0xffff)})
	}
	return replyError(b, info, src, icmpError{packet.ICMPv6PacketTooBig, 0, mtu})
}

// TimeExceeded answers a packet whose TTL or hop limit ran out here (RFC 792,
// RFC 4443 section 3.3), from src. See TooBig for the rest.
func TimeExceeded(b *Buf, info *packet.Info, src packet.Addr) reason.Reason {
	if info.Kind == packet.KindIPv4 {
		return replyError(b, info, src, icmpError{packet.ICMPv4TimeExceeded, packet.ICMPv4CodeTTLExceeded, 0})
	}
	return replyError(b, info, src, icmpError{packet.ICMPv6TimeExceeded, packet.ICMPv6CodeHopLimit, 0})
}

// Unreachable answers a packet that cannot be delivered (RFC 792, RFC 4443
// section 3.1), from src; the codes of the two families differ. See TooBig for
// the rest.
func Unreachable(b *Buf, info *packet.Info, src packet.Addr, code uint8) reason.Reason {
	if info.Kind == packet.KindIPv4 {
		return replyError(b, info, src, icmpError{packet.ICMPv4Unreachable, code, 0})
	}
	return replyError(b, info, src, icmpError{packet.ICMPv6Unreachable, code, 0})
}

// replyError puts IP and ICMP headers before the packet, which becomes the
// quote, and sends the frame back where it came from.
func replyError(b *Buf, info *packet.Info, src packet.Addr, e icmpError) reason.Reason {
	is4 := info.Kind == packet.KindIPv4
	if src.Is4() != is4 {
		return reason.FamilyMismatch
	}
	limit := maxError6
	if is4 {
		limit = maxError4
	}
	headers := ipHeaderLen(is4) + packet.ICMPLen
	quote := b.Start + int(info.L3)
	if quote-headers < int(info.L3) {
		return reason.HeadroomExhausted
	}
	length := min(headers+int(info.IPLen), limit)
	b.moveLink(info, quote-headers)
	b.End = quote - headers + length
	frame := b.Frame()
	swapMACs(frame)

	if is4 {
		putIPv4(frame[info.L3:], &ipv4Fields{src: src, dst: info.Src, length: length,
			flags: packet.IPv4FlagDF, tos: errorTOS4, ttl: replyTTL, proto: packet.ProtoICMP})
		message := frame[info.L3+packet.IPv4MinLen:]
		h := packet.ICMPv4(message)
		h.SetType(e.typ)
		h.SetCode(e.code)
		h.SetRest(e.rest)
		h.SetChecksum(0)
		h.SetChecksum(packet.Checksum(message))
		return reason.None
	}
	payload := length - packet.IPv6Len
	putIPv6(frame[info.L3:], &ipv6Fields{src: src, dst: info.Src, payload: payload,
		hopLimit: replyTTL, next: packet.ProtoICMPv6})
	message := frame[info.L3+packet.IPv6Len:]
	h := packet.ICMPv6(message)
	h.SetType(e.typ)
	h.SetCode(e.code)
	h.SetRest(e.rest)
	h.SetChecksum(0)
	pseudo := packet.PseudoSum(src, info.Src, packet.ProtoICMPv6, uint32(payload))
	h.SetChecksum(packet.Finish(packet.Sum(message, pseudo)))
	return reason.None
}
