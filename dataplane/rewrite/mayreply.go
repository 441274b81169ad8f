package rewrite

import "fairlead/dataplane/packet"

// replyTTL is the TTL or hop limit of packets made here, other than neighbour
// advertisements.
const replyTTL = 64

// MayReply reports whether a packet may be answered at all: with an ICMP error
// about it, with an echo reply, or with a TCP reset. It may not when it is an
// ICMP error or redirect itself, a later fragment, sent to a group address at
// the link layer or at the network layer, or comes from an address that no
// single host has (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)).
func MayReply(frame []byte, info *packet.Info) bool {
	if packet.Ethernet(frame).DstIsGroup() || laterFragment(info) {
		return false
	}
	switch info.Kind {
	case packet.KindIPv4:
		return singleHost4(info.Src) && singleHost4(info.Dst) &&
			(info.Proto != packet.ProtoICMP || isQuery4(info.ICMPType))
	case packet.KindIPv6:
		return singleHost6(info.Src) && singleHost6(info.Dst) &&
			(info.Proto != packet.ProtoICMPv6 || isInformation6(info.ICMPType))
	}
	return false
}

// MayReset reports whether a packet may be answered with a TCP reset: a whole
// segment that is no reset itself (RFC 9293 section 3.10.7.1), and that
// MayReply allows an answer to.
func MayReset(frame []byte, info *packet.Info) bool {
	return info.Proto == packet.ProtoTCP && info.Frag == 0 &&
		info.TCPFlags&packet.TCPFlagRST == 0 && MayReply(frame, info)
}

// singleHost4 reports whether an IPv4 address can be that of one host: not in
// 0.0.0.0/8, loopback, multicast, or 240.0.0.0/4 with the broadcast address
// (RFC 1122 section 3.2.2).
func singleHost4(a packet.Addr) bool {
	first := uint8(uint32(a.Lo) >> 24)
	return first != 0 && first != 127 && first < 224
}

// singleHost6 reports whether an IPv6 address can be that of one host: neither
// unspecified nor loopback nor multicast.
func singleHost6(a packet.Addr) bool {
	return a.Hi>>56 != 0xff && (a.Hi != 0 || a.Lo > 1)
}

// isQuery4 reports whether an ICMP type is a query or its answer. Of types
// nobody knows it is safer to assume that they are errors.
func isQuery4(typ uint8) bool {
	switch typ {
	case packet.ICMPv4Echo, packet.ICMPv4EchoReply,
		9, 10, // router advertisement and solicitation (RFC 1256)
		13, 14, // timestamp (RFC 792)
		15, 16, 17, 18, // information and address mask (RFC 6918)
		42, 43: // extended echo (RFC 8335)
		return true
	}
	return false
}

// isInformation6 reports whether an ICMPv6 type is an informational message
// (RFC 4443 section 2.1), redirects excepted.
func isInformation6(typ uint8) bool {
	return typ >= packet.ICMPv6Echo && typ != packet.ICMPv6Redirect
}
