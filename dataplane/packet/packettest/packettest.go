// Package packettest builds frames for tests and checks frames that the code
// under test has made. It shares no code with package packet: the builders
// compute every checksum with plain slow loops of their own, and Verify
// decodes with gopacket, so that a mistake in package packet shows.
//
// A builder takes the two ends, of which the address family picks IPv4 or
// IPv6, and options:
//
//	packettest.TCP(packettest.AddrPort("192.0.2.1:4000"), packettest.AddrPort("198.18.0.10:80"),
//		packettest.Flags(packet.TCPFlagACK), packettest.VLAN(7), packettest.PayloadLen(100))
//
// A builder that is asked for something impossible panics: that is a mistake
// in the test.
package packettest

import (
	"fmt"
	"net/netip"
)

// MAC addresses that frames are built with, unless MACs says otherwise.
var (
	DefaultDstMAC = [6]byte{0x02, 0, 0, 0, 0, 0x02}
	DefaultSrcMAC = [6]byte{0x02, 0, 0, 0, 0, 0x01}
)

// AddrPort parses "192.0.2.1:80" or "[2001:db8::1]:80".
func AddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// Addr parses "192.0.2.1" or "2001:db8::1".
func Addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// TCP is a TCP segment: a SYN, unless Flags says otherwise.
func TCP(src, dst netip.AddrPort, opts ...Option) []byte {
	s := newSpec(src.Addr(), dst.Addr(), protoTCP, opts)
	return s.frame(s.tcp(src.Port(), dst.Port()))
}

// UDP is a UDP datagram.
func UDP(src, dst netip.AddrPort, opts ...Option) []byte {
	s := newSpec(src.Addr(), dst.Addr(), protoUDP, opts)
	return s.frame(s.udp(src.Port(), dst.Port()))
}

// SCTP is an SCTP packet whose payload is one DATA chunk's worth of bytes as
// given: the common header is all that is built.
func SCTP(src, dst netip.AddrPort, opts ...Option) []byte {
	s := newSpec(src.Addr(), dst.Addr(), protoSCTP, opts)
	return s.frame(s.sctp(src.Port(), dst.Port()))
}

// Echo is an echo request, ICMP or ICMPv6.
func Echo(src, dst netip.Addr, id, seq uint16, opts ...Option) []byte {
	return echo(src, dst, icmpv4Echo, icmpv6Echo, id, seq, opts)
}

// EchoReply is an echo reply, ICMP or ICMPv6.
func EchoReply(src, dst netip.Addr, id, seq uint16, opts ...Option) []byte {
	return echo(src, dst, icmpv4EchoReply, icmpv6EchoReply, id, seq, opts)
}

func echo(src, dst netip.Addr, type4, type6 uint8, id, seq uint16, opts []Option) []byte {
	typ := type4
	if src.Is6() {
		typ = type6
	}
	return ICMP(src, dst, typ, 0, append([]Option{Rest(uint32(id)<<16 | uint32(seq))}, opts...)...)
}

// ICMP is an ICMP or ICMPv6 message of any type; Rest gives its second word
// and Payload its body.
func ICMP(src, dst netip.Addr, typ, code uint8, opts ...Option) []byte {
	proto := uint8(protoICMP)
	if src.Is6() {
		proto = protoICMPv6
	}
	s := newSpec(src, dst, proto, opts)
	return s.frame(s.icmp(typ, code))
}

// ICMPError is an ICMP or ICMPv6 error that quotes the IP packet of the frame
// quoted, as much of it as the standards allow in a message (576 bytes in all,
// RFC 1812 section 4.3.2.3; 1280 in IPv6, RFC 4443 section 3) or as QuoteLen
// says.
func ICMPError(src, dst netip.Addr, typ, code uint8, quoted []byte, opts ...Option) []byte {
	limit := 576 - 20 - 8
	if src.Is6() {
		limit = 1280 - 40 - 8
	}
	s := newSpec(src, dst, 0, opts)
	if s.quoteLen >= 0 {
		limit = s.quoteLen
	}
	quote := IPPacket(quoted)
	if len(quote) > limit {
		quote = quote[:limit]
	}
	return ICMP(src, dst, typ, code, append([]Option{Payload(quote)}, opts...)...)
}

// IP is an IP packet of any protocol around a payload that is taken as it is.
func IP(src, dst netip.Addr, proto uint8, payload []byte, opts ...Option) []byte {
	s := newSpec(src, dst, proto, opts)
	return s.frame(payload)
}

// Encapsulate is the IP packet of the frame inner behind an outer IP header
// (IP in IP, RFC 2003, RFC 2473, RFC 4213).
func Encapsulate(src, dst netip.Addr, inner []byte, opts ...Option) []byte {
	packet := IPPacket(inner)
	return IP(src, dst, ipProtoOf(packet), packet, opts...)
}

// EncapsulateGUE is the IP packet of the frame inner in GUE over UDP.
func EncapsulateGUE(src, dst netip.AddrPort, inner []byte, opts ...Option) []byte {
	packet := IPPacket(inner)
	gue := append([]byte{0, ipProtoOf(packet), 0, 0}, packet...)
	return UDP(src, dst, append([]Option{Payload(gue)}, opts...)...)
}

func ipProtoOf(packet []byte) uint8 {
	if packet[0]>>4 == 6 {
		return protoIPv6
	}
	return protoIPIP
}

// IPPacket is the IP packet in a frame, without link-layer header and padding.
func IPPacket(frame []byte) []byte {
	l3, etherType, err := linkLayer(frame)
	if err != nil {
		panic(fmt.Sprintf("packettest: %v", err))
	}
	p := frame[l3:]
	switch etherType {
	case etherTypeIPv4:
		return p[:be16(p[2:])]
	case etherTypeIPv6:
		return p[:40+int(be16(p[4:]))]
	}
	panic(fmt.Sprintf("packettest: EtherType %#04x is no IP packet", etherType))
}
