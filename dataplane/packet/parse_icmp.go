package packet

import "fairlead/dataplane/reason"

// parseICMPv4 reads an ICMP message (RFC 792). Only a whole one can have its
// checksum verified.
func parseICMPv4(frame []byte, l4, end int, info *Info) reason.Reason {
	if end-l4 < ICMPLen {
		return info.cutShort(reason.ICMPMalformed)
	}
	h := ICMPv4(frame[l4:end])
	info.ICMPType, info.ICMPCode = h.Type(), h.Code()
	if info.Frag == 0 && Fold(Sum(h, 0)) != 0xffff {
		return reason.ICMPChecksumWrong
	}
	switch {
	case icmpv4IsEcho(info.ICMPType):
		info.SrcPort, info.DstPort = h.ID(), h.ID()
	case ICMPv4IsError(info.ICMPType):
		return parseQuote4(frame, l4+ICMPLen, end, &info.Inner)
	}
	return reason.None
}

// parseICMPv6 reads an ICMPv6 message (RFC 4443). Only a whole one can have
// its checksum verified.
func parseICMPv6(frame []byte, l4, end int, info *Info) reason.Reason {
	length := end - l4
	if length < ICMPLen {
		return info.cutShort(reason.ICMPMalformed)
	}
	h := ICMPv6(frame[l4:end])
	info.ICMPType, info.ICMPCode = h.Type(), h.Code()
	if info.Frag == 0 {
		sum := PseudoSum(info.Src, info.Dst, ProtoICMPv6, uint32(length))
		if Fold(Sum(h, sum)) != 0xffff {
			return reason.ICMPChecksumWrong
		}
	}
	switch {
	case icmpv6IsEcho(info.ICMPType):
		info.SrcPort, info.DstPort = h.ID(), h.ID()
	case ICMPv6IsError(info.ICMPType):
		return parseQuote6(frame, l4+ICMPLen, end, &info.Inner)
	case info.ICMPType == ICMPv6NeighborSolicit:
		return parseNeighborSolicit(NDP(h), info)
	}
	return reason.None
}

// parseNeighborSolicit checks what RFC 4861 section 7.1.1 and RFC 6980 section
// 5 demand of a neighbour solicitation. Its target is read through NDP.
func parseNeighborSolicit(h NDP, info *Info) reason.Reason {
	if info.TTL != NDPHopLimit || info.ICMPCode != 0 || info.FragHeader != 0 ||
		len(h) < NDPLen || !h.ValidOptions() {
		return reason.ICMPMalformed
	}
	target := h.Target()
	if target.Hi>>56 == 0xff || target.IsZero() || target.Is4() {
		return reason.ICMPMalformed
	}
	if info.Src.IsZero() && h.HasOption(NDPOptionSourceLinkLayer) {
		return reason.ICMPMalformed
	}
	return reason.None
}

func icmpv4IsEcho(typ uint8) bool { return typ == ICMPv4Echo || typ == ICMPv4EchoReply }

func icmpv6IsEcho(typ uint8) bool { return typ == ICMPv6Echo || typ == ICMPv6EchoReply }
