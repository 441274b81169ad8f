package packettest

import (
	"encoding/binary"
	"net/netip"
)

var broadcastMAC = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ARPRequest asks for target's MAC address on behalf of sender, which is
// 0.0.0.0 in a probe. It is a broadcast from DefaultSrcMAC unless MACs says
// otherwise; the sender's MAC address in it is the frame's.
func ARPRequest(sender, target netip.Addr, opts ...Option) []byte {
	opts = append([]Option{MACs(broadcastMAC, DefaultSrcMAC)}, opts...)
	s := newSpec(sender, target, 0, opts)
	return s.arp(1, [6]byte{})
}

// ARPReply tells target that sender has the frame's source MAC address.
func ARPReply(sender, target netip.Addr, opts ...Option) []byte {
	s := newSpec(sender, target, 0, opts)
	return s.arp(2, s.dstMAC)
}

func (s *spec) arp(op uint16, targetMAC [6]byte) []byte {
	b := []byte{0, 1, 8, 0, 6, 4}
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(b, s.srcMAC[:]...)
	b = append(b, s.src.AsSlice()...)
	b = append(b, targetMAC[:]...)
	b = append(b, s.dst.AsSlice()...)
	return s.ethernet(etherTypeARP, b)
}

// NeighborSolicit asks for target's MAC address from src, by multicast to the
// target's solicited-node address (RFC 4861 section 7.2.2). With the
// unspecified address as src it is one of duplicate address detection (RFC
// 4862 section 5.4.2) and carries no link-layer address.
func NeighborSolicit(src, target netip.Addr, opts ...Option) []byte {
	node := SolicitedNode(target)
	group := node.As16()
	mac := [6]byte{0x33, 0x33, group[12], group[13], group[14], group[15]}
	opts = append([]Option{MACs(mac, DefaultSrcMAC)}, opts...)
	return neighbor(icmpv6Solicit, src, node, target, 1, !src.IsUnspecified(), opts)
}

// NeighborAdvert tells dst that target has the frame's source MAC address, with
// the given flags in the highest byte of Rest, solicited and override if it
// says nothing.
func NeighborAdvert(dst, target netip.Addr, opts ...Option) []byte {
	opts = append([]Option{Rest(0x60000000)}, opts...)
	return neighbor(icmpv6Advert, target, dst, target, 2, true, opts)
}

func neighbor(typ uint8, src, dst, target netip.Addr, option byte, withMAC bool, opts []Option) []byte {
	s := newSpec(src, dst, protoICMPv6, append([]Option{TTL(255)}, opts...))
	body := target.AsSlice()
	if withMAC {
		body = append(body, option, 1)
		body = append(body, s.srcMAC[:]...)
	}
	s.payload = append(body, s.payload...)
	return s.frame(s.icmp(typ, 0))
}

// SolicitedNode is the solicited-node multicast address of an IPv6 address
// (RFC 4291 section 2.7.1).
func SolicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}
