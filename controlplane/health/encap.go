package health

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"fairlead/controlplane/model"
)

// Lengths of headers.
const (
	ethernetLen = 14
	ipv4Len     = 20
	ipv6Len     = 40
	udpLen      = 8
	gueLen      = 4

	// headroom is what the outer headers of any method take.
	headroom = ethernetLen + ipv6Len + udpLen + gueLen
)

// ident is what a packet of a check is known by: protocol, source address, and
// source port, or with ICMP the identifier of the echo request.
type ident struct {
	proto  uint8
	source netip.AddrPort
}

// identify reads the ident of a packet that the host's stack has made. There
// are no extension headers and no fragments in those.
func identify(packet []byte) (id ident, ok bool) {
	if len(packet) < 1 {
		return id, false
	}
	var transport []byte
	var source netip.Addr
	switch packet[0] >> 4 {
	case 4:
		ihl := int(packet[0]&0xf) * 4
		if ihl < ipv4Len || len(packet) < ihl || binary.BigEndian.Uint16(packet[6:])&0x3fff != 0 {
			return id, false
		}
		id.proto, transport = packet[9], packet[ihl:]
		source = netip.AddrFrom4([4]byte(packet[12:16]))
	case 6:
		if len(packet) < ipv6Len {
			return id, false
		}
		id.proto, transport = packet[6], packet[ipv6Len:]
		source = netip.AddrFrom16([16]byte(packet[8:24]))
	default:
		return id, false
	}
	if len(transport) < 8 {
		return id, false
	}
	at := 0 // of the source port
	if id.proto == unix.IPPROTO_ICMP || id.proto == unix.IPPROTO_ICMPV6 {
		at = 4 // of the identifier
	}
	id.source = netip.AddrPortFrom(source, binary.BigEndian.Uint16(transport[at:]))
	return id, true
}

// wrap puts the outer headers of the way before the packet that begins at
// buf[headroom], and returns the frame. The outer header copies the type of
// service and, over IPv4, the permission to fragment.
func wrap(buf []byte, end int, backend netip.Addr, w *Way, hop *Hop) []byte {
	packet := buf[headroom:end]
	inner4 := packet[0]>>4 == 4
	at := headroom
	if w.Method == model.GUE || w.Method == model.IPIP {
		proto := uint8(unix.IPPROTO_IPV6)
		tos := uint8(binary.BigEndian.Uint16(packet) >> 4)
		mayCut := false
		if inner4 {
			proto, tos, mayCut = unix.IPPROTO_IPIP, packet[1], packet[6]&0x40 == 0
		}
		if w.Method == model.GUE {
			at -= udpLen + gueLen
			putGUE(buf[at:end], proto, w, backend)
			proto = unix.IPPROTO_UDP
		}
		at = putOuter(buf, at, end, backend, w, proto, tos, mayCut)
		inner4 = backend.Is4()
	}
	at -= ethernetLen
	copy(buf[at:], hop.Destination[:])
	copy(buf[at+6:], hop.Source[:])
	kind := uint16(unix.ETH_P_IPV6)
	if inner4 {
		kind = unix.ETH_P_IP
	}
	binary.BigEndian.PutUint16(buf[at+12:], kind)
	return buf[at:end]
}

// putOuter writes the outer IP header before buf[at] and says where it begins.
func putOuter(buf []byte, at, end int, backend netip.Addr, w *Way, proto, tos uint8, mayCut bool) int {
	if backend.Is6() {
		at -= ipv6Len
		h := buf[at:end]
		binary.BigEndian.PutUint32(h, 6<<28|uint32(tos)<<20)
		binary.BigEndian.PutUint16(h[4:], uint16(len(h)-ipv6Len))
		h[6], h[7] = proto, w.Tunnel.TTL
		copy(h[8:], w.Tunnel.Source6.AsSlice())
		copy(h[24:], backend.AsSlice())
		return at
	}
	at -= ipv4Len
	h := buf[at:end]
	clear(h[:ipv4Len])
	h[0], h[1] = 0x45, tos
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)))
	if !mayCut {
		h[6] = 0x40 // DF: never in pieces, so it needs no identification (RFC 6864)
	}
	h[8], h[9] = w.Tunnel.TTL, proto
	copy(h[12:], w.Tunnel.Source4.AsSlice())
	copy(h[16:], backend.AsSlice())
	binary.BigEndian.PutUint16(h[10:], ^sum(h[:ipv4Len], 0))
	return at
}

// putGUE writes UDP and GUE headers (variant 0, no optional field) at the
// beginning of a datagram. The source port follows from the inner one, so that
// a check's packets take one way.
func putGUE(d []byte, proto uint8, w *Way, backend netip.Addr) {
	inner := d[udpLen+gueLen:]
	id, _ := identify(inner)
	binary.BigEndian.PutUint16(d, 0xc000|id.source.Port()&0x3fff)
	binary.BigEndian.PutUint16(d[2:], w.Tunnel.GUEPort)
	binary.BigEndian.PutUint16(d[4:], uint16(len(d)))
	d[6], d[7] = 0, 0
	d[8], d[9], d[10], d[11] = 0, proto, 0, 0
	if backend.Is4() {
		return // no checksum: the inner packet has its own
	}
	src, dst := w.Tunnel.Source6.As16(), backend.As16()
	pseudo := uint32(sum(src[:], 0)) + uint32(sum(dst[:], 0)) + unix.IPPROTO_UDP + uint32(len(d))
	check := ^sum(d, pseudo)
	if check == 0 {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(d[6:], check)
}

// sum is the ones' complement sum of RFC 1071, on top of another.
func sum(b []byte, on uint32) uint16 {
	total := uint64(on)
	for ; len(b) >= 2; b = b[2:] {
		total += uint64(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		total += uint64(b[0]) << 8
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}
