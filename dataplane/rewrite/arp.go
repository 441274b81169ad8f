package rewrite

import (
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// ARPReply turns an ARP request into its reply in place: the target address is
// at mac. A probe (sender address 0.0.0.0, RFC 5227) is answered like any
// other request, which tells the prober that the address is taken.
//
// Reason: ARPMalformed when it is no request.
func ARPReply(frame []byte, info *packet.Info, mac [6]byte) reason.Reason {
	if info.Kind != packet.KindARP || info.ARPOp != packet.ARPRequest {
		return reason.ARPMalformed
	}
	h := packet.ARP(frame[info.L3:])
	target := h.TargetAddr()
	h.SetOp(packet.ARPReply)
	h.SetTargetMAC(h.SenderMAC())
	h.SetTargetAddr(h.SenderAddr())
	h.SetSenderMAC(mac)
	h.SetSenderAddr(target)
	SetMACs(frame, packet.Ethernet(frame).SrcMAC(), mac)
	return reason.None
}
