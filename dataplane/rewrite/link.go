package rewrite

import "fairlead/dataplane/packet"

// SetMACs writes the link-layer addresses of a frame; VLAN tags are kept. It is
// the whole rewrite of method l2, and the last step of every other forwarding
// method that pushes no outer header.
func SetMACs(frame []byte, dst, src [6]byte) {
	h := packet.Ethernet(frame)
	h.SetDstMAC(dst)
	h.SetSrcMAC(src)
}

// swapMACs sends a frame back where it came from.
func swapMACs(frame []byte) {
	h := packet.Ethernet(frame)
	dst, src := h.DstMAC(), h.SrcMAC()
	h.SetDstMAC(src)
	h.SetSrcMAC(dst)
}

// moveLink moves the Ethernet header and its VLAN tags so that the network
// header begins at Chunk[l3], and makes the frame start there. The caller has
// checked that there is room: l3 is at least info.L3.
func (b *Buf) moveLink(info *packet.Info, l3 int) {
	start := l3 - int(info.L3)
	copy(b.Chunk[start:l3], b.Chunk[b.Start:b.Start+int(info.L3)])
	b.Start = start
}

// setEtherType writes the type of what follows the Ethernet header and its
// VLAN tags.
func setEtherType(frame []byte, info *packet.Info, etherType uint16) {
	if info.VLANs > 0 {
		packet.VLAN(frame[int(info.L3)-packet.VLANLen:]).SetEtherType(etherType)
		return
	}
	packet.Ethernet(frame).SetEtherType(etherType)
}
