package packettest

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// transport checks what an IP packet carries.
func (v *verifier) transport(p ipPacket) error {
	if p.later {
		return nil
	}
	switch p.proto {
	case protoTCP:
		return verifyTCP(p)
	case protoUDP:
		return v.udp(p)
	case protoSCTP:
		return verifySCTP(p)
	case protoICMP, protoICMPv6:
		return verifyICMP(p)
	case protoIPIP, protoIPv6:
		if p.fragment {
			return nil
		}
		_, err := v.ip(p.payload, p.proto == protoIPv6, true)
		return inside("tunnel", err)
	}
	return nil
}

func inside(what string, err error) error {
	if err != nil {
		return fmt.Errorf("in %s: %w", what, err)
	}
	return nil
}

// transportMatches says whether the checksum at offset at of b is right.
func transportMatches(p ipPacket, b []byte, at int) (got, want uint16, ok bool) {
	zeroed := append([]byte(nil), b...)
	zeroed[at], zeroed[at+1] = 0, 0
	got, want = be16(b[at:]), transportChecksum(p.src, p.dst, p.proto, zeroed)
	return got, want, got == want
}

func verifyTCP(p ipPacket) error {
	b := p.payload
	if len(b) < 20 {
		return fmt.Errorf("tcp: %d bytes", len(b))
	}
	headerLen := int(b[12]>>4) * 4
	if headerLen < 20 || headerLen > len(b) && !p.fragment {
		return fmt.Errorf("tcp: data offset %d, present %d", headerLen, len(b))
	}
	// gopacket decodes the fixed header alone: which options there are and how
	// they are formed is nothing that a middlebox may insist on.
	fixed := append([]byte(nil), b[:20]...)
	fixed[12] = 5 << 4
	var h layers.TCP
	if err := h.DecodeFromBytes(fixed, gopacket.NilDecodeFeedback); err != nil {
		return fmt.Errorf("tcp: %w", err)
	}
	if p.fragment {
		return nil
	}
	if got, want, ok := transportMatches(p, b, 16); !ok {
		return fmt.Errorf("tcp: checksum %#04x, want %#04x", got, want)
	}
	return nil
}

func (v *verifier) udp(p ipPacket) error {
	b := p.payload
	var h layers.UDP
	if err := h.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		return fmt.Errorf("udp: %w", err)
	}
	length := int(h.Length)
	if length < 8 || length > len(b) && !p.fragment {
		return fmt.Errorf("udp: length %d, present %d", length, len(b))
	}
	if p.fragment {
		return nil
	}
	b = b[:length]
	gue := slices.Contains(v.guePorts, uint16(h.DstPort))
	switch {
	case h.Checksum != 0:
		got, want, ok := transportMatches(p, b, 6)
		if want == 0 {
			want = 0xffff
			ok = got == want
		}
		if !ok {
			return fmt.Errorf("udp: checksum %#04x, want %#04x", got, want)
		}
	case p.src.Is6() && !gue: // RFC 8200 section 8.1; RFC 6935 lets tunnels
		return fmt.Errorf("udp: no checksum in IPv6")
	}
	if gue {
		return inside("gue", v.gue(b[8:]))
	}
	return nil
}

func (v *verifier) gue(b []byte) error {
	var h layers.AGUEVar0
	if err := h.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		return err
	}
	if h.Version != 0 || h.C || len(h.Extensions) != 0 || h.Flags != 0 {
		return fmt.Errorf("header %#08x, want version 0, data, no fields", binary.BigEndian.Uint32(b))
	}
	if h.Protocol != protoIPIP && h.Protocol != protoIPv6 {
		return fmt.Errorf("protocol %d, want 4 or 41", h.Protocol)
	}
	_, err := v.ip(b[4:], h.Protocol == protoIPv6, true)
	return err
}

func verifySCTP(p ipPacket) error {
	var h layers.SCTP
	if err := h.DecodeFromBytes(p.payload, gopacket.NilDecodeFeedback); err != nil {
		return fmt.Errorf("sctp: %w", err)
	}
	if p.fragment {
		return nil
	}
	if got, want := binary.LittleEndian.Uint32(p.payload[8:]), crc32c(p.payload); got != want {
		return fmt.Errorf("sctp: checksum %#08x, want %#08x", got, want)
	}
	return nil
}

func verifyICMP(p ipPacket) error {
	b := p.payload
	if len(b) < 8 {
		return fmt.Errorf("icmp: %d bytes", len(b))
	}
	if p.fragment {
		return nil
	}
	if p.proto == protoICMP {
		var h layers.ICMPv4
		if err := h.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
			return fmt.Errorf("icmp: %w", err)
		}
		zeroed := append([]byte(nil), b...)
		zeroed[2], zeroed[3] = 0, 0
		if want := checksum(zeroed); h.Checksum != want {
			return fmt.Errorf("icmp: checksum %#04x, want %#04x", h.Checksum, want)
		}
		return nil
	}
	if got, want, ok := transportMatches(p, b, 2); !ok {
		return fmt.Errorf("icmpv6: checksum %#04x, want %#04x", got, want)
	}
	if typ := b[0]; typ == icmpv6Solicit || typ == icmpv6Advert {
		return verifyNeighbor(p)
	}
	return nil
}

func verifyNeighbor(p ipPacket) error {
	b := p.payload
	if p.hops != 255 {
		return fmt.Errorf("ndp: hop limit %d, want 255", p.hops)
	}
	if b[1] != 0 {
		return fmt.Errorf("ndp: code %d, want 0", b[1])
	}
	var err error
	if b[0] == icmpv6Solicit {
		var h layers.ICMPv6NeighborSolicitation
		err = h.DecodeFromBytes(b[4:], gopacket.NilDecodeFeedback)
	} else {
		var h layers.ICMPv6NeighborAdvertisement
		err = h.DecodeFromBytes(b[4:], gopacket.NilDecodeFeedback)
	}
	if err != nil {
		return fmt.Errorf("ndp: %w", err)
	}
	return nil
}

// VerifyQuote checks the packet that the ICMP error in a frame quotes: that
// its IP header decodes, that an IPv4 header's checksum is right, and, where
// the quote holds the whole packet, everything that Verify checks.
func VerifyQuote(frame []byte) error {
	if err := Verify(frame); err != nil {
		return err
	}
	l3, etherType, _ := linkLayer(frame)
	walk := ipv4
	switch etherType {
	case etherTypeIPv4:
	case etherTypeIPv6:
		walk = ipv6
	default:
		return fmt.Errorf("quote: EtherType %#04x is no IP packet", etherType)
	}
	p, _, err := walk(frame[l3:])
	if err != nil {
		return err
	}
	if p.proto != protoICMP && p.proto != protoICMPv6 {
		return fmt.Errorf("quote: protocol %d is no ICMP", p.proto)
	}
	return inside("quote", verifyQuoted(p.payload[8:], etherType == etherTypeIPv6))
}

// verifyQuoted checks a quoted packet, which may be cut short anywhere behind
// its IP header.
func verifyQuoted(quote []byte, is6 bool) error {
	var length int
	switch {
	case is6 && len(quote) >= 40:
		length = 40 + int(be16(quote[4:]))
	case !is6 && len(quote) >= 20:
		length = int(be16(quote[2:]))
	default:
		return fmt.Errorf("ip: %d bytes", len(quote))
	}
	if length <= len(quote) {
		v := verifier{}
		_, err := v.ip(quote, is6, false)
		return err
	}
	if is6 {
		if quote[0]>>4 != 6 {
			return fmt.Errorf("ipv6: version %d", quote[0]>>4)
		}
		return nil
	}
	headerLen := int(quote[0]&0x0f) * 4
	if quote[0]>>4 != 4 || headerLen < 20 || headerLen > len(quote) {
		return fmt.Errorf("ipv4: first byte %#02x, present %d", quote[0], len(quote))
	}
	header := append([]byte(nil), quote[:headerLen]...)
	header[10], header[11] = 0, 0
	if got, want := be16(quote[10:]), checksum(header); got != want {
		return fmt.Errorf("ipv4: header checksum %#04x, want %#04x", got, want)
	}
	return nil
}
