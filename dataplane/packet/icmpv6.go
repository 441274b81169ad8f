package packet

import "encoding/binary"

// ICMPv6 types (RFC 4443, RFC 4861).
const (
	ICMPv6Unreachable     = 1
	ICMPv6PacketTooBig    = 2
	ICMPv6TimeExceeded    = 3
	ICMPv6ParamProblem    = 4
	ICMPv6Echo            = 128
	ICMPv6EchoReply       = 129
	ICMPv6RouterSolicit   = 133
	ICMPv6RouterAdvert    = 134
	ICMPv6NeighborSolicit = 135
	ICMPv6NeighborAdvert  = 136
	ICMPv6Redirect        = 137
)

// Codes of ICMPv6Unreachable and ICMPv6TimeExceeded.
const (
	ICMPv6CodeNoRoute         = 0
	ICMPv6CodeProhibited      = 1
	ICMPv6CodeAddrUnreachable = 3
	ICMPv6CodePortUnreachable = 4
	ICMPv6CodeHopLimit        = 0
)

// ICMPv6 is an ICMPv6 header, RFC 4443 section 2.1; the second word is, by
// type, the identifier and sequence number of an echo, the MTU of a
// packet-too-big, or unused:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------+---------------+-------------------------------+
//	|     Type      |     Code      |           Checksum            |
//	+---------------+---------------+-------------------------------+
//	|     Identifier and sequence number, or MTU, or unused         |
//	+---------------------------------------------------------------+
//	|  Echo data, or the quoted packet from its IPv6 header on ...  |
//	+---------------------------------------------------------------+
type ICMPv6 []byte

// Type is the message type.
func (h ICMPv6) Type() uint8 { return h[icmpType] }

// SetType writes the message type.
func (h ICMPv6) SetType(v uint8) { h[icmpType] = v }

// Code is the subtype.
func (h ICMPv6) Code() uint8 { return h[icmpCode] }

// SetCode writes the subtype.
func (h ICMPv6) SetCode(v uint8) { h[icmpCode] = v }

// Checksum is the checksum over pseudo-header, header and body.
func (h ICMPv6) Checksum() uint16 { return binary.BigEndian.Uint16(h[icmpChecksum:]) }

// SetChecksum writes the checksum.
func (h ICMPv6) SetChecksum(v uint16) { binary.BigEndian.PutUint16(h[icmpChecksum:], v) }

// ID is the identifier of an echo.
func (h ICMPv6) ID() uint16 { return binary.BigEndian.Uint16(h[icmpRest:]) }

// SetID writes the identifier of an echo.
func (h ICMPv6) SetID(v uint16) { binary.BigEndian.PutUint16(h[icmpRest:], v) }

// Seq is the sequence number of an echo.
func (h ICMPv6) Seq() uint16 { return binary.BigEndian.Uint16(h[icmpSeq:]) }

// SetSeq writes the sequence number of an echo.
func (h ICMPv6) SetSeq(v uint16) { binary.BigEndian.PutUint16(h[icmpSeq:], v) }

// MTU is the next hop's MTU in a packet-too-big message.
func (h ICMPv6) MTU() uint32 { return binary.BigEndian.Uint32(h[icmpRest:]) }

// SetMTU writes the next hop's MTU.
func (h ICMPv6) SetMTU(v uint32) { binary.BigEndian.PutUint32(h[icmpRest:], v) }

// SetRest writes the whole second word.
func (h ICMPv6) SetRest(v uint32) { binary.BigEndian.PutUint32(h[icmpRest:], v) }

// ICMPv6IsError reports whether messages of this type quote the packet they
// are about: the four error types that are defined (RFC 4443 section 2.1).
func ICMPv6IsError(typ uint8) bool {
	return typ >= ICMPv6Unreachable && typ <= ICMPv6ParamProblem
}
