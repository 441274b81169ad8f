package packet

import (
	"encoding/binary"
	"net/netip"
)

// Addr is an IP address of either family as two big-endian halves, cheap to
// compare and to hash. An IPv4 address is held in its IPv4-mapped form
// (::ffff:a.b.c.d, RFC 4291 section 2.5.5.2), so one Addr never means two
// addresses: an IPv6 packet that carries a mapped address is refused by Parse.
type Addr struct {
	Hi, Lo uint64
}

const mapped4 = uint64(0xffff) << 32

// Addr4 is the IPv4 address of the four bytes at b.
func Addr4(b []byte) Addr {
	return Addr{Lo: mapped4 | uint64(binary.BigEndian.Uint32(b))}
}

// Addr16 is the IPv6 address of the sixteen bytes at b.
func Addr16(b []byte) Addr {
	return Addr{Hi: binary.BigEndian.Uint64(b), Lo: binary.BigEndian.Uint64(b[8:16])}
}

// AddrFrom converts a netip address; the zone is left out.
func AddrFrom(a netip.Addr) Addr {
	b := a.As16()
	return Addr16(b[:])
}

// Is4 reports whether a is an IPv4 address.
func (a Addr) Is4() bool { return a.Hi == 0 && a.Lo>>32 == 0xffff }

// IsZero reports whether a is the zero Addr, which is no address in use.
func (a Addr) IsZero() bool { return a.Hi == 0 && a.Lo == 0 }

// Put4 writes the four bytes of an IPv4 address to b.
func (a Addr) Put4(b []byte) { binary.BigEndian.PutUint32(b, uint32(a.Lo)) }

// Put16 writes the sixteen bytes of an IPv6 address to b.
func (a Addr) Put16(b []byte) {
	binary.BigEndian.PutUint64(b, a.Hi)
	binary.BigEndian.PutUint64(b[8:16], a.Lo)
}

// Netip converts to a netip address, IPv4 as IPv4.
func (a Addr) Netip() netip.Addr {
	var b [16]byte
	a.Put16(b[:])
	return netip.AddrFrom16(b).Unmap()
}

// String gives the address in the usual text form.
func (a Addr) String() string { return a.Netip().String() }
