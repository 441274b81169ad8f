package packet

import "encoding/binary"

// ICMPLen is the length of an ICMP or ICMPv6 header up to the body, in bytes:
// type, code, checksum, and the four bytes that depend on the type.
const ICMPLen = 8

// ICMP types (RFC 792, RFC 1191).
const (
	ICMPv4EchoReply    = 0
	ICMPv4Unreachable  = 3
	ICMPv4SourceQuench = 4
	ICMPv4Redirect     = 5
	ICMPv4Echo         = 8
	ICMPv4TimeExceeded = 11
	ICMPv4ParamProblem = 12
)

// Codes of ICMPv4Unreachable and ICMPv4TimeExceeded.
const (
	ICMPv4CodeNetUnreachable   = 0
	ICMPv4CodeHostUnreachable  = 1
	ICMPv4CodeProtoUnreachable = 2
	ICMPv4CodePortUnreachable  = 3
	ICMPv4CodeFragNeeded       = 4
	ICMPv4CodeProhibited       = 13
	ICMPv4CodeTTLExceeded      = 0
)

const (
	icmpType     = 0
	icmpCode     = 1
	icmpChecksum = 2
	icmpRest     = 4
	icmpSeq      = 6
	icmpv4MTU    = 6
)

// ICMPv4 is an ICMP header, RFC 792; the second word is, by type, the
// identifier and sequence number of an echo, the next hop's MTU (RFC 1191),
// or unused:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------+---------------+-------------------------------+
//	|     Type      |     Code      |           Checksum            |
//	+---------------+---------------+-------------------------------+
//	|      Identifier, unused       |     Sequence number, MTU      |
//	+-------------------------------+-------------------------------+
//	|  Echo data, or the quoted packet from its IP header on ...    |
//	+---------------------------------------------------------------+
type ICMPv4 []byte

// Type is the message type.
func (h ICMPv4) Type() uint8 { return h[icmpType] }

// SetType writes the message type.
func (h ICMPv4) SetType(v uint8) { h[icmpType] = v }

// Code is the subtype.
func (h ICMPv4) Code() uint8 { return h[icmpCode] }

// SetCode writes the subtype.
func (h ICMPv4) SetCode(v uint8) { h[icmpCode] = v }

// Checksum is the checksum over header and body, with no pseudo-header.
func (h ICMPv4) Checksum() uint16 { return binary.BigEndian.Uint16(h[icmpChecksum:]) }

// SetChecksum writes the checksum.
func (h ICMPv4) SetChecksum(v uint16) { binary.BigEndian.PutUint16(h[icmpChecksum:], v) }

// ID is the identifier of an echo.
func (h ICMPv4) ID() uint16 { return binary.BigEndian.Uint16(h[icmpRest:]) }

// SetID writes the identifier of an echo.
func (h ICMPv4) SetID(v uint16) { binary.BigEndian.PutUint16(h[icmpRest:], v) }

// Seq is the sequence number of an echo.
func (h ICMPv4) Seq() uint16 { return binary.BigEndian.Uint16(h[icmpSeq:]) }

// SetSeq writes the sequence number of an echo.
func (h ICMPv4) SetSeq(v uint16) { binary.BigEndian.PutUint16(h[icmpSeq:], v) }

// MTU is the next hop's MTU in a frag-needed message (RFC 1191 section 4); 0
// from a router that does not say.
func (h ICMPv4) MTU() uint16 { return binary.BigEndian.Uint16(h[icmpv4MTU:]) }

// SetMTU writes the next hop's MTU.
func (h ICMPv4) SetMTU(v uint16) { binary.BigEndian.PutUint16(h[icmpv4MTU:], v) }

// SetRest writes the whole second word.
func (h ICMPv4) SetRest(v uint32) { binary.BigEndian.PutUint32(h[icmpRest:], v) }

// ICMPv4IsError reports whether messages of this type quote the packet they
// are about (RFC 1122 section 3.2.2).
func ICMPv4IsError(typ uint8) bool {
	switch typ {
	case ICMPv4Unreachable, ICMPv4SourceQuench, ICMPv4Redirect, ICMPv4TimeExceeded, ICMPv4ParamProblem:
		return true
	}
	return false
}
