package memo

import (
	"encoding/binary"

	"fairlead/dataplane/packet"
)

// MostOverhead is the room before a frame that Apply may need.
const MostOverhead = packet.IPv6Len + packet.UDPLen + packet.GUELen

// Fits reports whether a packet that came in by an interface (see Ingress) may
// go by the memo: it is no longer than the way carries, and a
// client's packet has come the way it was known by.
func (m *Memo) Fits(window []byte, p *Plain, ingress uint64) bool {
	r := m.Route
	if uint32(p.IPLen) > r.MTU {
		return false
	}
	if r.Op != NATForward {
		return true
	}
	return binary.BigEndian.Uint64(window[6:])>>16 == m.viaHi && ingress == m.viaLo
}

// Apply rewrites the packet of length bytes that begins at mem[at], which Parse
// found plain and Fits let pass. It returns where the frame begins then and how
// long it is. There are MostOverhead bytes of room before it. id is the
// identification of outer packets that may be fragmented on the way.
func (m *Memo) Apply(mem []byte, at, length int, p *Plain, id uint16) (int, int) {
	w := (*[Window]byte)(mem[at:])
	switch r := m.Route; r.Op {
	case NATForward:
		if p.Is6 {
			m.nat6(w, p.Proto, r.Src, r.Dst)
		} else {
			m.nat4(w, p.Proto, r.Src, r.Dst)
		}
	case NATReply:
		client := packet.Addr{Hi: m.viaHi, Lo: m.viaLo}
		if p.Is6 {
			m.nat6(w, p.Proto, r.Src, client)
		} else {
			m.nat4(w, p.Proto, r.Src, client)
		}
	case IPIP:
		decrementTTL(w, p)
		end := at + packet.EthernetLen + int(p.IPLen) // padding is cut off
		at = m.pushOuter(mem, at, p, 0, innerProto(p), id)
		length = end - at
	case GUE:
		decrementTTL(w, p)
		end := at + packet.EthernetLen + int(p.IPLen)
		at = m.pushGUE(mem, at, p, id)
		length = end - at
	case L2:
		decrementTTL(w, p)
	}
	h := (*[12]byte)(mem[at:])
	*(*[6]byte)(h[0:]) = m.Route.DstMAC
	*(*[6]byte)(h[6:]) = m.Route.SrcMAC
	return at, length
}

// ttlDelta is the change of the word with the TTL when it goes down by one, as
// ones' complement arithmetic has it: old's complement plus new.
const ttlDelta = 0xffff - 1<<8

// check is a checksum after changes that add up to delta (RFC 1624, equation
// 3), with a representation of zero as packet.Delta.Apply's.
func check(old uint16, delta uint32) uint16 {
	sum := uint32(^old) + delta
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum>>16 + sum)
}

func decrementTTL(w *[Window]byte, p *Plain) {
	if p.Is6 {
		w[at6+7]--
		return
	}
	w[at4+8]--
	binary.BigEndian.PutUint16(w[at4+10:], check(binary.BigEndian.Uint16(w[at4+10:]), ttlDelta))
}

func (m *Memo) nat4(w *[Window]byte, proto uint8, src, dst packet.Addr) {
	w[at4+8]--
	binary.BigEndian.PutUint16(w[at4+10:], check(binary.BigEndian.Uint16(w[at4+10:]), uint32(uint16(m.nat>>deltaL3At))+ttlDelta))
	binary.BigEndian.PutUint64(w[at4+12:], src.Lo<<32|dst.Lo&0xffffffff)
	m.transport(w[l4At:], proto)
}

func (m *Memo) nat6(w *[Window]byte, proto uint8, src, dst packet.Addr) {
	w[at6+7]--
	binary.BigEndian.PutUint64(w[at6+8:], src.Hi)
	binary.BigEndian.PutUint64(w[at6+16:], src.Lo)
	binary.BigEndian.PutUint64(w[at6+24:], dst.Hi)
	binary.BigEndian.PutUint64(w[at6+32:], dst.Lo)
	m.transport(w[l6At:], proto)
}

// transport writes the ports and the transport checksum.
func (m *Memo) transport(h []byte, proto uint8) {
	h = h[:packet.TCPMinLen]
	binary.BigEndian.PutUint32(h, uint32(m.nat>>dstPortAt))
	delta := uint32(uint16(m.nat >> deltaL4At))
	if proto == packet.ProtoTCP {
		binary.BigEndian.PutUint16(h[16:], check(binary.BigEndian.Uint16(h[16:]), delta))
		return
	}
	if old := binary.BigEndian.Uint16(h[6:]); old != 0 {
		binary.BigEndian.PutUint16(h[6:], packet.UDPChecksum(check(old, delta)))
	}
}
