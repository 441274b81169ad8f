package rewrite

import (
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// EchoReply turns an echo request into its reply (RFC 792, RFC 4443 section
// 4.2), in place: from the address the request was sent to, back to where it
// came from, DSCP kept and ECN cleared, without the request's IP options or
// extension headers. The caller has asked MayReply.
//
// Reasons: ICMPUnsupported when it is no echo request, FragmentUnsupported when
// it is not whole.
func EchoReply(b *Buf, info *packet.Info) reason.Reason {
	is4 := info.Kind == packet.KindIPv4
	if is4 && (info.Proto != packet.ProtoICMP || info.ICMPType != packet.ICMPv4Echo) ||
		!is4 && (info.Proto != packet.ProtoICMPv6 || info.ICMPType != packet.ICMPv6Echo) {
		return reason.ICMPUnsupported
	}
	if info.Frag != 0 {
		return reason.FragmentUnsupported
	}
	id := uint16(0)
	if is4 {
		id = packet.IPv4(b.Frame()[info.L3:]).ID()
	}
	message := b.Start + int(info.L4)
	b.End = b.Start + int(info.L3+info.IPLen)
	b.moveLink(info, message-ipHeaderLen(is4))
	frame := b.Frame()
	swapMACs(frame)

	length := int(info.IPLen - info.L3Len)
	tos := packet.WithECN(info.TOS, packet.ECNNotECT)
	if is4 {
		putIPv4(frame[info.L3:], &ipv4Fields{src: info.Dst, dst: info.Src, length: packet.IPv4MinLen + length,
			id: id, flags: replyDF(info), tos: tos, ttl: replyTTL, proto: packet.ProtoICMP})
		h := packet.ICMPv4(frame[info.L3+packet.IPv4MinLen:])
		h.SetType(packet.ICMPv4EchoReply)
		h.SetChecksum(packet.Update16(h.Checksum(), packet.ICMPv4Echo<<8, packet.ICMPv4EchoReply<<8))
		return reason.None
	}
	putIPv6(frame[info.L3:], &ipv6Fields{src: info.Dst, dst: info.Src, payload: length,
		trafficClass: tos, hopLimit: replyTTL, next: packet.ProtoICMPv6})
	h := packet.ICMPv6(frame[info.L3+packet.IPv6Len:])
	h.SetType(packet.ICMPv6EchoReply)
	h.SetChecksum(packet.Update16(h.Checksum(), packet.ICMPv6Echo<<8, packet.ICMPv6EchoReply<<8))
	return reason.None
}

// replyDF lets a reply be fragmented underway where its request might have
// been.
func replyDF(info *packet.Info) uint16 {
	if info.DontFragment {
		return packet.IPv4FlagDF
	}
	return 0
}
