package packet

import "encoding/binary"

// UDPLen is the length of a UDP header, in bytes.
const UDPLen = 8

const (
	udpSrcPort = 0
	udpDstPort = 2
	udpLength  = 4
)

// UDPChecksumOffset is where the checksum stands in the header.
const UDPChecksumOffset = 6

// UDP is a UDP header, RFC 768:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------------------------------+-------------------------------+
//	|          Source port          |       Destination port        |
//	+-------------------------------+-------------------------------+
//	|            Length             |           Checksum            |
//	+-------------------------------+-------------------------------+
type UDP []byte

// SrcPort is the source port.
func (h UDP) SrcPort() uint16 { return binary.BigEndian.Uint16(h[udpSrcPort:]) }

// SetSrcPort writes the source port.
func (h UDP) SetSrcPort(v uint16) { binary.BigEndian.PutUint16(h[udpSrcPort:], v) }

// DstPort is the destination port.
func (h UDP) DstPort() uint16 { return binary.BigEndian.Uint16(h[udpDstPort:]) }

// SetDstPort writes the destination port.
func (h UDP) SetDstPort(v uint16) { binary.BigEndian.PutUint16(h[udpDstPort:], v) }

// Length is the length in bytes of header and payload.
func (h UDP) Length() uint16 { return binary.BigEndian.Uint16(h[udpLength:]) }

// SetLength writes the length of header and payload.
func (h UDP) SetLength(v uint16) { binary.BigEndian.PutUint16(h[udpLength:], v) }

// Checksum is the checksum over pseudo-header, header and payload; in IPv4, 0
// says that there is none.
func (h UDP) Checksum() uint16 { return binary.BigEndian.Uint16(h[UDPChecksumOffset:]) }

// SetChecksum writes the checksum as it stands; see UDPChecksum for the zero
// rule.
func (h UDP) SetChecksum(v uint16) { binary.BigEndian.PutUint16(h[UDPChecksumOffset:], v) }
