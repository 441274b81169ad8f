package packet

import "fairlead/dataplane/reason"

// Limits of what Parse follows.
const (
	// MaxVLANs is how many VLAN tags a frame may have.
	MaxVLANs = 2
	// MaxExtensions is how many IPv6 extension headers a packet may have.
	MaxExtensions = 8
	// MaxExtensionBytes is how long its extension headers may be together.
	MaxExtensionBytes = 512
	// MaxFrame is the longest frame, so that every offset fits Info's 16 bits.
	MaxFrame = 65535
)

// Parse reads a frame from its Ethernet header on and fills info, every field
// of it, whatever was there before. It returns reason.None if the frame can be
// decided upon, otherwise why it must be dropped; then info holds what was
// read before the fault, for logs and nothing else.
//
// A frame that is neither IP nor ARP is fine and of KindOther, and so is an IP
// packet with a transport protocol that Parse does not know: it has Proto and
// no ports. What the transport carries is not looked at, and the checksums of
// TCP, UDP and SCTP are not verified: the rewrites keep a right one right and
// a wrong one wrong, so that the receiver finds it. IPv4 header checksums and
// those of whole ICMP messages are verified, since what we make of such
// headers we write with a checksum of our own.
//
// Parse allocates nothing, keeps no reference to frame and changes nothing in
// it.
func Parse(frame []byte, info *Info) reason.Reason {
	*info = Info{}
	if len(frame) < EthernetLen {
		return reason.FrameTooShort
	}
	if len(frame) > MaxFrame {
		return reason.Oversize
	}
	l3 := EthernetLen
	etherType := Ethernet(frame).EtherType()
	for IsVLAN(etherType) {
		if info.VLANs == MaxVLANs {
			return reason.VLANTooDeep
		}
		if len(frame) < l3+VLANLen {
			return reason.FrameTooShort
		}
		etherType = VLAN(frame[l3:]).EtherType()
		l3 += VLANLen
		info.VLANs++
	}
	info.L3 = uint16(l3)
	switch etherType {
	case EtherTypeIPv4:
		return parseIPv4(frame, l3, info)
	case EtherTypeIPv6:
		return parseIPv6(frame, l3, info)
	case EtherTypeARP:
		return parseARP(frame, l3, info)
	}
	return reason.None
}
