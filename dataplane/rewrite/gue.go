package rewrite

import (
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// GUEArgs are what the outer headers of a GUE tunnel say.
type GUEArgs struct {
	OuterArgs
	SrcPort, DstPort uint16
	ZeroUDP6         bool // over IPv6, send no UDP checksum (RFC 6935): the receiver must be set to accept that
}

// Dynamic ports (RFC 6335 section 6), which GUE source ports are taken from.
const (
	dynamicPortFirst = 49152
	dynamicPortMask  = 65535 - dynamicPortFirst
)

// GUESourcePort is the source port of a flow's GUE packets, 49152 to 65535, so
// that routers that hash ports spread the flows of a tunnel over their paths.
func GUESourcePort(entropy uint32) uint16 {
	// Both halves count: a hash of which a part was spent on choosing something
	// else still spreads.
	return dynamicPortFirst | uint16(entropy^entropy>>16)&dynamicPortMask
}

// GUE wraps the packet in outer IP and UDP headers and a GUE header of variant
// 0 without optional fields (draft-ietf-intarea-gue). Over IPv4 the UDP
// checksum is 0; over IPv6 it is computed, which reads the packet in full,
// unless ZeroUDP6 says otherwise.
//
// The reasons are those of IPIP.
func GUE(b *Buf, info *packet.Info, outer *GUEArgs) reason.Reason {
	datagram, r := b.pushOuter(info, &outer.OuterArgs, packet.UDPLen+packet.GUELen, packet.ProtoUDP)
	if r != reason.None {
		return r
	}
	packet.GUE(datagram[packet.UDPLen:]).Set(innerProto(info))
	h := packet.UDP(datagram)
	h.SetSrcPort(outer.SrcPort)
	h.SetDstPort(outer.DstPort)
	h.SetLength(uint16(len(datagram)))
	h.SetChecksum(0)
	if !outer.Dst.Is4() && !outer.ZeroUDP6 {
		pseudo := packet.PseudoSum(outer.Src, outer.Dst, packet.ProtoUDP, uint32(len(datagram)))
		h.SetChecksum(packet.UDPChecksum(packet.Finish(packet.Sum(datagram, pseudo))))
	}
	return reason.None
}
