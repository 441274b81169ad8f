package rewrite

import "fairlead/dataplane/packet"

// DecrementTTL takes one off the TTL or hop limit of an IP packet, as a router
// does when it forwards (RFC 1812 section 5.3.1, RFC 8200 section 3), and
// updates the IPv4 header checksum. The TTL is above 1: the caller has dealt
// with the packets whose time is up. In a tunnel it is the inner packet's, so
// this comes before the outer header.
func DecrementTTL(frame []byte, info *packet.Info) {
	if info.Kind == packet.KindIPv6 {
		h := packet.IPv6(frame[info.L3:])
		h.SetHopLimit(h.HopLimit() - 1)
		return
	}
	h := packet.IPv4(frame[info.L3:])
	old := h.TTLProto()
	h.SetTTL(uint8(old>>8) - 1)
	h.SetChecksum(packet.Update16(h.Checksum(), old, old-1<<8))
}
