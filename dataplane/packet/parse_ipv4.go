package packet

import (
	"encoding/binary"
	"math/bits"

	"fairlead/dataplane/reason"
)

// parseIPv4 reads an IPv4 header and goes on to the transport header (RFC 791).
func parseIPv4(frame []byte, l3 int, info *Info) reason.Reason {
	info.Kind = KindIPv4
	h := IPv4(frame[l3:])
	if len(h) < IPv4MinLen {
		return reason.FrameTooShort
	}
	headerLen, total := h.HeaderLen(), int(h.TotalLen())
	if h.Version() != 4 || headerLen < IPv4MinLen || total < headerLen || total > len(h) {
		return reason.IPv4HeaderMalformed
	}
	info.IPLen = uint16(total)
	info.L3Len = uint16(headerLen)
	info.L4 = uint16(l3 + headerLen)
	if headerLen == IPv4MinLen {
		if !ipv4MinChecksumOK(h) {
			return reason.IPv4ChecksumWrong
		}
	} else if r := parseIPv4Options(h, headerLen); r != reason.None {
		return r
	}
	info.Src, info.Dst = h.Src(), h.Dst()
	info.TOS, info.TTL, info.Proto = h.TOS(), h.TTL(), h.Proto()
	if ipv4SourceInvalid(uint32(info.Src.Lo)) {
		return reason.SourceInvalid
	}
	word := h.FlagsOffset()
	info.DontFragment = word&IPv4FlagDF != 0
	if word&(IPv4FlagMF|IPv4OffsetMask) != 0 {
		info.FragID = uint32(h.ID())
		more := word&IPv4FlagMF != 0
		if r := parseFragment(info, h.FragmentOffset(), more, headerLen, total-headerLen); r != reason.None {
			return r
		}
	}
	return parseTransport(frame, l3+headerLen, l3+total, info)
}

// ipv4MinChecksumOK verifies the checksum of a header without options: the
// words, the checksum among them, add up to zero, which in ones' complement is
// any multiple of 0xffff. The version keeps the sum from being 0 itself.
func ipv4MinChecksumOK(h IPv4) bool {
	sum, carry := bits.Add64(binary.LittleEndian.Uint64(h), binary.LittleEndian.Uint64(h[8:]), 0)
	sum, carry = bits.Add64(sum, uint64(binary.LittleEndian.Uint32(h[16:])), carry)
	return (sum+carry)%0xffff == 0
}

// parseIPv4Options verifies a header with options: its checksum, and that
// every option but End and Nop has a length that counts at least its type and
// length bytes and ends inside the header. Which options there are does not
// matter.
func parseIPv4Options(h IPv4, headerLen int) reason.Reason {
	if Fold(Sum(h[:headerLen], 0)) != 0xffff {
		return reason.IPv4ChecksumWrong
	}
	options := h.Options()
	for at := 0; at < len(options); {
		switch options[at] {
		case IPv4OptionEnd:
			return reason.None
		case IPv4OptionNop:
			at++
			continue
		}
		if at+1 >= len(options) {
			return reason.IPv4HeaderMalformed
		}
		length := int(options[at+1])
		if length < 2 || at+length > len(options) {
			return reason.IPv4HeaderMalformed
		}
		at += length
	}
	return reason.None
}

// ipv4SourceInvalid reports whether an address can be no packet's source:
// unspecified, loopback, multicast, or limited broadcast (RFC 1122 section
// 3.2.1.3). The rest of class E is let through.
func ipv4SourceInvalid(a uint32) bool {
	return a == 0 || a>>24 == 127 || a>>28 == 0xe || a == 0xffffffff
}
