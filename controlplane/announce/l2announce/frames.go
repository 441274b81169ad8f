package l2announce

import (
	"net/netip"

	"fairlead/dataplane/packet"
)

// minFrame is the length that frames are padded to: some senders' drivers and
// receivers' filters insist on Ethernet's least, without the checksum.
const minFrame = 60

var (
	broadcast = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	// allNodes is the all-nodes group, allNodesMAC its link-layer address (RFC
	// 2464 section 7).
	allNodes    = netip.MustParseAddr("ff02::1")
	allNodesMAC = [6]byte{0x33, 0x33, 0, 0, 0, 1}
)

// announcements are the frames that say that an address is at mac. IPv4 has
// two forms, and there are devices that heed only the one or the other: a
// request for the sender's own address (RFC 5227 section 3 calls this an ARP
// announcement), and a reply that nobody has asked for, in which the target's
// link-layer address is the one to take over, too (RFC 5944 section 4.6).
func announcements(a netip.Addr, mac [6]byte) [][]byte {
	if a.Is4() {
		return [][]byte{
			arp(packet.ARPRequest, mac, a, [6]byte{}, a),
			arp(packet.ARPReply, mac, a, mac, a),
		}
	}
	return [][]byte{advertisement(a, mac)}
}

// probe is the frame that asks whether anybody else has an address, without
// telling anybody that we have: an ARP probe (RFC 5227 section 2.1.1), or a
// solicitation as in duplicate address detection (RFC 4862 section 5.4.2).
func probe(a netip.Addr, mac [6]byte) []byte {
	if a.Is4() {
		return arp(packet.ARPRequest, mac, netip.IPv4Unspecified(), [6]byte{}, a)
	}
	return solicitation(a, mac)
}

// arp is an ARP packet in a broadcast frame.
func arp(op uint16, mac [6]byte, sender netip.Addr, targetMAC [6]byte, target netip.Addr) []byte {
	frame := make([]byte, minFrame)
	ethernet(frame, broadcast, mac, packet.EtherTypeARP)
	h := packet.ARP(frame[packet.EthernetLen:])
	h.SetTypes()
	h.SetOp(op)
	h.SetSenderMAC(mac)
	h.SetSenderAddr(packet.AddrFrom(sender))
	h.SetTargetMAC(targetMAC)
	h.SetTargetAddr(packet.AddrFrom(target))
	return frame
}

// advertisement is an unsolicited neighbour advertisement to all nodes (RFC
// 4861 section 7.2.6) with the override flag: caches are to take the new
// link-layer address over.
func advertisement(a netip.Addr, mac [6]byte) []byte {
	frame := ndp(packet.ICMPv6NeighborAdvert, a, allNodes, allNodesMAC, mac, a, packet.NDPLinkLayerOptionLen)
	h := packet.NDP(frame[packet.EthernetLen+packet.IPv6Len:])
	h.SetFlags(packet.NDPFlagOverride)
	h.PutLinkLayer(packet.NDPOptionTargetLinkLayer, mac)
	return finish(frame)
}

// solicitation asks for an address from the unspecified one, so it carries no
// link-layer address (RFC 4861 section 4.3).
func solicitation(a netip.Addr, mac [6]byte) []byte {
	raw := a.As16()
	group := allNodes.As16()
	group[11], group[12] = 1, 0xff
	copy(group[13:], raw[13:])
	to := [6]byte{0x33, 0x33, 0xff, raw[13], raw[14], raw[15]}
	return finish(ndp(packet.ICMPv6NeighborSolicit, netip.IPv6Unspecified(), netip.AddrFrom16(group), to, mac, a, 0))
}

// ndp is a neighbour discovery message with room for so many bytes of options,
// still without a checksum.
func ndp(typ uint8, src, dst netip.Addr, dstMAC, srcMAC [6]byte, target netip.Addr, options int) []byte {
	length := packet.NDPLen + options
	frame := make([]byte, packet.EthernetLen+packet.IPv6Len+length)
	ethernet(frame, dstMAC, srcMAC, packet.EtherTypeIPv6)
	ip := packet.IPv6(frame[packet.EthernetLen:])
	ip.SetFirst(0, 0)
	ip.SetPayloadLen(uint16(length))
	ip.SetNextHeader(packet.ProtoICMPv6)
	ip.SetHopLimit(packet.NDPHopLimit)
	ip.SetSrc(packet.AddrFrom(src))
	ip.SetDst(packet.AddrFrom(dst))
	message := frame[packet.EthernetLen+packet.IPv6Len:]
	packet.ICMPv6(message).SetType(typ)
	packet.NDP(message).SetTarget(packet.AddrFrom(target))
	return frame
}

// finish writes the checksum of a neighbour discovery message.
func finish(frame []byte) []byte {
	ip := packet.IPv6(frame[packet.EthernetLen:])
	message := frame[packet.EthernetLen+packet.IPv6Len:]
	pseudo := packet.PseudoSum(ip.Src(), ip.Dst(), packet.ProtoICMPv6, uint32(len(message)))
	packet.ICMPv6(message).SetChecksum(packet.Finish(packet.Sum(message, pseudo)))
	return frame
}

func ethernet(frame []byte, dst, src [6]byte, etherType uint16) {
	h := packet.Ethernet(frame)
	h.SetDstMAC(dst)
	h.SetSrcMAC(src)
	h.SetEtherType(etherType)
}
