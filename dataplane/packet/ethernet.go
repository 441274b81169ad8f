package packet

import "encoding/binary"

// EtherTypes (IEEE 802 numbers) that the data path knows.
const (
	EtherTypeIPv4  = 0x0800
	EtherTypeARP   = 0x0806
	EtherTypeVLAN  = 0x8100 // IEEE 802.1Q customer tag
	EtherTypeIPv6  = 0x86dd
	EtherTypeQinQ  = 0x88a8 // IEEE 802.1ad service tag
	EtherTypeQinQ1 = 0x9100 // service tag of equipment older than 802.1ad

	// EtherTypeMin is the smallest EtherType; a smaller value in the type field
	// is the length of an IEEE 802.3 frame.
	EtherTypeMin = 0x0600
)

// EthernetLen is the length of an Ethernet header without tags, in bytes.
const EthernetLen = 14

const (
	ethernetDst  = 0
	ethernetSrc  = 6
	ethernetType = 12
)

// Ethernet is an Ethernet II header, IEEE 802.3 section 3.1.1:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------------------------------------------------------+
//	|                        Destination MAC                        |
//	+                               +-------------------------------+
//	|                               |                               |
//	+-------------------------------+                               +
//	|                          Source MAC                           |
//	+-------------------------------+-------------------------------+
//	|           EtherType           |
//	+-------------------------------+
type Ethernet []byte

// DstMAC is the destination address.
func (h Ethernet) DstMAC() [6]byte { return [6]byte(h[ethernetDst:ethernetSrc]) }

// SetDstMAC writes the destination address.
func (h Ethernet) SetDstMAC(mac [6]byte) { *(*[6]byte)(h[ethernetDst:ethernetSrc]) = mac }

// SrcMAC is the source address.
func (h Ethernet) SrcMAC() [6]byte { return [6]byte(h[ethernetSrc:ethernetType]) }

// SetSrcMAC writes the source address.
func (h Ethernet) SetSrcMAC(mac [6]byte) { *(*[6]byte)(h[ethernetSrc:ethernetType]) = mac }

// EtherType says what follows: a VLAN tag or a network protocol. Below
// EtherTypeMin it is the length of an 802.3 frame.
func (h Ethernet) EtherType() uint16 { return binary.BigEndian.Uint16(h[ethernetType:]) }

// SetEtherType writes the EtherType.
func (h Ethernet) SetEtherType(v uint16) { binary.BigEndian.PutUint16(h[ethernetType:], v) }

// DstIsGroup reports whether the frame was sent to a multicast address or to
// the broadcast address (the I/G bit, IEEE 802 section 8.2).
func (h Ethernet) DstIsGroup() bool { return h[ethernetDst]&1 != 0 }

// IsVLAN reports whether an EtherType announces a VLAN tag.
func IsVLAN(etherType uint16) bool {
	return etherType == EtherTypeVLAN || etherType == EtherTypeQinQ || etherType == EtherTypeQinQ1
}
