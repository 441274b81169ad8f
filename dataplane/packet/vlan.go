package packet

import "encoding/binary"

// VLANLen is what one VLAN tag adds to the Ethernet header, in bytes.
const VLANLen = 4

// VLANIDMask is the part of the tag control information that is the VLAN ID.
const VLANIDMask = 0x0fff

const (
	vlanTCI  = 0
	vlanType = 2
)

// VLAN is a VLAN tag from behind its own EtherType on (IEEE 802.1Q section
// 9.6), so that the first tag begins at EthernetLen and the next one VLANLen
// after it:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-----+-+-----------------------+-------------------------------+
//	| PCP |D|        VLAN ID        |    EtherType of what follows  |
//	+-----+-+-----------------------+-------------------------------+
type VLAN []byte

// TCI is the tag control information: priority, drop eligibility and ID.
func (h VLAN) TCI() uint16 { return binary.BigEndian.Uint16(h[vlanTCI:]) }

// SetTCI writes the tag control information.
func (h VLAN) SetTCI(v uint16) { binary.BigEndian.PutUint16(h[vlanTCI:], v) }

// ID is the VLAN's number, 0 to 4095.
func (h VLAN) ID() uint16 { return h.TCI() & VLANIDMask }

// EtherType says what follows the tag.
func (h VLAN) EtherType() uint16 { return binary.BigEndian.Uint16(h[vlanType:]) }

// SetEtherType writes the EtherType of what follows.
func (h VLAN) SetEtherType(v uint16) { binary.BigEndian.PutUint16(h[vlanType:], v) }
