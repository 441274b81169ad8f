package packet

import "encoding/binary"

// IPv6ExtensionMinLen is the length of the shortest extension header, in bytes.
const IPv6ExtensionMinLen = 8

const (
	ipv6ExtNext = 0
	ipv6ExtLen  = 1
)

// IPv6Extension is the common start of a hop-by-hop options, routing,
// destination options or authentication header, RFC 8200 section 4 and RFC
// 4302 section 2:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------+---------------+-------------------------------+
//	|  Next header  |    Length     |    Type-specific data ...     |
//	+---------------+---------------+-------------------------------+
type IPv6Extension []byte

// NextHeader is the type of what follows.
func (h IPv6Extension) NextHeader() uint8 { return h[ipv6ExtNext] }

// SetNextHeader writes the type of what follows.
func (h IPv6Extension) SetNextHeader(v uint8) { h[ipv6ExtNext] = v }

// HeaderLen is the header's length in bytes: its length field counts units of
// 8 bytes after the first 8.
func (h IPv6Extension) HeaderLen() int { return (int(h[ipv6ExtLen]) + 1) << 3 }

// AuthenticationLen is the length in bytes if this is an authentication
// header: there the length field counts units of 4 bytes after the first 8.
func (h IPv6Extension) AuthenticationLen() int { return (int(h[ipv6ExtLen]) + 2) << 2 }

// IPv6FragmentLen is the length of a fragment header, in bytes.
const IPv6FragmentLen = 8

// IPv6FragmentMore is the M flag in the word it shares with the offset.
const IPv6FragmentMore = 0x0001

const (
	ipv6FragNext       = 0
	ipv6FragReserved   = 1
	ipv6FragOffset     = 2
	ipv6FragID         = 4
	ipv6FragOffsetMask = 0xfff8
)

// IPv6Fragment is an IPv6 fragment header, RFC 8200 section 4.5:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------+---------------+-------------------------+---+-+
//	|  Next header  |   Reserved    |     Fragment offset     |Res|M|
//	+---------------+---------------+-------------------------+---+-+
//	|                        Identification                         |
//	+---------------------------------------------------------------+
type IPv6Fragment []byte

// NextHeader is the type of what the fragments together carry.
func (h IPv6Fragment) NextHeader() uint8 { return h[ipv6FragNext] }

// SetNextHeader writes the type of what follows.
func (h IPv6Fragment) SetNextHeader(v uint8) { h[ipv6FragNext] = v }

// Offset is where this fragment's payload lies in the fragmentable part of the
// original packet, in bytes.
func (h IPv6Fragment) Offset() uint16 {
	return binary.BigEndian.Uint16(h[ipv6FragOffset:]) & ipv6FragOffsetMask
}

// More reports whether more fragments follow.
func (h IPv6Fragment) More() bool {
	return binary.BigEndian.Uint16(h[ipv6FragOffset:])&IPv6FragmentMore != 0
}

// SetOffsetMore writes the offset, given in bytes and a multiple of
// FragmentUnit, and whether more fragments follow; reserved bits become zero.
func (h IPv6Fragment) SetOffsetMore(offset uint16, more bool) {
	h[ipv6FragReserved] = 0
	v := offset & ipv6FragOffsetMask
	if more {
		v |= IPv6FragmentMore
	}
	binary.BigEndian.PutUint16(h[ipv6FragOffset:], v)
}

// ID is the identification that the fragments of one packet share.
func (h IPv6Fragment) ID() uint32 { return binary.BigEndian.Uint32(h[ipv6FragID:]) }

// SetID writes the identification.
func (h IPv6Fragment) SetID(v uint32) { binary.BigEndian.PutUint32(h[ipv6FragID:], v) }
