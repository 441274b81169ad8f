package packet

import "fairlead/dataplane/reason"

// parseIPv6 reads an IPv6 header, walks its extension headers and goes on to
// the transport header (RFC 8200).
func parseIPv6(frame []byte, l3 int, info *Info) reason.Reason {
	info.Kind = KindIPv6
	h := IPv6(frame[l3:])
	if len(h) < IPv6Len {
		return reason.FrameTooShort
	}
	next, length := h.NextHeader(), IPv6Len+int(h.PayloadLen())
	if h.Version() != 6 || length > len(h) {
		return reason.IPv6HeaderMalformed
	}
	if length == IPv6Len && next == ProtoHopByHop { // jumbogram, RFC 2675
		return reason.IPv6HeaderMalformed
	}
	info.Src, info.Dst = h.Src(), h.Dst()
	info.TOS, info.TTL, info.Proto = h.TrafficClass(), h.HopLimit(), next
	info.DontFragment = true
	info.IPLen = uint16(length)
	if info.Dst.Is4() {
		return reason.IPv6HeaderMalformed
	}
	if ipv6SourceInvalid(info.Src) {
		return reason.SourceInvalid
	}
	l4, end := l3+IPv6Len, l3+length
	if isExtension(next) {
		chain, r := walkExtensions(frame, l4, end, next)
		if r != reason.None {
			return r
		}
		if chain.segmentsLeft {
			// The packet is on its way to somewhere else, which its checksums
			// cover and we do not know (RFC 8200 section 4.4).
			return reason.IPv6ExtensionMalformed
		}
		l4 = chain.l4
		info.Proto = chain.proto
		info.FragHeader = uint16(chain.fragment)
		if chain.fragment != 0 {
			if r := parseIPv6Fragment(frame, end, info); r != reason.None {
				return r
			}
		}
	}
	info.L4 = uint16(l4)
	info.L3Len = uint16(l4 - l3)
	if info.Src.IsZero() && !isAddressDetection(frame[l4:end], info) {
		return reason.SourceInvalid
	}
	return parseTransport(frame, l4, end, info)
}

// parseIPv6Fragment reads the fragment header at info.FragHeader. An atomic
// fragment, the only one of its packet, is a whole packet (RFC 6946).
func parseIPv6Fragment(frame []byte, end int, info *Info) reason.Reason {
	at := int(info.FragHeader)
	h := IPv6Fragment(frame[at:])
	info.FragID = h.ID()
	offset, more := h.Offset(), h.More()
	if offset == 0 && !more {
		return reason.None
	}
	before := at - int(info.L3) - IPv6Len
	return parseFragment(info, offset, more, before, end-at-IPv6FragmentLen)
}

// ipv6SourceInvalid reports whether an address can be no packet's source:
// multicast, loopback, or an IPv4 address in disguise (RFC 4291 section 2.5.3
// and 2.7). The unspecified address is judged by isAddressDetection.
func ipv6SourceInvalid(a Addr) bool {
	if a.Hi == 0 {
		return a.Lo == 1 || a.Lo>>32 == 0xffff
	}
	return a.Hi>>56 == 0xff
}

// isAddressDetection reports whether a packet from the unspecified address is
// a neighbour solicitation to a solicited-node address, ff02::1:ff00:0/104: the
// one packet of that source that may concern us (RFC 4862 section 5.4.2).
func isAddressDetection(transport []byte, info *Info) bool {
	return info.Proto == ProtoICMPv6 && info.Frag == 0 &&
		len(transport) > 0 && transport[icmpType] == ICMPv6NeighborSolicit &&
		IsSolicitedNode(info.Dst)
}

// IsSolicitedNode reports whether a is a solicited-node multicast address (RFC
// 4291 section 2.7.1).
func IsSolicitedNode(a Addr) bool {
	return a.Hi == 0xff02<<48 && a.Lo>>24 == 0x1ff
}
