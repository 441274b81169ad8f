package packet

import "encoding/binary"

// IPv6Len is the length of an IPv6 header without extension headers, in bytes.
const IPv6Len = 40

// IPv6FlowLabelMask is the part of the header's first word that is the flow
// label.
const IPv6FlowLabelMask = 0x000fffff

// IPv6MinMTU is the MTU that every IPv6 link has at least (RFC 8200 section 5).
const IPv6MinMTU = 1280

const (
	ipv6First      = 0
	ipv6PayloadLen = 4
	ipv6NextHeader = 6
	ipv6HopLimit   = 7
	ipv6Src        = 8
	ipv6Dst        = 24
)

// IPv6 is an IPv6 header, RFC 8200 section 3:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------+---------------+---------------------------------------+
//	|Version| Traffic class |              Flow label               |
//	+-------+---------------+-------+---------------+---------------+
//	|        Payload length         |  Next header  |   Hop limit   |
//	+-------------------------------+---------------+---------------+
//	|                                                               |
//	+                  Source address (16 bytes)                    +
//	|                                                               |
//	+---------------------------------------------------------------+
//	|                                                               |
//	+                Destination address (16 bytes)                 +
//	|                                                               |
//	+---------------------------------------------------------------+
type IPv6 []byte

// Version is the IP version, 6.
func (h IPv6) Version() uint8 { return h[ipv6First] >> 4 }

// TrafficClass is DSCP and ECN.
func (h IPv6) TrafficClass() uint8 { return uint8(binary.BigEndian.Uint16(h[ipv6First:]) >> 4) }

// SetTrafficClass writes DSCP and ECN and keeps version and flow label.
func (h IPv6) SetTrafficClass(v uint8) {
	w := binary.BigEndian.Uint16(h[ipv6First:])
	binary.BigEndian.PutUint16(h[ipv6First:], w&0xf00f|uint16(v)<<4)
}

// FlowLabel is the 20-bit flow label.
func (h IPv6) FlowLabel() uint32 { return binary.BigEndian.Uint32(h[ipv6First:]) & IPv6FlowLabelMask }

// SetFirst writes version 6, the traffic class, and the low 20 bits of label
// as flow label: the header's whole first word.
func (h IPv6) SetFirst(trafficClass uint8, label uint32) {
	binary.BigEndian.PutUint32(h[ipv6First:], 6<<28|uint32(trafficClass)<<20|label&IPv6FlowLabelMask)
}

// PayloadLen is the length in bytes of what follows this header, extension
// headers included; 0 in a jumbogram (RFC 2675) and with nothing behind it.
func (h IPv6) PayloadLen() uint16 { return binary.BigEndian.Uint16(h[ipv6PayloadLen:]) }

// SetPayloadLen writes the payload length.
func (h IPv6) SetPayloadLen(v uint16) { binary.BigEndian.PutUint16(h[ipv6PayloadLen:], v) }

// NextHeader is the type of what follows: a transport protocol or an extension
// header.
func (h IPv6) NextHeader() uint8 { return h[ipv6NextHeader] }

// SetNextHeader writes the type of what follows.
func (h IPv6) SetNextHeader(v uint8) { h[ipv6NextHeader] = v }

// HopLimit is what TTL is in IPv4.
func (h IPv6) HopLimit() uint8 { return h[ipv6HopLimit] }

// SetHopLimit writes the hop limit.
func (h IPv6) SetHopLimit(v uint8) { h[ipv6HopLimit] = v }

// Src is the source address.
func (h IPv6) Src() Addr { return Addr16(h[ipv6Src:]) }

// SetSrc writes the source address.
func (h IPv6) SetSrc(a Addr) { a.Put16(h[ipv6Src:]) }

// Dst is the destination address.
func (h IPv6) Dst() Addr { return Addr16(h[ipv6Dst:]) }

// SetDst writes the destination address.
func (h IPv6) SetDst(a Addr) { a.Put16(h[ipv6Dst:]) }
