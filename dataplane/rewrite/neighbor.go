package rewrite

import (
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// The all-nodes group, where solicitations without a source are answered (RFC
// 4861 section 7.2.4), and its link-layer address (RFC 2464 section 7).
var (
	allNodes    = packet.Addr{Hi: 0xff02 << 48, Lo: 1}
	allNodesMAC = [6]byte{0x33, 0x33, 0, 0, 0, 1}
)

// NeighborAdvert turns a neighbour solicitation into the advertisement that its
// target is at mac (RFC 4861 section 7.2.4), in place: solicited and override
// flags, target link-layer address option, hop limit 255. A solicitation of
// duplicate address detection (source unspecified) is answered to all nodes,
// without the solicited flag.
//
// Reason: HeadroomExhausted when the chunk ends before the advertisement does.
func NeighborAdvert(b *Buf, info *packet.Info, mac [6]byte) reason.Reason {
	const length = packet.NDPLen + packet.NDPLinkLayerOptionLen
	end := b.Start + int(info.L3) + packet.IPv6Len + length
	if end > len(b.Chunk) {
		return reason.HeadroomExhausted
	}
	target := packet.NDP(b.Frame()[info.L4:]).Target()
	b.End = end
	frame := b.Frame()

	dst, dstMAC := info.Src, packet.Ethernet(frame).SrcMAC()
	flags := uint8(packet.NDPFlagSolicited | packet.NDPFlagOverride)
	if info.Src.IsZero() {
		dst, dstMAC, flags = allNodes, allNodesMAC, packet.NDPFlagOverride
	}
	SetMACs(frame, dstMAC, mac)
	putIPv6(frame[info.L3:], &ipv6Fields{src: target, dst: dst, payload: length,
		hopLimit: packet.NDPHopLimit, next: packet.ProtoICMPv6})

	message := frame[info.L3+packet.IPv6Len:]
	advert := packet.NDP(message)
	advert.SetFlags(flags)
	advert.SetTarget(target)
	advert.PutLinkLayer(packet.NDPOptionTargetLinkLayer, mac)
	h := packet.ICMPv6(message)
	h.SetType(packet.ICMPv6NeighborAdvert)
	h.SetCode(0)
	h.SetChecksum(0)
	h.SetChecksum(packet.Finish(packet.Sum(message, packet.PseudoSum(target, dst, packet.ProtoICMPv6, length))))
	return reason.None
}
