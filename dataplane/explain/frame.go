package explain

import (
	"fmt"

	"fairlead/dataplane/packet"
)

// clientMAC is where the packet seems to come from: locally administered, and
// of nobody.
var clientMAC = [6]byte{0x02, 0xff, 0xff, 0xff, 0xff, 0xff}

// usualTTL is a TTL that does not run out here.
const usualTTL = 64

// firstPacket is the first packet of a flow as it arrives at an interface with
// address mac: a SYN for TCP, an empty packet otherwise. It may not be
// fragmented, as is usual.
func firstPacket(q Query, mac [6]byte) ([]byte, error) {
	transport := map[uint8]int{packet.ProtoTCP: packet.TCPMinLen, packet.ProtoUDP: packet.UDPLen, packet.ProtoSCTP: packet.SCTPLen}[q.Protocol]
	if transport == 0 {
		return nil, fmt.Errorf("protocol %d is none that a service can have", q.Protocol)
	}
	src, dst := packet.AddrFrom(q.Client.Addr()), packet.AddrFrom(q.Destination.Addr())
	header := packet.IPv6Len
	if src.Is4() {
		header = packet.IPv4MinLen
	}
	frame := make([]byte, packet.EthernetLen+header+transport)
	eth, ip, l4 := packet.Ethernet(frame), frame[packet.EthernetLen:], frame[packet.EthernetLen+header:]
	eth.SetDstMAC(mac)
	eth.SetSrcMAC(clientMAC)
	if src.Is4() {
		eth.SetEtherType(packet.EtherTypeIPv4)
		putIPv4(packet.IPv4(ip), src, dst, q.Protocol)
	} else {
		eth.SetEtherType(packet.EtherTypeIPv6)
		putIPv6(packet.IPv6(ip), src, dst, q.Protocol, transport)
	}
	pseudo := packet.PseudoSum(src, dst, q.Protocol, uint32(transport))
	switch q.Protocol {
	case packet.ProtoTCP:
		h := packet.TCP(l4)
		h.SetSrcPort(q.Client.Port())
		h.SetDstPort(q.Destination.Port())
		h.SetHeaderLen(packet.TCPMinLen)
		h.SetFlags(packet.TCPFlagSYN)
		h.SetWindow(65535)
		h.SetChecksum(packet.Finish(packet.Sum(l4, pseudo)))
	case packet.ProtoUDP:
		h := packet.UDP(l4)
		h.SetSrcPort(q.Client.Port())
		h.SetDstPort(q.Destination.Port())
		h.SetLength(uint16(transport))
		h.SetChecksum(packet.UDPChecksum(packet.Finish(packet.Sum(l4, pseudo))))
	case packet.ProtoSCTP:
		h := packet.SCTP(l4)
		h.SetSrcPort(q.Client.Port())
		h.SetDstPort(q.Destination.Port())
		h.SetChecksum(packet.SCTPChecksum(l4))
	}
	return frame, nil
}

func putIPv4(h packet.IPv4, src, dst packet.Addr, proto uint8) {
	h.SetVersionHeaderLen(packet.IPv4MinLen)
	h.SetTotalLen(uint16(len(h)))
	h.SetFlagsOffset(packet.IPv4FlagDF)
	h.SetTTL(usualTTL)
	h.SetProto(proto)
	h.SetSrc(src)
	h.SetDst(dst)
	h.SetChecksum(packet.Checksum(h[:packet.IPv4MinLen]))
}

func putIPv6(h packet.IPv6, src, dst packet.Addr, proto uint8, payload int) {
	h.SetFirst(0, 0)
	h.SetPayloadLen(uint16(payload))
	h.SetNextHeader(proto)
	h.SetHopLimit(usualTTL)
	h.SetSrc(src)
	h.SetDst(dst)
}
