package rewrite

import (
	"encoding/binary"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// ICMPToClient rewrites an ICMP error from the backend's side, about a packet
// that went from SNAT address to backend, so that the client understands it.
// to is what NAT gives packets to the client: the error then comes from the
// VIP, whoever sent it, and the packet it quotes went from client to VIP.
//
// The quote is rewritten as far as it goes: addresses, the IPv4 header
// checksum, ports, and the transport checksum if it was quoted; eight bytes of
// TCP are enough (RFC 5508 section 4.2). All checksums are updated by the
// difference.
//
// Reasons: FamilyMismatch when an address is not of the packet's family,
// ICMPMalformed when the message quotes nothing.
func ICMPToClient(frame []byte, info *packet.Info, to *NATArgs) reason.Reason {
	return rewriteError(frame, info, to)
}

// ICMPToBackend rewrites an ICMP error from the client's side, about a packet
// that went from VIP to client, so that the backend understands it. to is what
// NAT gives packets to the backend: the error then comes from the SNAT
// address, and the packet it quotes went from backend to SNAT address. The
// rest is as in ICMPToClient.
func ICMPToBackend(frame []byte, info *packet.Info, to *NATArgs) reason.Reason {
	return rewriteError(frame, info, to)
}

// rewriteError gives an ICMP error the addresses of a packet of its flow, and
// its quote the ends of a packet in the other direction: what is told to one
// end of a flow is told about a packet that this end sent.
func rewriteError(frame []byte, info *packet.Info, to *NATArgs) reason.Reason {
	is4 := info.Kind == packet.KindIPv4
	if to.Src.Is4() != is4 || to.Dst.Is4() != is4 {
		return reason.FamilyMismatch
	}
	if info.Inner.Proto == 0 {
		return reason.ICMPMalformed
	}
	quoted := NATArgs{Src: to.Dst, SrcPort: to.DstPort, Dst: to.Src, DstPort: to.SrcPort}
	pseudo := setAddrs(frame, info, to.Src, to.Dst)
	body, inQuote := rewriteQuotedIP(frame, info, &quoted)
	if !info.Inner.Fragment {
		body += rewriteQuotedTransport(frame, info, inQuote, &quoted)
	}
	if is4 {
		h := packet.ICMPv4(frame[info.L4:])
		h.SetChecksum(body.Apply(h.Checksum()))
		return reason.None
	}
	h := packet.ICMPv6(frame[info.L4:])
	h.SetChecksum((pseudo + body).Apply(h.Checksum()))
	return reason.None
}

// rewriteQuotedIP rewrites the quoted IP header. It returns the change of the
// bytes of the quote, and that of the pseudo-header of the quoted transport
// checksum.
func rewriteQuotedIP(frame []byte, info *packet.Info, to *NATArgs) (body, pseudo packet.Delta) {
	if info.Kind == packet.KindIPv4 {
		h := packet.IPv4(frame[info.Inner.L3:])
		pseudo = pseudo.Addr(h.Src(), to.Src).Addr(h.Dst(), to.Dst)
		h.SetSrc(to.Src)
		h.SetDst(to.Dst)
		old := h.Checksum()
		h.SetChecksum(pseudo.Apply(old))
		return pseudo.Word(old, h.Checksum()), pseudo
	}
	h := packet.IPv6(frame[info.Inner.L3:])
	pseudo = pseudo.Addr(h.Src(), to.Src).Addr(h.Dst(), to.Dst)
	h.SetSrc(to.Src)
	h.SetDst(to.Dst)
	return pseudo, pseudo
}

// rewriteQuotedTransport rewrites the ports of the quoted transport header, and
// its checksum if the quote reaches that far, and returns the change of the
// bytes of the quote.
func rewriteQuotedTransport(frame []byte, info *packet.Info, pseudo packet.Delta, to *NATArgs) (body packet.Delta) {
	quote := frame[info.Inner.L4:info.Inner.End]
	switch info.Inner.Proto {
	case packet.ProtoTCP:
		h := packet.TCP(quote)
		body = body.Word(h.SrcPort(), to.SrcPort).Word(h.DstPort(), to.DstPort)
		h.SetSrcPort(to.SrcPort)
		h.SetDstPort(to.DstPort)
		if len(quote) >= packet.TCPChecksumOffset+2 {
			old := h.Checksum()
			h.SetChecksum((pseudo + body).Apply(old))
			body = body.Word(old, h.Checksum())
		}
	case packet.ProtoUDP:
		h := packet.UDP(quote)
		body = body.Word(h.SrcPort(), to.SrcPort).Word(h.DstPort(), to.DstPort)
		h.SetSrcPort(to.SrcPort)
		h.SetDstPort(to.DstPort)
		if old := h.Checksum(); old != 0 {
			h.SetChecksum(packet.UDPChecksum((pseudo + body).Apply(old)))
			body = body.Word(old, h.Checksum())
		}
	case packet.ProtoSCTP:
		body = rewriteQuotedSCTP(frame, info, quote, to)
	case packet.ProtoICMPv6:
		if info.Kind != packet.KindIPv6 {
			break // an IPv4 packet of that protocol number is no ICMPv6
		}
		h := packet.ICMPv6(quote)
		old := h.Checksum()
		h.SetChecksum(pseudo.Apply(old))
		body = body.Word(old, h.Checksum())
	}
	return body
}

// rewriteQuotedSCTP rewrites the ports of a quoted SCTP header, and its CRC32c
// if the quote has it and the header before it says how long the whole packet
// was.
func rewriteQuotedSCTP(frame []byte, info *packet.Info, quote []byte, to *NATArgs) (body packet.Delta) {
	h := packet.SCTP(quote)
	length := quotedLen(frame, info)
	if len(quote) >= packet.SCTPLen && length >= packet.SCTPLen && h.Checksum() != 0 {
		old := binary.BigEndian.Uint32(quote[packet.SCTPChecksumOffset:])
		h.SetChecksum(h.Checksum() ^ portsDifference(h, to, length))
		body = body.Long(old, binary.BigEndian.Uint32(quote[packet.SCTPChecksumOffset:]))
	}
	body = body.Word(h.SrcPort(), to.SrcPort).Word(h.DstPort(), to.DstPort)
	h.SetSrcPort(to.SrcPort)
	h.SetDstPort(to.DstPort)
	return body
}

// quotedLen is the length in bytes of the quoted packet's transport header and
// payload before it was cut, 0 when the quote does not tell: a fragment, or
// extension headers, of which one may make it a fragment.
func quotedLen(frame []byte, info *packet.Info) int {
	header := int(info.Inner.L4 - info.Inner.L3)
	if info.Kind == packet.KindIPv4 {
		h := packet.IPv4(frame[info.Inner.L3:])
		if h.MoreFragments() {
			return 0
		}
		return int(h.TotalLen()) - header
	}
	if header != packet.IPv6Len {
		return 0
	}
	return int(packet.IPv6(frame[info.Inner.L3:]).PayloadLen())
}
