package packettest

import (
	"encoding/binary"
	"fmt"
)

// Fragments cuts the IP packet of a frame into fragments that fit mtu, as a
// router (IPv4) or the sender (IPv6) would, in order. In IPv4 the packet must
// have no options; in IPv6 no extension headers, and id is the fragment
// header's identification (IPv4 keeps its own).
func Fragments(frame []byte, mtu int, id uint32) [][]byte {
	packet := IPPacket(frame)
	l3, _, _ := linkLayer(frame)
	link := frame[:l3]
	if packet[0]>>4 == 4 {
		return fragments4(link, packet, mtu)
	}
	return fragments6(link, packet, mtu, id)
}

func fragments4(link, packet []byte, mtu int) [][]byte {
	if packet[0] != 0x45 {
		panic("packettest: Fragments of a packet with IPv4 options")
	}
	size := (mtu - 20) &^ 7
	word := be16(packet[6:])
	var out [][]byte
	for payload, at := packet[20:], 0; at < len(payload); at += size {
		end := min(at+size, len(payload))
		f := append([]byte(nil), packet[:20]...)
		w := word + uint16(at/8)
		if end < len(payload) {
			w |= 0x2000
		}
		binary.BigEndian.PutUint16(f[2:], uint16(20+end-at))
		binary.BigEndian.PutUint16(f[6:], w)
		binary.BigEndian.PutUint16(f[10:], 0)
		binary.BigEndian.PutUint16(f[10:], checksum(f))
		out = append(out, join(link, f, payload[at:end]))
	}
	return out
}

func fragments6(link, packet []byte, mtu int, id uint32) [][]byte {
	next := packet[6]
	switch next {
	case protoHopByHop, protoRouting, protoFragment, protoDestOpts, protoAH:
		panic(fmt.Sprintf("packettest: Fragments of a packet with extension header %d", next))
	}
	size := (mtu - 48) &^ 7
	var out [][]byte
	for payload, at := packet[40:], 0; at < len(payload); at += size {
		end := min(at+size, len(payload))
		f := append([]byte(nil), packet[:40]...)
		binary.BigEndian.PutUint16(f[4:], uint16(8+end-at))
		f[6] = protoFragment
		word := uint16(at)
		if end < len(payload) {
			word |= 1
		}
		f = append(f, next, 0)
		f = binary.BigEndian.AppendUint16(f, word)
		f = binary.BigEndian.AppendUint32(f, id)
		out = append(out, join(link, f, payload[at:end]))
	}
	return out
}

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
