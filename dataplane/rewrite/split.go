package rewrite

import "fairlead/dataplane/packet"

// Split4 cuts an IPv4 packet, which may be a fragment already, into two
// fragments (RFC 791 section 3.2). The first stays in frame and is at most mtu
// bytes long as a packet; the second, with a copy of the link-layer header, is
// written to second. n1 and n2 are the lengths of the two frames. Of the
// options, the second has those that are to be copied. The second may still be
// too long: it is parsed and cut again.
//
// ok is false, and nothing has changed, when the packet is not IPv4, forbids
// fragmenting, fits already, when mtu has no room for the header and eight
// bytes, or when second is too short.
func Split4(frame []byte, info *packet.Info, mtu int, second []byte) (n1, n2 int, ok bool) {
	if info.Kind != packet.KindIPv4 || info.DontFragment || int(info.IPLen) <= mtu {
		return 0, 0, false
	}
	link, packetLen := int(info.L3), int(info.IPLen)
	h := packet.IPv4(frame[link : link+packetLen])
	header := h.HeaderLen()
	room := (mtu - header) &^ (packet.FragmentUnit - 1)
	if room < packet.FragmentUnit {
		return 0, 0, false
	}
	payload := h[header:]
	header2 := packet.IPv4MinLen + copiedOptionsLen(h.Options())
	n1 = link + header + room
	n2 = link + header2 + len(payload) - room
	if n2 > len(second) {
		return 0, 0, false
	}

	copy(second, frame[:link+packet.IPv4MinLen])
	h2 := packet.IPv4(second[link:n2])
	copyOptions(h2[packet.IPv4MinLen:header2], h.Options())
	copy(h2[header2:], payload[room:])
	h2.SetVersionHeaderLen(header2)
	h2.SetTotalLen(uint16(n2 - link))
	h2.SetFlagsOffset(h.FlagsOffset() + uint16(room/packet.FragmentUnit))
	h2.SetChecksum(0)
	h2.SetChecksum(packet.Checksum(h2[:header2]))

	h.SetTotalLen(uint16(n1 - link))
	h.SetFlagsOffset(h.FlagsOffset() | packet.IPv4FlagMF)
	h.SetChecksum(0)
	h.SetChecksum(packet.Checksum(h[:header]))
	return n1, n2, true
}

// nextOption gives the length of the option that the list begins with and
// whether every fragment has it; ok is false at the list's end.
func nextOption(options []byte) (length int, copied, ok bool) {
	if len(options) == 0 || options[0] == packet.IPv4OptionEnd {
		return 0, false, false
	}
	if options[0] == packet.IPv4OptionNop {
		return 1, false, true
	}
	if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
		return 0, false, false
	}
	return int(options[1]), options[0]&packet.IPv4OptionCopy != 0, true
}

// copiedOptionsLen is the length of the options that every fragment has, padded
// to whole words.
func copiedOptionsLen(options []byte) int {
	total := 0
	for {
		length, copied, ok := nextOption(options)
		if !ok {
			return (total + 3) &^ 3
		}
		if copied {
			total += length
		}
		options = options[length:]
	}
}

// copyOptions writes the options that every fragment has to dst, whose length
// is copiedOptionsLen, and pads with the end of the list.
func copyOptions(dst, options []byte) {
	for {
		length, copied, ok := nextOption(options)
		if !ok {
			break
		}
		if copied {
			dst = dst[copy(dst, options[:length]):]
		}
		options = options[length:]
	}
	for i := range dst {
		dst[i] = packet.IPv4OptionEnd
	}
}
