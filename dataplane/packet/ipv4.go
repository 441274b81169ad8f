package packet

import "encoding/binary"

// Lengths of an IPv4 header, in bytes.
const (
	IPv4MinLen = 20
	IPv4MaxLen = 60
)

// Flags of IPv4, as they stand in the 16-bit word they share with the
// fragment offset (RFC 791 section 3.1).
const (
	IPv4FlagReserved = 0x8000
	IPv4FlagDF       = 0x4000 // don't fragment
	IPv4FlagMF       = 0x2000 // more fragments
	IPv4OffsetMask   = 0x1fff // fragment offset in units of FragmentUnit
)

// FragmentUnit is what fragment offsets count in, bytes, in both families.
const FragmentUnit = 8

// IPv4 option types (RFC 791 section 3.1) that have no length byte, and the
// bit that says that every fragment carries the option.
const (
	IPv4OptionEnd  = 0
	IPv4OptionNop  = 1
	IPv4OptionCopy = 0x80
)

const (
	ipv4VersionIHL = 0
	ipv4TOS        = 1
	ipv4TotalLen   = 2
	ipv4ID         = 4
	ipv4FlagsOff   = 6
	ipv4TTL        = 8
	ipv4Proto      = 9
	ipv4Checksum   = 10
	ipv4Src        = 12
	ipv4Dst        = 16
)

// IPv4 is an IPv4 header, RFC 791 section 3.1:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------+-------+---------------+-------------------------------+
//	|Version|  IHL  |      TOS      |         Total length          |
//	+-------+-------+---------------+-----+-------------------------+
//	|        Identification         |R|D|M|     Fragment offset     |
//	+---------------+---------------+-----+-------------------------+
//	|      TTL      |   Protocol    |        Header checksum        |
//	+---------------+---------------+-------------------------------+
//	|                        Source address                         |
//	+---------------------------------------------------------------+
//	|                      Destination address                      |
//	+---------------------------------------------------------------+
//	|                     Options, 0 to 40 bytes                    |
//	+---------------------------------------------------------------+
type IPv4 []byte

// Version is the IP version, 4.
func (h IPv4) Version() uint8 { return h[ipv4VersionIHL] >> 4 }

// HeaderLen is the length of header and options in bytes (IHL times four).
func (h IPv4) HeaderLen() int { return int(h[ipv4VersionIHL]&0x0f) << 2 }

// SetVersionHeaderLen writes version 4 and the header length, given in bytes:
// a multiple of four from IPv4MinLen to IPv4MaxLen.
func (h IPv4) SetVersionHeaderLen(n int) { h[ipv4VersionIHL] = 4<<4 | uint8(n>>2) }

// TOS is the type of service byte: DSCP and ECN.
func (h IPv4) TOS() uint8 { return h[ipv4TOS] }

// SetTOS writes the type of service byte.
func (h IPv4) SetTOS(v uint8) { h[ipv4TOS] = v }

// TotalLen is the length of the packet in bytes, header included.
func (h IPv4) TotalLen() uint16 { return binary.BigEndian.Uint16(h[ipv4TotalLen:]) }

// SetTotalLen writes the length of the packet.
func (h IPv4) SetTotalLen(v uint16) { binary.BigEndian.PutUint16(h[ipv4TotalLen:], v) }

// ID is the identification that the fragments of one packet share.
func (h IPv4) ID() uint16 { return binary.BigEndian.Uint16(h[ipv4ID:]) }

// SetID writes the identification.
func (h IPv4) SetID(v uint16) { binary.BigEndian.PutUint16(h[ipv4ID:], v) }

// FlagsOffset is the word of flags and fragment offset: IPv4Flag bits and, in
// units of FragmentUnit, the bits of IPv4OffsetMask.
func (h IPv4) FlagsOffset() uint16 { return binary.BigEndian.Uint16(h[ipv4FlagsOff:]) }

// SetFlagsOffset writes the word of flags and fragment offset.
func (h IPv4) SetFlagsOffset(v uint16) { binary.BigEndian.PutUint16(h[ipv4FlagsOff:], v) }

// DontFragment reports the DF flag.
func (h IPv4) DontFragment() bool { return h.FlagsOffset()&IPv4FlagDF != 0 }

// MoreFragments reports the MF flag.
func (h IPv4) MoreFragments() bool { return h.FlagsOffset()&IPv4FlagMF != 0 }

// FragmentOffset is where this fragment's payload lies in the original
// packet's payload, in bytes.
func (h IPv4) FragmentOffset() uint16 { return h.FlagsOffset() & IPv4OffsetMask * FragmentUnit }

// TTL is the time to live.
func (h IPv4) TTL() uint8 { return h[ipv4TTL] }

// SetTTL writes the time to live.
func (h IPv4) SetTTL(v uint8) { h[ipv4TTL] = v }

// Proto is the transport protocol.
func (h IPv4) Proto() uint8 { return h[ipv4Proto] }

// SetProto writes the transport protocol.
func (h IPv4) SetProto(v uint8) { h[ipv4Proto] = v }

// Checksum is the header checksum.
func (h IPv4) Checksum() uint16 { return binary.BigEndian.Uint16(h[ipv4Checksum:]) }

// SetChecksum writes the header checksum.
func (h IPv4) SetChecksum(v uint16) { binary.BigEndian.PutUint16(h[ipv4Checksum:], v) }

// Src is the source address.
func (h IPv4) Src() Addr { return Addr4(h[ipv4Src:]) }

// SetSrc writes the source address.
func (h IPv4) SetSrc(a Addr) { a.Put4(h[ipv4Src:]) }

// Dst is the destination address.
func (h IPv4) Dst() Addr { return Addr4(h[ipv4Dst:]) }

// SetDst writes the destination address.
func (h IPv4) SetDst(a Addr) { a.Put4(h[ipv4Dst:]) }

// Options are the bytes between the fixed header and HeaderLen.
func (h IPv4) Options() []byte { return h[IPv4MinLen:h.HeaderLen()] }

// TTLProto is the 16-bit word of TTL and protocol, the unit that an
// incremental checksum update of the TTL needs.
func (h IPv4) TTLProto() uint16 { return binary.BigEndian.Uint16(h[ipv4TTL:]) }
