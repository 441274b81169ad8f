package rewrite

import "fairlead/dataplane/packet"

// ipv4Fields are what a new IPv4 header without options says.
type ipv4Fields struct {
	src, dst packet.Addr
	length   int // of the packet, this header included
	id       uint16
	flags    uint16 // packet.IPv4Flag bits
	tos      uint8
	ttl      uint8
	proto    uint8
}

// putIPv4 writes a whole header of packet.IPv4MinLen bytes, checksum included.
func putIPv4(h packet.IPv4, f *ipv4Fields) {
	h = h[:packet.IPv4MinLen]
	h.SetVersionHeaderLen(packet.IPv4MinLen)
	h.SetTOS(f.tos)
	h.SetTotalLen(uint16(f.length))
	h.SetID(f.id)
	h.SetFlagsOffset(f.flags)
	h.SetTTL(f.ttl)
	h.SetProto(f.proto)
	h.SetSrc(f.src)
	h.SetDst(f.dst)
	h.SetChecksum(f.checksum())
}

// checksum is the header checksum. It is computed from the fields: reading the
// header back, in other widths than it was just written in, makes the processor
// wait for its own stores.
func (f *ipv4Fields) checksum() uint16 {
	src, dst := uint32(f.src.Lo), uint32(f.dst.Lo)
	sum := uint32(packet.IPv4MinLen/4|4<<4)<<8 | uint32(f.tos)
	sum += uint32(uint16(f.length)) + uint32(f.id) + uint32(f.flags)
	sum += uint32(f.ttl)<<8 | uint32(f.proto)
	sum += src>>16 + src&0xffff + dst>>16 + dst&0xffff
	return packet.Finish(sum)
}

// ipv6Fields are what a new IPv6 header says.
type ipv6Fields struct {
	src, dst     packet.Addr
	payload      int // bytes after this header
	label        uint32
	trafficClass uint8
	hopLimit     uint8
	next         uint8
}

// putIPv6 writes a whole header of packet.IPv6Len bytes.
func putIPv6(h packet.IPv6, f *ipv6Fields) {
	h = h[:packet.IPv6Len]
	h.SetFirst(f.trafficClass, f.label)
	h.SetPayloadLen(uint16(f.payload))
	h.SetNextHeader(f.next)
	h.SetHopLimit(f.hopLimit)
	h.SetSrc(f.src)
	h.SetDst(f.dst)
}

// ipHeaderLen is the length of a header without options or extension headers.
func ipHeaderLen(is4 bool) int {
	if is4 {
		return packet.IPv4MinLen
	}
	return packet.IPv6Len
}

// laterFragment reports whether the packet is a fragment other than the first
// of its packet, which has no transport header.
func laterFragment(info *packet.Info) bool {
	return info.Frag&(packet.FragAny|packet.FragFirst) == packet.FragAny
}
