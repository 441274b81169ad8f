package decap

import (
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	balancer4 = netip.MustParseAddr("198.18.0.1")
	balancer6 = netip.MustParseAddr("2001:db8::1")
	backend4  = netip.MustParseAddr("198.18.0.2")
	backend6  = netip.MustParseAddr("2001:db8::2")
	client4   = netip.MustParseAddr("192.0.2.7")
	client6   = netip.MustParseAddr("2001:db8:c::7")
	vip4      = netip.MustParseAddr("203.0.113.10")
	vip6      = netip.MustParseAddr("2001:db8:1::10")
	other4    = netip.MustParseAddr("203.0.113.99")
	other6    = netip.MustParseAddr("2001:db8:1::99")
)

var (
	nearMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	farMAC  = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

const (
	cTag = layers.EthernetTypeDot1Q
	sTag = layers.EthernetTypeQinQ
	oTag = layers.EthernetType(0x9100)
)

// serialise puts layers together, lengths and checksums filled in.
func serialise(t testing.TB, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// on puts an IP packet on the link, without padding.
func on(ip []byte, tags ...layers.EthernetType) []byte {
	f := append(append([]byte{}, nearMAC...), farMAC...)
	for i, tag := range tags {
		f = append(f, byte(tag>>8), byte(tag), 0x20, byte(100+i))
	}
	if ip[0]>>4 == 4 {
		f = append(f, 0x08, 0x00)
	} else {
		f = append(f, 0x86, 0xdd)
	}
	return append(f, ip...)
}

// ip is an IP packet of either family with the given TOS or traffic class.
func ip(t testing.TB, src, dst netip.Addr, proto layers.IPProtocol, tos uint8, payload []byte) []byte {
	t.Helper()
	return serialise(t, ipHeader(src, dst, proto, tos), gopacket.Payload(payload))
}

func ipHeader(src, dst netip.Addr, proto layers.IPProtocol, tos uint8) gopacket.SerializableLayer {
	if src.Is4() {
		return &layers.IPv4{Version: 4, TTL: 61, TOS: tos, Id: 7, Flags: layers.IPv4DontFragment, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	}
	return &layers.IPv6{Version: 6, HopLimit: 61, TrafficClass: tos, FlowLabel: 0x12345, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

// inner is a UDP packet from a client, with n bytes of payload.
func inner(t testing.TB, src, dst netip.Addr, tos uint8, n int) []byte {
	t.Helper()
	header := ipHeader(src, dst, layers.IPProtocolUDP, tos)
	udp := &layers.UDP{SrcPort: 4000, DstPort: 53}
	if err := udp.SetNetworkLayerForChecksum(header.(gopacket.NetworkLayer)); err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, n)
	for i := range payload {
		payload[i] = byte(i)
	}
	return serialise(t, header, udp, gopacket.Payload(payload))
}

// protocolOf is the protocol number that carries an IP packet.
func protocolOf(ip []byte) layers.IPProtocol {
	if ip[0]>>4 == 4 {
		return layers.IPProtocolIPv4
	}
	return layers.IPProtocolIPv6
}

// ipip puts an IP packet into another.
func ipip(t testing.TB, src, dst netip.Addr, tos uint8, inner []byte) []byte {
	t.Helper()
	return ip(t, src, dst, protocolOf(inner), tos, inner)
}

// gue puts an IP packet into GUE variant 0, with words of optional fields.
func gue(t testing.TB, src, dst netip.Addr, tos uint8, port uint16, words int, inner []byte) []byte {
	t.Helper()
	header := append([]byte{byte(words), byte(protocolOf(inner)), 0, 0}, make([]byte, 4*words)...)
	return udpTo(t, src, dst, tos, port, append(header, inner...))
}

// udpTo is a UDP packet with the given payload.
func udpTo(t testing.TB, src, dst netip.Addr, tos uint8, port uint16, payload []byte) []byte {
	t.Helper()
	header := ipHeader(src, dst, layers.IPProtocolUDP, tos)
	udp := &layers.UDP{SrcPort: 50000, DstPort: layers.UDPPort(port)}
	if err := udp.SetNetworkLayerForChecksum(header.(gopacket.NetworkLayer)); err != nil {
		t.Fatal(err)
	}
	return serialise(t, header, udp, gopacket.Payload(payload))
}

// patched is a copy of b with bytes replaced.
func patched(b []byte, at int, with ...byte) []byte {
	b = append([]byte{}, b...)
	copy(b[at:], with)
	return b
}

// rechecksummed is a copy of an IPv4 packet with its header checksum made right
// by adding up the slow way.
func rechecksummed(ip []byte) []byte {
	ip = patched(ip, 10, 0, 0)
	sum := 0
	for i := 0; i < 4*int(ip[0]&0xf); i += 2 {
		sum += int(ip[i])<<8 | int(ip[i+1])
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return patched(ip, 10, byte(^sum>>8), byte(^sum))
}

// insert is a copy of b with bytes put in.
func insert(b []byte, at int, put ...byte) []byte {
	return append(append(append([]byte{}, b[:at]...), put...), b[at:]...)
}

// extended6 is an IPv6 packet with an extension header of 8 bytes or more put
// in front of its payload. The header's first byte is filled in.
func extended6(ip []byte, kind byte, header ...byte) []byte {
	header[0] = ip[6]
	ip = insert(patched(ip, 6, kind), 40, header...)
	n := int(ip[4])<<8 | int(ip[5]) + len(header)
	return patched(ip, 4, byte(n>>8), byte(n))
}
