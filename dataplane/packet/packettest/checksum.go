package packettest

import "net/netip"

// sum16 is the ones' complement sum of b as 16-bit words, one word at a time
// with the carry added at once, as RFC 1071 section 1 says it.
func sum16(b []byte, sum uint32) uint32 {
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word |= uint32(b[i+1])
		}
		sum += word
		if sum > 0xffff {
			sum = sum - 0x10000 + 1
		}
	}
	return sum
}

// checksum is the Internet checksum of b.
func checksum(b []byte) uint16 { return ^uint16(sum16(b, 0)) }

// transportChecksum is the checksum of b behind the pseudo-header of its
// family, spelled out byte by byte (RFC 9293 section 3.1, RFC 8200 section
// 8.1).
func transportChecksum(src, dst netip.Addr, proto uint8, b []byte) uint16 {
	pseudo := append(src.AsSlice(), dst.AsSlice()...)
	n := len(b)
	if src.Is4() {
		pseudo = append(pseudo, 0, proto, byte(n>>8), byte(n))
	} else {
		pseudo = append(pseudo, byte(n>>24), byte(n>>16), byte(n>>8), byte(n), 0, 0, 0, proto)
	}
	return ^uint16(sum16(b, sum16(pseudo, 0)))
}

// crc32c is the CRC of an SCTP packet with its checksum field taken as zero,
// one bit at a time (RFC 9260 appendix A).
func crc32c(b []byte) uint32 {
	const reflected = 0x82f63b78
	crc := ^uint32(0)
	for i, v := range b {
		if i >= 8 && i < 12 {
			v = 0
		}
		crc ^= uint32(v)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ reflected
			} else {
				crc >>= 1
			}
		}
	}
	return ^crc
}
