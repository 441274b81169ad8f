package packet

import "fairlead/dataplane/reason"

// quotedTransportLen is how much of the quoted transport header every ICMP
// error holds: enough for the ports (RFC 792).
const quotedTransportLen = 8

// parseQuote4 reads the IPv4 packet that an ICMP error quotes, from offset at
// to the end of the message. The packet may be cut anywhere behind the first
// bytes of its transport header. Its checksum and its total length are not
// looked at: routers have sent both in all states.
func parseQuote4(frame []byte, at, end int, inner *Inner) reason.Reason {
	h := IPv4(frame[at:end])
	if len(h) < IPv4MinLen {
		return reason.ICMPMalformed
	}
	headerLen := h.HeaderLen()
	if h.Version() != 4 || headerLen < IPv4MinLen || headerLen > len(h) {
		return reason.ICMPMalformed
	}
	inner.Src, inner.Dst = h.Src(), h.Dst()
	inner.Proto = h.Proto()
	inner.Fragment = h.FragmentOffset() != 0
	inner.L3, inner.L4, inner.End = uint16(at), uint16(at+headerLen), uint16(end)
	if inner.Fragment {
		return reason.None
	}
	return parseQuotedTransport(h[headerLen:], false, inner)
}

// parseQuote6 reads the IPv6 packet that an ICMPv6 error quotes, as
// parseQuote4 does; all of its extension headers must be there.
func parseQuote6(frame []byte, at, end int, inner *Inner) reason.Reason {
	h := IPv6(frame[at:end])
	if len(h) < IPv6Len || h.Version() != 6 {
		return reason.ICMPMalformed
	}
	src, dst := h.Src(), h.Dst()
	if src.Is4() || dst.Is4() {
		return reason.ICMPMalformed
	}
	chain, r := walkExtensions(frame, at+IPv6Len, end, h.NextHeader())
	if r != reason.None {
		return reason.ICMPMalformed
	}
	inner.Src, inner.Dst = src, dst
	inner.Proto = chain.proto
	inner.Fragment = chain.later
	inner.L3, inner.L4, inner.End = uint16(at), uint16(chain.l4), uint16(end)
	if inner.Fragment {
		return reason.None
	}
	return parseQuotedTransport(frame[chain.l4:end], true, inner)
}

// parseQuotedTransport reads the ports of the quoted packet from the first
// bytes of its transport header, or an echo's identifier.
func parseQuotedTransport(b []byte, is6 bool, inner *Inner) reason.Reason {
	switch inner.Proto {
	case ProtoTCP, ProtoUDP, ProtoSCTP:
		if len(b) < quotedTransportLen {
			return reason.ICMPMalformed
		}
		// All three begin with the ports.
		h := UDP(b)
		inner.SrcPort, inner.DstPort = h.SrcPort(), h.DstPort()
	case ProtoICMP:
		if is6 {
			return reason.None
		}
		if len(b) < quotedTransportLen {
			return reason.ICMPMalformed
		}
		if h := ICMPv4(b); icmpv4IsEcho(h.Type()) {
			inner.SrcPort, inner.DstPort = h.ID(), h.ID()
		}
	case ProtoICMPv6:
		if !is6 {
			return reason.None
		}
		if len(b) < quotedTransportLen {
			return reason.ICMPMalformed
		}
		if h := ICMPv6(b); icmpv6IsEcho(h.Type()) {
			inner.SrcPort, inner.DstPort = h.ID(), h.ID()
		}
	}
	return reason.None
}
