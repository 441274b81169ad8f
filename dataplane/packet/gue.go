package packet

import "encoding/binary"

// GUELen is the length of a GUE header without optional fields, in bytes.
const GUELen = 4

// GUEPort is the UDP port that IANA assigned to GUE.
const GUEPort = 6080

const (
	gueVersion     = 0xc0
	gueControl     = 0x20
	gueHeaderWords = 0x1f
	gueProto       = 1
	gueFlags       = 2
)

// GUE is the header of Generic UDP Encapsulation, variant 0
// (draft-ietf-intarea-gue section 3.1):
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---+-+---------+---------------+-------------------------------+
//	|Ver|C|  Hlen   |  Proto/ctype  |             Flags             |
//	+---+-+---------+---------------+-------------------------------+
//	|         Optional fields, Hlen times 4 bytes                   |
//	+---------------------------------------------------------------+
type GUE []byte

// Version is the variant, 0; in variant 1 an IP packet follows UDP directly
// and there is no such header.
func (h GUE) Version() uint8 { return h[0] & gueVersion >> 6 }

// Control reports whether this is a control message and not a data packet.
func (h GUE) Control() bool { return h[0]&gueControl != 0 }

// HeaderLen is the length of header and optional fields in bytes.
func (h GUE) HeaderLen() int { return GUELen + int(h[0]&gueHeaderWords)<<2 }

// Proto is the IP protocol of what is carried: ProtoIPIP or ProtoIPv6.
func (h GUE) Proto() uint8 { return h[gueProto] }

// Flags say which optional fields there are.
func (h GUE) Flags() uint16 { return binary.BigEndian.Uint16(h[gueFlags:]) }

// Set writes the whole header: variant 0, data, no optional fields, carrying
// the given protocol.
func (h GUE) Set(proto uint8) { binary.BigEndian.PutUint32(h, uint32(proto)<<16) }
