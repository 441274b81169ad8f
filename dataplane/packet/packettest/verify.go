package packettest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Verify checks a frame from the outside in: that every header decodes, that
// every length agrees with what is there, and that every checksum is right.
// It looks into IP in IP, and into UDP to one of guePorts as GUE; a packet in a
// tunnel must fill it exactly, while the frame itself may have padding behind
// the packet. What cannot be checked in a fragment (the transport checksum)
// is not. Of a packet that an ICMP error quotes nothing but the ICMP checksum
// over it is checked; see VerifyQuote. Frames that carry neither IP nor ARP
// are right as they are.
func Verify(frame []byte, guePorts ...uint16) error {
	l3, etherType, err := linkLayer(frame)
	if err != nil {
		return err
	}
	v := verifier{guePorts: guePorts}
	switch etherType {
	case etherTypeARP:
		return verifyARP(frame[l3:])
	case etherTypeIPv4, etherTypeIPv6:
		_, err := v.ip(frame[l3:], etherType == etherTypeIPv6, false)
		return err
	}
	return nil
}

// Decapsulate is the IP packet inside a tunnel packet (IP in IP, or GUE to one
// of guePorts); the frame must verify.
func Decapsulate(frame []byte, guePorts ...uint16) ([]byte, error) {
	if err := Verify(frame, guePorts...); err != nil {
		return nil, err
	}
	l3, etherType, _ := linkLayer(frame)
	if etherType != etherTypeIPv4 && etherType != etherTypeIPv6 {
		return nil, fmt.Errorf("ethernet: EtherType %#04x is no tunnel", etherType)
	}
	v := verifier{guePorts: guePorts}
	p, err := v.ip(frame[l3:], etherType == etherTypeIPv6, false)
	if err != nil {
		return nil, err
	}
	inner := p.payload
	switch p.proto {
	case protoIPIP, protoIPv6:
		return inner, nil
	case protoUDP:
		if len(inner) >= 12 && slices.Contains(guePorts, be16(inner[2:])) {
			return inner[12:], nil
		}
	}
	return nil, fmt.Errorf("ip: protocol %d is no tunnel", p.proto)
}

// linkLayer walks Ethernet and any number of VLAN tags: the offset of what
// follows, and its EtherType.
func linkLayer(frame []byte) (l3 int, etherType uint16, err error) {
	var eth layers.Ethernet
	if err := eth.DecodeFromBytes(frame, gopacket.NilDecodeFeedback); err != nil {
		return 0, 0, fmt.Errorf("ethernet: %w", err)
	}
	l3, etherType = 14, be16(frame[12:])
	for etherType == 0x8100 || etherType == 0x88a8 || etherType == 0x9100 {
		var tag layers.Dot1Q
		if err := tag.DecodeFromBytes(frame[l3:], gopacket.NilDecodeFeedback); err != nil {
			return 0, 0, fmt.Errorf("vlan: %w", err)
		}
		l3, etherType = l3+4, uint16(tag.Type)
	}
	return l3, etherType, nil
}

func verifyARP(b []byte) error {
	var arp layers.ARP
	if err := arp.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		return fmt.Errorf("arp: %w", err)
	}
	switch {
	case arp.AddrType != layers.LinkTypeEthernet:
		return fmt.Errorf("arp: hardware type %d, want 1", arp.AddrType)
	case arp.Protocol != layers.EthernetTypeIPv4:
		return fmt.Errorf("arp: protocol type %#04x, want 0x0800", uint16(arp.Protocol))
	case arp.HwAddressSize != 6 || arp.ProtAddressSize != 4:
		return fmt.Errorf("arp: address lengths %d and %d, want 6 and 4", arp.HwAddressSize, arp.ProtAddressSize)
	case arp.Operation != layers.ARPRequest && arp.Operation != layers.ARPReply:
		return fmt.Errorf("arp: operation %d, want 1 or 2", arp.Operation)
	}
	return nil
}

// verifier checks one frame.
type verifier struct {
	guePorts []uint16
	depth    int
}

// ipPacket is what the checks of the transport layer need of the layers below.
type ipPacket struct {
	src, dst netip.Addr
	proto    uint8
	hops     uint8
	payload  []byte // what the transport protocol is given
	fragment bool   // offset not zero, or more to come
	later    bool   // offset not zero
}

// ip checks an IP packet and everything in it. If exact, nothing may follow it.
func (v *verifier) ip(b []byte, is6, exact bool) (ipPacket, error) {
	if v.depth++; v.depth > 4 {
		return ipPacket{}, errors.New("ip: tunnels nested more than 4 deep")
	}
	walk := ipv4
	if is6 {
		walk = ipv6
	}
	p, length, err := walk(b)
	if err != nil {
		return p, err
	}
	if exact && length != len(b) {
		return p, fmt.Errorf("ip: tunnel carries %d bytes, the packet in it has %d", len(b), length)
	}
	return p, v.transport(p)
}

func ipv4(b []byte) (p ipPacket, length int, err error) {
	var h layers.IPv4
	if err := h.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		return p, 0, fmt.Errorf("ipv4: %w", err)
	}
	if b[0]>>4 != 4 {
		return p, 0, fmt.Errorf("ipv4: version %d", b[0]>>4)
	}
	length = int(be16(b[2:]))
	headerLen := int(h.IHL) * 4
	if length < headerLen || length > len(b) {
		return p, 0, fmt.Errorf("ipv4: total length %d, header %d, present %d", length, headerLen, len(b))
	}
	header := append([]byte(nil), b[:headerLen]...)
	header[10], header[11] = 0, 0
	if want := checksum(header); h.Checksum != want {
		return p, 0, fmt.Errorf("ipv4: header checksum %#04x, want %#04x", h.Checksum, want)
	}
	more := h.Flags&layers.IPv4MoreFragments != 0
	p = ipPacket{
		src: addr(h.SrcIP), dst: addr(h.DstIP), proto: uint8(h.Protocol), hops: h.TTL,
		payload:  b[headerLen:length],
		fragment: more || h.FragOffset != 0, later: h.FragOffset != 0,
	}
	return p, length, fragmentLength(p, int(h.FragOffset)*8, more)
}

func ipv6(b []byte) (p ipPacket, length int, err error) {
	if len(b) < 40 {
		return p, 0, fmt.Errorf("ipv6: %d bytes", len(b))
	}
	if b[0]>>4 != 6 {
		return p, 0, fmt.Errorf("ipv6: version %d", b[0]>>4)
	}
	length = 40 + int(be16(b[4:]))
	if length > len(b) {
		return p, 0, fmt.Errorf("ipv6: payload length %d, present %d", length-40, len(b)-40)
	}
	if length > 40 { // gopacket refuses an empty packet, RFC 8200 does not
		var h layers.IPv6
		if err := h.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
			return p, 0, fmt.Errorf("ipv6: %w", err)
		}
	}
	p = ipPacket{
		src: addr(b[8:24]), dst: addr(b[24:40]), proto: b[6], hops: b[7],
		payload: b[40:length],
	}
	for !p.later {
		n, next, err := extensionHeader(&p)
		if err != nil {
			return p, 0, err
		}
		if n == 0 {
			break
		}
		p.proto, p.payload = next, p.payload[n:]
	}
	return p, length, nil
}

// extensionHeader checks the extension header that p.payload begins with: its
// length, 0 if it is no extension header, and what follows.
func extensionHeader(p *ipPacket) (n int, next uint8, err error) {
	switch p.proto {
	case protoHopByHop, protoRouting, protoDestOpts:
		var h layers.IPv6ExtensionSkipper
		if err := h.DecodeFromBytes(p.payload, gopacket.NilDecodeFeedback); err != nil {
			return 0, 0, fmt.Errorf("ipv6: extension header %d: %w", p.proto, err)
		}
		return len(h.Contents), uint8(h.NextHeader), nil
	case protoAH:
		var h layers.IPSecAH
		if err := h.DecodeFromBytes(p.payload, gopacket.NilDecodeFeedback); err != nil {
			return 0, 0, fmt.Errorf("ipv6: authentication header: %w", err)
		}
		return len(h.Contents), uint8(h.NextHeader), nil
	case protoFragment:
		var h layers.IPv6Fragment
		if err := h.DecodeFromBytes(p.payload, gopacket.NilDecodeFeedback); err != nil {
			return 0, 0, fmt.Errorf("ipv6: fragment header: %w", err)
		}
		p.fragment = h.MoreFragments || h.FragmentOffset != 0
		p.later = h.FragmentOffset != 0
		rest := *p
		rest.payload = p.payload[8:]
		return 8, uint8(h.NextHeader), fragmentLength(rest, int(h.FragmentOffset)*8, h.MoreFragments)
	}
	return 0, 0, nil
}

func fragmentLength(p ipPacket, offset int, more bool) error {
	if more && len(p.payload)%8 != 0 {
		return fmt.Errorf("ip: fragment of %d bytes with more to come", len(p.payload))
	}
	if offset+len(p.payload) > 65535 {
		return fmt.Errorf("ip: fragment ends at %d", offset+len(p.payload))
	}
	return nil
}

func addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}
