package packettest

import (
	"encoding/binary"
	"fmt"
)

// Numbers as the standards have them, written here once more on purpose.
const (
	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
	etherTypeIPv6 = 0x86dd

	protoHopByHop = 0
	protoICMP     = 1
	protoIPIP     = 4
	protoTCP      = 6
	protoUDP      = 17
	protoIPv6     = 41
	protoRouting  = 43
	protoFragment = 44
	protoESP      = 50
	protoAH       = 51
	protoICMPv6   = 58
	protoNoNext   = 59
	protoDestOpts = 60
	protoSCTP     = 132

	icmpv4EchoReply = 0
	icmpv4Echo      = 8
	icmpv6Echo      = 128
	icmpv6EchoReply = 129
	icmpv6Solicit   = 135
	icmpv6Advert    = 136

	flagSYN = 0x02
)

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }

// tcp builds a segment.
func (s *spec) tcp(srcPort, dstPort uint16) []byte {
	if s.laterFragment() {
		return s.payload
	}
	b := make([]byte, 20, 20+len(s.tcpOptions)+len(s.payload))
	binary.BigEndian.PutUint16(b[0:], srcPort)
	binary.BigEndian.PutUint16(b[2:], dstPort)
	binary.BigEndian.PutUint32(b[4:], s.seq)
	binary.BigEndian.PutUint32(b[8:], s.ack)
	b[12] = byte((20 + len(s.tcpOptions)) / 4 << 4)
	b[13] = s.flags
	binary.BigEndian.PutUint16(b[14:], s.window)
	b = append(b, s.tcpOptions...)
	b = append(b, s.payload...)
	s.putChecksum(b, 16, transportChecksum(s.src, s.dst, protoTCP, b))
	return b
}

// udp builds a datagram.
func (s *spec) udp(srcPort, dstPort uint16) []byte {
	if s.laterFragment() {
		return s.payload
	}
	b := make([]byte, 8, 8+len(s.payload))
	binary.BigEndian.PutUint16(b[0:], srcPort)
	binary.BigEndian.PutUint16(b[2:], dstPort)
	b = append(b, s.payload...)
	length := len(b)
	if s.udpLen >= 0 {
		length = s.udpLen
	}
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	if !s.noUDPChecksum {
		covered := b
		if length >= 8 && length < len(b) {
			covered = b[:length]
		}
		check := transportChecksum(s.src, s.dst, protoUDP, covered)
		if check == 0 {
			check = 0xffff
		}
		s.putChecksum(b, 6, check)
	}
	return b
}

// sctp builds a common header with the payload behind it.
func (s *spec) sctp(srcPort, dstPort uint16) []byte {
	if s.laterFragment() {
		return s.payload
	}
	b := make([]byte, 12, 12+len(s.payload))
	binary.BigEndian.PutUint16(b[0:], srcPort)
	binary.BigEndian.PutUint16(b[2:], dstPort)
	binary.BigEndian.PutUint32(b[4:], s.tag)
	b = append(b, s.payload...)
	check := crc32c(b)
	if s.badChecksum {
		check ^= 0x5555
	}
	binary.LittleEndian.PutUint32(b[8:], check)
	return b
}

// icmp builds a message.
func (s *spec) icmp(typ, code uint8) []byte {
	if s.laterFragment() {
		return s.payload
	}
	b := make([]byte, 8, 8+len(s.payload))
	b[0], b[1] = typ, code
	binary.BigEndian.PutUint32(b[4:], s.rest)
	b = append(b, s.payload...)
	if s.proto == protoICMPv6 {
		s.putChecksum(b, 2, transportChecksum(s.src, s.dst, protoICMPv6, b))
	} else {
		s.putChecksum(b, 2, checksum(b))
	}
	return b
}

func (s *spec) laterFragment() bool { return s.fragment && s.fragOffset > 0 }

func (s *spec) putChecksum(b []byte, at int, check uint16) {
	if s.badChecksum {
		check ^= 0x5555
	}
	binary.BigEndian.PutUint16(b[at:], check)
}

// frame puts IP and Ethernet around a transport header and payload.
func (s *spec) frame(transport []byte) []byte {
	if s.fragment && s.fragOffset%8 != 0 {
		panic(fmt.Sprintf("packettest: fragment offset %d is no multiple of 8", s.fragOffset))
	}
	if s.src.Is4() {
		return s.ethernet(etherTypeIPv4, append(s.ipv4(len(transport)), transport...))
	}
	return s.ethernet(etherTypeIPv6, append(s.ipv6(len(transport)), transport...))
}

func (s *spec) ipv4(length int) []byte {
	b := make([]byte, 20, 60)
	b = append(b, s.ipOptions...)
	b[0] = 0x40 | byte(len(b)/4)
	b[1] = s.tos
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+length))
	binary.BigEndian.PutUint16(b[4:], uint16(s.id))
	word := uint16(s.fragOffset / 8)
	if s.df {
		word |= 0x4000
	}
	if s.fragMore {
		word |= 0x2000
	}
	binary.BigEndian.PutUint16(b[6:], word)
	b[8] = s.ttl
	b[9] = s.proto
	copy(b[12:], s.src.AsSlice())
	copy(b[16:], s.dst.AsSlice())
	check := checksum(b)
	if s.badIPChecksum {
		check ^= 0x5555
	}
	binary.BigEndian.PutUint16(b[10:], check)
	return b
}

func (s *spec) ipv6(length int) []byte {
	var chain []byte
	next := s.proto
	for i := len(s.extensions) - 1; i >= 0; i-- {
		chain = append(s.extensionHeader(s.extensions[i], next), chain...)
		next = s.extensions[i].proto
	}
	b := make([]byte, 40, 40+len(chain))
	binary.BigEndian.PutUint32(b[0:], 6<<28|uint32(s.tos)<<20|s.flowLabel&0xfffff)
	binary.BigEndian.PutUint16(b[4:], uint16(len(chain)+length))
	b[6] = next
	b[7] = s.ttl
	copy(b[8:], s.src.AsSlice())
	copy(b[24:], s.dst.AsSlice())
	return append(b, chain...)
}

func (s *spec) extensionHeader(e extension, next uint8) []byte {
	if e.proto == protoFragment {
		b := make([]byte, 8)
		b[0] = next
		word := uint16(s.fragOffset)
		if s.fragMore {
			word |= 1
		}
		binary.BigEndian.PutUint16(b[2:], word)
		binary.BigEndian.PutUint32(b[4:], s.id)
		return b
	}
	b := append([]byte{next, 0}, e.body...)
	switch {
	case e.proto == protoAH && len(b)%4 == 0 && len(b) >= 8:
		b[1] = byte(len(b)/4 - 2)
	case e.proto != protoAH && len(b)%8 == 0 && len(b) >= 8:
		b[1] = byte(len(b)/8 - 1)
	default:
		panic(fmt.Sprintf("packettest: extension header %d of %d bytes", e.proto, len(b)))
	}
	return b
}

func (s *spec) ethernet(etherType uint16, packet []byte) []byte {
	b := make([]byte, 0, 14+4*len(s.vlans)+len(packet)+s.trailer)
	b = append(b, s.dstMAC[:]...)
	b = append(b, s.srcMAC[:]...)
	for _, tag := range s.vlans {
		b = binary.BigEndian.AppendUint16(b, tag.tpid)
		b = binary.BigEndian.AppendUint16(b, tag.tci)
	}
	b = binary.BigEndian.AppendUint16(b, etherType)
	b = append(b, packet...)
	return append(b, make([]byte, s.trailer)...)
}
