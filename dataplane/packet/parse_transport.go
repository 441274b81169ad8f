package packet

import "fairlead/dataplane/reason"

// parseTransport reads the transport header at l4 of the packet that ends at
// end. A first fragment must hold the header's fixed part (RFC 1858 section
// 3): one that does not is a malformed fragment, where a whole packet has a
// malformed header.
func parseTransport(frame []byte, l4, end int, info *Info) reason.Reason {
	if info.Frag&(FragAny|FragFirst) == FragAny {
		return parseLaterFragment(info)
	}
	b := frame[l4:end]
	switch info.Proto {
	case ProtoTCP:
		if len(b) < TCPMinLen {
			return info.cutShort(reason.TCPHeaderMalformed)
		}
		h := TCP(b)
		info.SrcPort, info.DstPort = h.SrcPort(), h.DstPort()
		info.TCPFlags = h.Flags()
		// The options of a first fragment may go on in the next one.
		if n := h.HeaderLen(); n < TCPMinLen || n > len(b) && info.Frag == 0 {
			return reason.TCPHeaderMalformed
		}
		if tcpFlagsInvalid(info.TCPFlags) {
			return reason.TCPFlagsInvalid
		}
		return reason.None
	case ProtoUDP:
		if len(b) < UDPLen {
			return info.cutShort(reason.UDPHeaderMalformed)
		}
		h := UDP(b)
		info.SrcPort, info.DstPort = h.SrcPort(), h.DstPort()
		// The length is that of the whole datagram. Bytes behind it belong to
		// no datagram and do no harm.
		if n := int(h.Length()); n < UDPLen || n > len(b) && info.Frag == 0 {
			return reason.UDPHeaderMalformed
		}
		return reason.None
	case ProtoSCTP:
		if len(b) < SCTPLen {
			return info.cutShort(reason.SCTPHeaderMalformed)
		}
		h := SCTP(b)
		info.SrcPort, info.DstPort = h.SrcPort(), h.DstPort()
		return reason.None
	case ProtoICMP:
		if info.Kind != KindIPv4 {
			return reason.ProtocolUnsupported
		}
		return parseICMPv4(frame, l4, end, info)
	case ProtoICMPv6:
		if info.Kind != KindIPv6 {
			return reason.ProtocolUnsupported
		}
		return parseICMPv6(frame, l4, end, info)
	}
	return reason.None
}

// cutShort is the reason for a transport header that is not there in full.
func (info *Info) cutShort(whole reason.Reason) reason.Reason {
	if info.Frag != 0 {
		return reason.FragmentMalformed
	}
	return whole
}

// tcpFlagsInvalid reports whether no connection can have such a segment: SYN
// with FIN or RST, or none of the six flags of RFC 793 set.
func tcpFlagsInvalid(flags uint8) bool {
	const all = TCPFlagFIN | TCPFlagSYN | TCPFlagRST | TCPFlagPSH | TCPFlagACK | TCPFlagURG
	return flags&all == 0 || flags&TCPFlagSYN != 0 && flags&(TCPFlagFIN|TCPFlagRST) != 0
}
