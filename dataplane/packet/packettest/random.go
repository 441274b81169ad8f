package packettest

import (
	"math/rand/v2"
	"net/netip"
)

// RandomFrame is a valid frame, as Verify sees it: TCP, UDP, SCTP, echo and
// ICMP errors over both families, whole or fragments, with and without VLAN
// tags, IPv4 options, IPv6 extension headers and padding. The same r gives the
// same frames. Sources lie in 192.0.2.0/24 and 2001:db8:1::/48, destinations
// in 198.18.0.0/24 and 2001:db8:2::/48.
func RandomFrame(r *rand.Rand) []byte {
	return RandomFrameOf(r, r.IntN(2) == 1)
}

// RandomFrameOf is RandomFrame of the family given.
func RandomFrameOf(r *rand.Rand, is6 bool) []byte {
	src := netip.AddrPortFrom(randomAddr(r, is6, 1), uint16(r.Uint32()))
	dst := netip.AddrPortFrom(randomAddr(r, is6, 2), uint16(r.Uint32()))
	opts := append(randomLink(r), randomIP(r, is6)...)
	if r.IntN(5) == 0 {
		opts = append(opts, randomFragment(r))
	} else {
		opts = append(opts, PayloadLen(r.IntN(300)))
	}
	switch r.IntN(8) {
	case 0, 1, 2:
		return TCP(src, dst, append(opts, randomTCP(r)...)...)
	case 3, 4:
		if !is6 && r.IntN(4) == 0 {
			opts = append(opts, NoUDPChecksum())
		}
		return UDP(src, dst, opts...)
	case 5:
		return SCTP(src, dst, append(opts, Tag(r.Uint32()))...)
	case 6:
		return Echo(src.Addr(), dst.Addr(), src.Port(), dst.Port(), opts...)
	}
	return randomError(r, is6, src, dst)
}

// randomError is an ICMP error from src about a packet that dst sent.
func randomError(r *rand.Rand, is6 bool, src, dst netip.AddrPort) []byte {
	typ := []uint8{3, 11, 12}[r.IntN(3)]
	if is6 {
		typ = uint8(1 + r.IntN(4))
	}
	quotedOpts := append(randomIP(r, is6), PayloadLen(8+r.IntN(300)))
	var quoted []byte
	switch r.IntN(4) {
	case 0:
		quoted = TCP(dst, src, quotedOpts...)
	case 1:
		quoted = UDP(dst, src, quotedOpts...)
	case 2:
		quoted = SCTP(dst, src, quotedOpts...)
	default:
		quoted = Echo(dst.Addr(), src.Addr(), 9, 9, quotedOpts...)
	}
	// At least the first 8 bytes of the quoted transport header are there.
	packet := IPPacket(quoted)
	header := int(packet[0]&0x0f) * 4
	if is6 {
		p, _, _ := ipv6(packet)
		header = len(packet) - len(p.payload)
	}
	limit := header + 8 + r.IntN(len(packet)-header-7)
	return ICMPError(src.Addr(), dst.Addr(), typ, uint8(r.IntN(2)), quoted,
		append(randomLink(r), QuoteLen(limit), Rest(r.Uint32()))...)
}

func randomAddr(r *rand.Rand, is6 bool, side byte) netip.Addr {
	if is6 {
		b := [16]byte{0x20, 0x01, 0x0d, 0xb8, 0, side}
		for i := 8; i < 16; i++ {
			b[i] = byte(r.Uint32())
		}
		return netip.AddrFrom16(b)
	}
	if side == 1 {
		return netip.AddrFrom4([4]byte{192, 0, 2, byte(r.Uint32())})
	}
	return netip.AddrFrom4([4]byte{198, 18, 0, byte(r.Uint32())})
}

func randomLink(r *rand.Rand) (opts []Option) {
	switch r.IntN(4) {
	case 0:
		opts = append(opts, VLAN(uint16(r.Uint32())))
	case 1:
		opts = append(opts, VLAN(uint16(r.Uint32()), uint16(r.Uint32())))
	}
	if r.IntN(3) == 0 {
		opts = append(opts, Trailer(r.IntN(20)))
	}
	return opts
}

func randomIP(r *rand.Rand, is6 bool) []Option {
	opts := []Option{TTL(uint8(2 + r.IntN(254))), TOS(uint8(r.Uint32())), ID(uint32(uint16(r.Uint32())))}
	if is6 {
		opts = append(opts, FlowLabel(r.Uint32()))
		if r.IntN(4) == 0 {
			opts = append(opts, HopByHop(1+r.IntN(3)))
		}
		if r.IntN(4) == 0 {
			opts = append(opts, Routing())
		}
		if r.IntN(6) == 0 {
			opts = append(opts, DestOpts(1+r.IntN(5)))
		}
		if r.IntN(8) == 0 {
			opts = append(opts, AH())
		}
		return opts
	}
	if r.IntN(2) == 0 {
		opts = append(opts, DF())
	}
	if r.IntN(5) == 0 {
		options := make([]byte, 4*(1+r.IntN(10)))
		for i := range options {
			options[i] = 1
		}
		if len(options) >= 8 { // a timestamp option behind the padding
			copy(options[4:], []byte{0x44, 4, 5, 0})
		}
		opts = append(opts, IPOptions(options...))
	}
	return opts
}

// randomFragment is a fragment whose payload has a length that the fragment
// may have, the first one with room for any transport header.
func randomFragment(r *rand.Rand) Option {
	id := r.Uint32()
	switch r.IntN(3) {
	case 0:
		// TCP's 20 bytes, SCTP's 12 and UDP's 8 leave different remainders.
		return func(s *spec) {
			header := map[uint8]int{protoTCP: 20, protoUDP: 8, protoSCTP: 12, protoICMP: 8, protoICMPv6: 8}[s.proto]
			Fragment(0, true, id)(s)
			PayloadLen(8*(3+int(id%20)) - header)(s)
		}
	case 1:
		return Join(Fragment(8*(2+r.IntN(2000)), true, id), PayloadLen(8*(1+r.IntN(30))))
	}
	return Join(Fragment(8*(2+r.IntN(2000)), false, id), PayloadLen(1+r.IntN(300)))
}

// randomTCP gives flags as they occur, and options when the segment is whole
// or the first fragment has room for them.
func randomTCP(r *rand.Rand) []Option {
	flags := []uint8{0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14, 0xc2, 0x52}
	return []Option{Flags(flags[r.IntN(len(flags))]), Seq(r.Uint32()), Ack(r.Uint32()), Window(uint16(r.Uint32()))}
}
