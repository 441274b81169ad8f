package packet

import "encoding/binary"

// Lengths of a TCP header, in bytes.
const (
	TCPMinLen = 20
	TCPMaxLen = 60
)

// TCP flags, as they stand in the flag byte (RFC 9293 section 3.1).
const (
	TCPFlagFIN = 1 << iota
	TCPFlagSYN
	TCPFlagRST
	TCPFlagPSH
	TCPFlagACK
	TCPFlagURG
	TCPFlagECE
	TCPFlagCWR
)

const (
	tcpSrcPort    = 0
	tcpDstPort    = 2
	tcpSeq        = 4
	tcpAck        = 8
	tcpDataOffset = 12
	tcpFlags      = 13
	tcpWindow     = 14
	tcpUrgent     = 18
)

// TCPChecksumOffset is where the checksum stands in the header; a quote in an
// ICMP error may end before it.
const TCPChecksumOffset = 16

// TCP is a TCP header, RFC 9293 section 3.1:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------------------------------+-------------------------------+
//	|          Source port          |       Destination port        |
//	+-------------------------------+-------------------------------+
//	|                        Sequence number                        |
//	+---------------------------------------------------------------+
//	|                     Acknowledgment number                     |
//	+-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
//	| Data  |       |C|E|U|A|P|R|S|F|                               |
//	|offset | Rsrvd |W|C|R|C|S|S|Y|I|            Window             |
//	|       |       |R|E|G|K|H|T|N|N|                               |
//	+-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
//	|           Checksum            |        Urgent pointer         |
//	+-------------------------------+-------------------------------+
//	|                    Options, 0 to 40 bytes                     |
//	+---------------------------------------------------------------+
type TCP []byte

// SrcPort is the source port.
func (h TCP) SrcPort() uint16 { return binary.BigEndian.Uint16(h[tcpSrcPort:]) }

// SetSrcPort writes the source port.
func (h TCP) SetSrcPort(v uint16) { binary.BigEndian.PutUint16(h[tcpSrcPort:], v) }

// DstPort is the destination port.
func (h TCP) DstPort() uint16 { return binary.BigEndian.Uint16(h[tcpDstPort:]) }

// SetDstPort writes the destination port.
func (h TCP) SetDstPort(v uint16) { binary.BigEndian.PutUint16(h[tcpDstPort:], v) }

// Seq is the sequence number.
func (h TCP) Seq() uint32 { return binary.BigEndian.Uint32(h[tcpSeq:]) }

// SetSeq writes the sequence number.
func (h TCP) SetSeq(v uint32) { binary.BigEndian.PutUint32(h[tcpSeq:], v) }

// Ack is the acknowledgment number; it means something with TCPFlagACK only.
func (h TCP) Ack() uint32 { return binary.BigEndian.Uint32(h[tcpAck:]) }

// SetAck writes the acknowledgment number.
func (h TCP) SetAck(v uint32) { binary.BigEndian.PutUint32(h[tcpAck:], v) }

// HeaderLen is the length of header and options in bytes (data offset times
// four).
func (h TCP) HeaderLen() int { return int(h[tcpDataOffset]>>4) << 2 }

// SetHeaderLen writes the header length, given in bytes: a multiple of four
// from TCPMinLen to TCPMaxLen. The reserved bits become zero.
func (h TCP) SetHeaderLen(n int) { h[tcpDataOffset] = uint8(n>>2) << 4 }

// Flags is the flag byte: TCPFlag bits.
func (h TCP) Flags() uint8 { return h[tcpFlags] }

// SetFlags writes the flag byte.
func (h TCP) SetFlags(v uint8) { h[tcpFlags] = v }

// Window is the receive window, unscaled.
func (h TCP) Window() uint16 { return binary.BigEndian.Uint16(h[tcpWindow:]) }

// SetWindow writes the receive window.
func (h TCP) SetWindow(v uint16) { binary.BigEndian.PutUint16(h[tcpWindow:], v) }

// Checksum is the checksum over pseudo-header, header and payload.
func (h TCP) Checksum() uint16 { return binary.BigEndian.Uint16(h[TCPChecksumOffset:]) }

// SetChecksum writes the checksum.
func (h TCP) SetChecksum(v uint16) { binary.BigEndian.PutUint16(h[TCPChecksumOffset:], v) }

// Urgent is the urgent pointer.
func (h TCP) Urgent() uint16 { return binary.BigEndian.Uint16(h[tcpUrgent:]) }

// SetUrgent writes the urgent pointer.
func (h TCP) SetUrgent(v uint16) { binary.BigEndian.PutUint16(h[tcpUrgent:], v) }
