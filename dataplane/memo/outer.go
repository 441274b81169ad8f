package memo

import (
	"encoding/binary"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/rewrite"
)

// inner is what of a packet goes into the header in front of it.
func inner(mem []byte, at int, p *Plain) (tos uint8, flags uint16) {
	h := (*[8]byte)(mem[at+packet.EthernetLen:])
	if p.Is6 {
		return h[0]<<4 | h[1]>>4, packet.IPv4FlagDF // nobody fragments it on the way
	}
	return h[1], uint16(h[6]) << 8 & packet.IPv4FlagDF
}

func innerProto(p *Plain) uint8 {
	if p.Is6 {
		return packet.ProtoIPv6
	}
	return packet.ProtoIPIP
}

// pushOuter puts an outer IP header and an EtherType before the packet of the
// frame at mem[at], with between bytes of room between the two headers, and
// returns where the frame begins now. As rewrite does it: DSCP and ECN are
// copied outward (RFC 6040), the outer packet may be fragmented only if the
// inner one may, and only then it needs an identification (RFC 6864).
func (m *Memo) pushOuter(mem []byte, at int, p *Plain, between int, proto uint8, id uint16) int {
	r := m.Route
	tos, flags := inner(mem, at, p)
	payload := between + int(p.IPLen)
	if r.Flags&Outer6 != 0 {
		at -= between + packet.IPv6Len
		h := (*[at6 + packet.IPv6Len]byte)(mem[at:])
		label := uint64(m.entropy) & packet.IPv6FlowLabelMask
		if label == 0 {
			label = 1
		}
		binary.BigEndian.PutUint16(h[12:], packet.EtherTypeIPv6)
		binary.BigEndian.PutUint64(h[at6:], 6<<60|uint64(tos)<<52|label<<32|uint64(payload)<<16|uint64(proto)<<8|uint64(r.TTL))
		binary.BigEndian.PutUint64(h[at6+8:], r.Src.Hi)
		binary.BigEndian.PutUint64(h[at6+16:], r.Src.Lo)
		binary.BigEndian.PutUint64(h[at6+24:], r.Dst.Hi)
		binary.BigEndian.PutUint64(h[at6+32:], r.Dst.Lo)
		return at
	}
	at -= between + packet.IPv4MinLen
	h := (*[at4 + packet.IPv4MinLen]byte)(mem[at:])
	if flags != 0 {
		id = 0
	}
	length := uint32(packet.IPv4MinLen + payload)
	sum := r.Sum + uint32(tos) + length + uint32(id) + uint32(flags)
	if r.Op == IPIP {
		sum += uint32(proto)
	}
	binary.BigEndian.PutUint16(h[12:], packet.EtherTypeIPv4)
	binary.BigEndian.PutUint64(h[at4:], 0x45<<56|uint64(tos)<<48|uint64(length)<<32|uint64(id)<<16|uint64(flags))
	binary.BigEndian.PutUint64(h[at4+8:], uint64(r.TTL)<<56|uint64(proto)<<48|uint64(packet.Finish(sum))<<32|r.Src.Lo&0xffffffff)
	binary.BigEndian.PutUint32(h[at4+16:], uint32(r.Dst.Lo))
	return at
}

// pushGUE puts outer IP, UDP and GUE headers before the packet.
func (m *Memo) pushGUE(mem []byte, at int, p *Plain, id uint16) int {
	r := m.Route
	end := at + packet.EthernetLen + int(p.IPLen)
	udp := at + packet.EthernetLen - packet.UDPLen - packet.GUELen
	at = m.pushOuter(mem, at, p, packet.UDPLen+packet.GUELen, packet.ProtoUDP, id)
	h := (*[packet.UDPLen + packet.GUELen]byte)(mem[udp:])
	length := uint64(end - udp)
	binary.BigEndian.PutUint64(h[:], uint64(rewrite.GUESourcePort(m.entropy))<<48|uint64(r.GUEPort)<<32|length<<16)
	packet.GUE(h[packet.UDPLen:]).Set(innerProto(p))
	if r.Flags&Outer6 != 0 {
		pseudo := packet.PseudoSum(r.Src, r.Dst, packet.ProtoUDP, uint32(length))
		binary.BigEndian.PutUint16(h[6:], packet.UDPChecksum(packet.Finish(packet.Sum(mem[udp:end], pseudo))))
	}
	return at
}
