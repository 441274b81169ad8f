package memo

import (
	"encoding/binary"
	"math/bits"

	"fairlead/dataplane/packet"
)

// Plain is what a memo needs to know of a packet that may go by one.
type Plain struct {
	Peer, Dst packet.Addr
	Ports     uint32 // source port << 16 | destination port
	IPLen     uint16
	Proto     uint8
	Is6       bool
}

// Offsets in a frame without VLAN tags.
const (
	at4  = packet.EthernetLen
	at6  = packet.EthernetLen
	l4At = at4 + packet.IPv4MinLen // transport header, IPv4
	l6At = at6 + packet.IPv6Len    // and IPv6

	// Window is how many bytes from the frame's first on Parse and Apply may
	// look at, whatever the frame's length: they lie in its chunk.
	Window = l6At + packet.TCPMinLen
)

// Parse reads a frame as far as it is plain, and reports whether it is: of
// such a frame package packet's Parse finds nothing wrong, no fragment and no
// tag, nothing in front of the transport header but an IP header of the usual
// length, a TTL above 1, and TCP without SYN, FIN and RST, or UDP. window is
// the frame's chunk from the frame's first byte on.
func Parse(window []byte, length int, p *Plain) bool {
	if len(window) < Window || window[0]&1 != 0 {
		return false
	}
	w := (*[Window]byte)(window)
	switch binary.LittleEndian.Uint16(w[12:]) {
	case 0x0008:
		return parse4(w, length, p)
	case 0xdd86:
		return parse6(w, length, p)
	}
	return false
}

func parse4(w *[Window]byte, length int, p *Plain) bool {
	// The header is read in three words, as the checksum wants it; what is in
	// them is taken out by shifts, bytes in memory order from the lowest up.
	a := binary.LittleEndian.Uint64(w[at4:])      // version, TOS, total length, identification, fragment
	b := binary.LittleEndian.Uint64(w[at4+8:])    // TTL, protocol, checksum, source
	dst := binary.LittleEndian.Uint32(w[at4+16:]) // destination
	sum, carry := bits.Add64(a, b, 0)
	sum, carry = bits.Add64(sum, uint64(dst), carry)
	const fragmented = 0xffbf << 48 // all of the field but DF
	if (sum+carry)%0xffff != 0 || a&(0xff|fragmented) != 0x45 || uint8(b) <= 1 {
		return false
	}
	total := int(bits.ReverseBytes16(uint16(a >> 16)))
	p.IPLen, p.Proto, p.Is6 = uint16(total), uint8(b>>8), false
	p.Peer = packet.Addr{Lo: 0xffff<<32 | uint64(bits.ReverseBytes32(uint32(b>>32)))}
	p.Dst = packet.Addr{Lo: 0xffff<<32 | uint64(bits.ReverseBytes32(dst))}
	p.Ports = binary.BigEndian.Uint32(w[l4At:])
	return total <= length-at4 && plainTransport(w[l4At:], total-packet.IPv4MinLen, p.Proto)
}

func parse6(w *[Window]byte, length int, p *Plain) bool {
	a := binary.LittleEndian.Uint64(w[at6:]) // version, traffic class, flow label, payload length, next header, hop limit
	if a&0xf0 != 0x60 || uint8(a>>56) <= 1 {
		return false
	}
	payload := int(bits.ReverseBytes16(uint16(a >> 32)))
	p.IPLen, p.Proto, p.Is6 = uint16(packet.IPv6Len+payload), uint8(a>>48), true
	p.Peer = packet.Addr{Hi: binary.BigEndian.Uint64(w[at6+8:]), Lo: binary.BigEndian.Uint64(w[at6+16:])}
	p.Dst = packet.Addr{Hi: binary.BigEndian.Uint64(w[at6+24:]), Lo: binary.BigEndian.Uint64(w[at6+32:])}
	p.Ports = binary.BigEndian.Uint32(w[l6At:])
	// A source or destination that Parse refuses has no memo, but a mapped IPv4
	// address would be taken for the real one.
	mapped := p.Peer.Is4() || p.Dst.Is4()
	return !mapped && packet.IPv6Len+payload <= length-at6 && plainTransport(w[l6At:], payload, p.Proto)
}

// plainTransport reports whether a transport header of a packet whose IP
// payload is length bytes is plain.
func plainTransport(h []byte, length int, proto uint8) bool {
	switch proto {
	case packet.ProtoTCP:
		header, flags := int(h[12]>>4)*4, h[13]
		const ends = packet.TCPFlagFIN | packet.TCPFlagSYN | packet.TCPFlagRST
		const others = packet.TCPFlagPSH | packet.TCPFlagACK | packet.TCPFlagURG
		return flags&ends == 0 && flags&others != 0 && header >= packet.TCPMinLen && header <= length
	case packet.ProtoUDP:
		n := int(binary.BigEndian.Uint16(h[4:]))
		return n >= packet.UDPLen && n <= length
	}
	return false
}
