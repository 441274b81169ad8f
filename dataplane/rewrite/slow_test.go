package rewrite

import (
	"encoding/binary"
	"testing"

	"fairlead/dataplane/packet"
)

// The checks in this file know nothing of package packet's checksums. They say
// by how much a checksum is wrong, so that tests can ask for more than right
// or wrong: a rewrite must leave the error as it found it.

// wordSum adds the 16-bit words of b as plain numbers modulo 65535, which is
// what ones' complement addition is.
func wordSum(b []byte) uint64 {
	sum := uint64(0)
	for i, v := range b {
		if i%2 == 0 {
			sum += uint64(v) * 256
		} else {
			sum += uint64(v)
		}
	}
	return sum % 65535
}

// headerError is the error of the IPv4 header checksum, 0 in IPv6.
func headerError(frame []byte, info *packet.Info) uint64 {
	if info.Kind != packet.KindIPv4 {
		return 0
	}
	return wordSum(frame[info.L3:][:int(frame[info.L3]&15)*4])
}

// transportError is the error of the transport checksum: of the checksum of
// TCP, UDP, ICMP and ICMPv6 modulo 65535, of that of SCTP bit by bit. It is 0
// where there is no checksum, and for fragments, of which a part is missing,
// it says nothing but stays the same when the frame is rewritten.
func transportError(frame []byte, info *packet.Info) uint64 {
	segment := frame[info.L4 : info.L3+info.IPLen]
	if info.Frag&packet.FragAny != 0 && info.Frag&packet.FragFirst == 0 {
		return 0
	}
	switch info.Proto {
	case 1:
		return wordSum(segment)
	case 17:
		if segment[6] == 0 && segment[7] == 0 {
			return 0
		}
		length := len(segment)
		if info.Frag == 0 {
			length = int(binary.BigEndian.Uint16(segment[4:]))
		}
		return (pseudoSum(frame, info, length) + wordSum(segment[:length])) % 65535
	case 6, 58:
		return (pseudoSum(frame, info, len(segment)) + wordSum(segment)) % 65535
	case 132:
		if info.Frag != 0 {
			return 0
		}
		return uint64(binary.LittleEndian.Uint32(segment[8:]) ^ slowCRC32c(segment))
	}
	return 0
}

func pseudoSum(frame []byte, info *packet.Info, length int) uint64 {
	sum := uint64(info.Proto) + uint64(length)
	if info.Kind == packet.KindIPv4 {
		return sum + wordSum(frame[info.L3+12:info.L3+20])
	}
	return sum + wordSum(frame[info.L3+8:info.L3+40])
}

// slowCRC32c is the CRC of an SCTP packet with its checksum taken as zero.
func slowCRC32c(b []byte) uint32 {
	crc := ^uint32(0)
	for i, v := range b {
		if i >= 8 && i < 12 {
			v = 0
		}
		crc = crcByte(crc, v)
	}
	return ^crc
}

func crcByte(crc uint32, v byte) uint32 {
	crc ^= uint32(v)
	for range 8 {
		lowest := crc & 1
		crc >>= 1
		if lowest == 1 {
			crc ^= 0x82f63b78
		}
	}
	return crc
}

// sctpWithZeroCRC is an SCTP packet, and its payload, whose right checksum is
// 0: the last four bytes are those that take the register to its end.
func sctpWithZeroCRC(t *testing.T, srcPort, dstPort uint16) (segment, payload []byte) {
	t.Helper()
	segment = make([]byte, 12+8)
	binary.BigEndian.PutUint16(segment[0:], srcPort)
	binary.BigEndian.PutUint16(segment[2:], dstPort)
	// The register before the last four bytes, and the one that must come out
	// so that the final inversion gives 0. Four bytes equal to the register
	// take it to 0; any target is reached by running the CRC backwards.
	crc := ^uint32(0)
	for _, v := range segment[:16] {
		crc = crcByte(crc, v)
	}
	back := ^uint32(0)
	for range 32 {
		if back&0x80000000 != 0 {
			back = (back^0x82f63b78)<<1 | 1
		} else {
			back <<= 1
		}
	}
	binary.LittleEndian.PutUint32(segment[16:], crc^back)
	if slowCRC32c(segment) != 0 {
		t.Fatal("the CRC of the packet made for it is not 0")
	}
	return segment, segment[12:]
}
