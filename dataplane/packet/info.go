package packet

// Kind says what Parse found behind the link-layer header.
type Kind uint8

// The kinds of frame that the data path tells apart.
const (
	KindOther Kind = iota // neither IP nor ARP; for the host
	KindARP               // an ARP request or reply for IPv4 over Ethernet
	KindIPv4              // an IPv4 packet
	KindIPv6              // an IPv6 packet
)

// Fragment bits of Info.Frag.
const (
	FragAny   = 1 << iota // the packet is a fragment (offset not zero, or more to come)
	FragFirst             // it is the first one: offset zero, transport header present
	FragMore              // more fragments follow
)

// Info is what the rest of the data path needs to know of a frame: offsets
// into it and the fields that decide. Every offset lies inside the frame, and
// every header Parse names is there in full. A zero Info describes nothing.
// It has a fixed size, holds no pointer, and is reused from batch to batch.
type Info struct {
	Src, Dst Addr // IP source and destination; for ARP the sender's and the target's protocol address

	Kind  Kind
	VLANs uint8 // 802.1Q and 802.1ad tags before the EtherType, 0 to 2
	Proto uint8 // transport protocol: the last next-header value, extension headers walked (a later IPv6 fragment's: what its fragment header says, which may be an extension header)
	TOS   uint8 // IPv4 TOS or IPv6 traffic class: DSCP and ECN
	TTL   uint8 // IPv4 TTL or IPv6 hop limit
	Frag  uint8 // Frag bits, 0 for a whole packet

	L3    uint16 // offset of the IP header (or of the ARP packet)
	L4    uint16 // offset of the transport header; for a later fragment, of its payload
	L3Len uint16 // IP header, options and extension headers: L4 - L3
	IPLen uint16 // bytes of the IP packet from L3, by its own header; the frame may be longer (padding)

	FragHeader uint16 // IPv6: offset of the fragment header, 0 if there is none
	FragOffset uint16 // offset of this fragment's payload in the original packet's, in bytes
	FragID     uint32 // identification that fragments of one packet share; 0 in a packet that is none and has no fragment header

	SrcPort, DstPort uint16 // TCP, UDP and SCTP; for an ICMP echo both are the identifier; 0 in a later fragment
	TCPFlags         uint8  // TCP flag byte, TCPFlag bits
	ICMPType         uint8  // ICMP and ICMPv6
	ICMPCode         uint8
	DontFragment     bool // IPv4 DF; always true for IPv6

	ARPOp uint16 // ARP operation: 1 request, 2 reply

	Inner Inner // the packet an ICMP error quotes; Inner.Proto is 0 when there is none
}

// Inner is the start of the packet that an ICMP error message quotes. At least
// the first 8 bytes of its transport header are there (RFC 792), which hold
// the ports.
type Inner struct {
	Src, Dst         Addr
	SrcPort, DstPort uint16
	Proto            uint8
	Fragment         bool   // the quoted packet is a later fragment: no ports
	L3               uint16 // offset of the quoted IP header in the frame
	L4               uint16 // offset of the quoted transport header in the frame
	End              uint16 // offset of the end of the quote in the frame (end of the IP packet)
}
