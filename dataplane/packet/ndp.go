package packet

import "encoding/binary"

// Lengths in neighbour discovery, in bytes.
const (
	NDPLen                = 24 // neighbour solicitation or advertisement without options
	NDPLinkLayerOptionLen = 8  // source or target link-layer address option for Ethernet
)

// NDPHopLimit is the hop limit that neighbour discovery messages must arrive
// with: no router has forwarded them (RFC 4861 section 7.1.1).
const NDPHopLimit = 255

// Flags of a neighbour advertisement (RFC 4861 section 4.4).
const (
	NDPFlagRouter    = 0x80
	NDPFlagSolicited = 0x40
	NDPFlagOverride  = 0x20
)

// Neighbour discovery option types (RFC 4861 section 4.6).
const (
	NDPOptionSourceLinkLayer = 1
	NDPOptionTargetLinkLayer = 2
)

const (
	ndpFlags      = 4
	ndpTarget     = 8
	ndpOptionUnit = 8 // option lengths count in units of 8 bytes
)

// NDP is a neighbour solicitation or advertisement from the ICMPv6 header on,
// RFC 4861 sections 4.3 and 4.4; the flags are reserved in a solicitation:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------+---------------+-------------------------------+
//	|     Type      |   Code (0)    |           Checksum            |
//	+-+-+-+---------+---------------+-------------------------------+
//	|R|S|O|                       Reserved                          |
//	+-+-+-+---------------------------------------------------------+
//	|                                                               |
//	+                   Target address (16 bytes)                   +
//	|                                                               |
//	+---------------+---------------+-------------------------------+
//	|  Option type  | Option length |       Option value ...        |
//	+---------------+---------------+-------------------------------+
type NDP []byte

// Flags is the byte of NDPFlag bits.
func (h NDP) Flags() uint8 { return h[ndpFlags] }

// SetFlags writes the NDPFlag bits and zeroes the reserved ones.
func (h NDP) SetFlags(v uint8) { binary.BigEndian.PutUint32(h[ndpFlags:], uint32(v)<<24) }

// Target is the address that is asked for, or advertised.
func (h NDP) Target() Addr { return Addr16(h[ndpTarget:]) }

// SetTarget writes the target address.
func (h NDP) SetTarget(a Addr) { a.Put16(h[ndpTarget:]) }

// ndpNextOption cuts the first option off a list of options. ok is false at
// the list's end, and at an option whose length is zero or runs past the list;
// only at the end is nothing left.
func ndpNextOption(list []byte) (option, rest []byte, ok bool) {
	if len(list) < ndpOptionUnit {
		return nil, list, false
	}
	length := int(list[1]) * ndpOptionUnit
	if length == 0 || length > len(list) {
		return nil, list, false
	}
	return list[:length], list[length:], true
}

// find gives the first option of the given type.
func (h NDP) find(optionType uint8) (option []byte, ok bool) {
	option, rest, ok := ndpNextOption(h[NDPLen:])
	for ok && option[0] != optionType {
		option, rest, ok = ndpNextOption(rest)
	}
	return option, ok
}

// LinkLayer is the link-layer address in the first option of the given type:
// NDPOptionSourceLinkLayer or NDPOptionTargetLinkLayer. The view must end
// where the message ends.
func (h NDP) LinkLayer(optionType uint8) (mac [6]byte, ok bool) {
	option, ok := h.find(optionType)
	if !ok || len(option) != NDPLinkLayerOptionLen {
		return mac, false
	}
	return [6]byte(option[2:]), true
}

// HasOption reports whether there is an option of the given type. The view
// must end where the message ends.
func (h NDP) HasOption(optionType uint8) bool {
	_, ok := h.find(optionType)
	return ok
}

// ValidOptions reports whether every option has a length that is not zero and
// stays inside the message (RFC 4861 section 7.1.1). The view must end where
// the message ends.
func (h NDP) ValidOptions() bool {
	_, rest, ok := ndpNextOption(h[NDPLen:])
	for ok {
		_, rest, ok = ndpNextOption(rest)
	}
	return len(rest) == 0
}

// PutLinkLayer writes a link-layer address option of the given type as the
// first option; the view must hold NDPLen and NDPLinkLayerOptionLen.
func (h NDP) PutLinkLayer(optionType uint8, mac [6]byte) {
	option := h[NDPLen : NDPLen+NDPLinkLayerOptionLen]
	option[0] = optionType
	option[1] = NDPLinkLayerOptionLen / ndpOptionUnit
	*(*[6]byte)(option[2:]) = mac
}
