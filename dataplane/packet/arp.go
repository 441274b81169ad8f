package packet

import "encoding/binary"

// ARPLen is the length of an ARP packet for IPv4 over Ethernet, in bytes.
const ARPLen = 28

// Values of ARP fields (RFC 826, IANA ARP parameters).
const (
	ARPHardwareEthernet = 1
	ARPRequest          = 1
	ARPReply            = 2
)

const (
	arpHardware     = 0
	arpProtocol     = 2
	arpHardwareLen  = 4
	arpProtocolLen  = 5
	arpOp           = 6
	arpSenderMAC    = 8
	arpSenderAddr   = 14
	arpTargetMAC    = 18
	arpTargetAddr   = 24
	macLen          = 6
	ipv4AddrLen     = 4
	ipv6AddrLen     = 16
	arpProtocolIPv4 = EtherTypeIPv4
)

// ARP is an ARP packet for IPv4 over Ethernet, RFC 826:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------------------------------+-------------------------------+
//	|      Hardware type (1)        |    Protocol type (0x0800)     |
//	+---------------+---------------+-------------------------------+
//	|  HW len (6)   | Proto len (4) |           Operation           |
//	+---------------+---------------+-------------------------------+
//	|                          Sender MAC                           |
//	+                               +-------------------------------+
//	|                               |     Sender address (0-1)      |
//	+-------------------------------+-------------------------------+
//	|     Sender address (2-3)      |                               |
//	+-------------------------------+                               +
//	|                          Target MAC                           |
//	+---------------------------------------------------------------+
//	|                        Target address                         |
//	+---------------------------------------------------------------+
type ARP []byte

// HardwareType is the link layer; ARPHardwareEthernet.
func (h ARP) HardwareType() uint16 { return binary.BigEndian.Uint16(h[arpHardware:]) }

// ProtocolType is the network protocol as an EtherType; EtherTypeIPv4.
func (h ARP) ProtocolType() uint16 { return binary.BigEndian.Uint16(h[arpProtocol:]) }

// HardwareLen is the length of a link-layer address, 6 for Ethernet.
func (h ARP) HardwareLen() uint8 { return h[arpHardwareLen] }

// ProtocolLen is the length of a network address, 4 for IPv4.
func (h ARP) ProtocolLen() uint8 { return h[arpProtocolLen] }

// Op is the operation: ARPRequest or ARPReply.
func (h ARP) Op() uint16 { return binary.BigEndian.Uint16(h[arpOp:]) }

// SetOp writes the operation.
func (h ARP) SetOp(v uint16) { binary.BigEndian.PutUint16(h[arpOp:], v) }

// SenderMAC is the sender's link-layer address.
func (h ARP) SenderMAC() [6]byte { return [6]byte(h[arpSenderMAC : arpSenderMAC+macLen]) }

// SetSenderMAC writes the sender's link-layer address.
func (h ARP) SetSenderMAC(mac [6]byte) { *(*[6]byte)(h[arpSenderMAC : arpSenderMAC+macLen]) = mac }

// SenderAddr is the sender's IPv4 address; 0.0.0.0 in a probe (RFC 5227).
func (h ARP) SenderAddr() Addr { return Addr4(h[arpSenderAddr:]) }

// SetSenderAddr writes the sender's IPv4 address.
func (h ARP) SetSenderAddr(a Addr) { a.Put4(h[arpSenderAddr:]) }

// TargetMAC is the target's link-layer address; unset in a request.
func (h ARP) TargetMAC() [6]byte { return [6]byte(h[arpTargetMAC : arpTargetMAC+macLen]) }

// SetTargetMAC writes the target's link-layer address.
func (h ARP) SetTargetMAC(mac [6]byte) { *(*[6]byte)(h[arpTargetMAC : arpTargetMAC+macLen]) = mac }

// TargetAddr is the IPv4 address that is asked for, or answered.
func (h ARP) TargetAddr() Addr { return Addr4(h[arpTargetAddr:]) }

// SetTargetAddr writes the target's IPv4 address.
func (h ARP) SetTargetAddr(a Addr) { a.Put4(h[arpTargetAddr:]) }

// SetTypes writes the types and lengths of ARP for IPv4 over Ethernet.
func (h ARP) SetTypes() {
	binary.BigEndian.PutUint16(h[arpHardware:], ARPHardwareEthernet)
	binary.BigEndian.PutUint16(h[arpProtocol:], arpProtocolIPv4)
	h[arpHardwareLen] = macLen
	h[arpProtocolLen] = ipv4AddrLen
}
