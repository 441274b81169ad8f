package packet

import "encoding/binary"

// SCTPLen is the length of SCTP's common header, in bytes.
const SCTPLen = 12

const (
	sctpSrcPort = 0
	sctpDstPort = 2
	sctpTag     = 4
)

// SCTPChecksumOffset is where the checksum stands in the common header.
const SCTPChecksumOffset = 8

// SCTP is SCTP's common header, RFC 9260 section 3.1:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------------------------------+-------------------------------+
//	|          Source port          |       Destination port        |
//	+-------------------------------+-------------------------------+
//	|                       Verification tag                        |
//	+---------------------------------------------------------------+
//	|                       Checksum (CRC32c)                       |
//	+---------------------------------------------------------------+
type SCTP []byte

// SrcPort is the source port.
func (h SCTP) SrcPort() uint16 { return binary.BigEndian.Uint16(h[sctpSrcPort:]) }

// SetSrcPort writes the source port.
func (h SCTP) SetSrcPort(v uint16) { binary.BigEndian.PutUint16(h[sctpSrcPort:], v) }

// DstPort is the destination port.
func (h SCTP) DstPort() uint16 { return binary.BigEndian.Uint16(h[sctpDstPort:]) }

// SetDstPort writes the destination port.
func (h SCTP) SetDstPort(v uint16) { binary.BigEndian.PutUint16(h[sctpDstPort:], v) }

// Tag is the verification tag.
func (h SCTP) Tag() uint32 { return binary.BigEndian.Uint32(h[sctpTag:]) }

// SetTag writes the verification tag.
func (h SCTP) SetTag(v uint32) { binary.BigEndian.PutUint32(h[sctpTag:], v) }

// Checksum is the CRC32c as SCTPChecksum gives it. It is the one field that
// stands in the frame with its least significant byte first (RFC 9260
// appendix A).
func (h SCTP) Checksum() uint32 { return binary.LittleEndian.Uint32(h[SCTPChecksumOffset:]) }

// SetChecksum writes the CRC32c.
func (h SCTP) SetChecksum(v uint32) { binary.LittleEndian.PutUint32(h[SCTPChecksumOffset:], v) }
