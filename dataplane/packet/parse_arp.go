package packet

import "fairlead/dataplane/reason"

// parseARP reads an ARP packet. Only IPv4 over Ethernet is ARP to us (RFC
// 826); a sender of 0.0.0.0 is a probe (RFC 5227 section 2.1.1).
func parseARP(frame []byte, l3 int, info *Info) reason.Reason {
	info.Kind = KindARP
	h := ARP(frame[l3:])
	if len(h) < ARPLen {
		return reason.FrameTooShort
	}
	op := h.Op()
	if h.HardwareType() != ARPHardwareEthernet || h.ProtocolType() != arpProtocolIPv4 ||
		h.HardwareLen() != macLen || h.ProtocolLen() != ipv4AddrLen ||
		op != ARPRequest && op != ARPReply {
		return reason.ARPMalformed
	}
	info.ARPOp = op
	info.Src = h.SenderAddr()
	info.Dst = h.TargetAddr()
	return reason.None
}
