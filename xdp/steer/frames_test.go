package steer

import (
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	client4 = netip.MustParseAddr("198.18.0.1")
	client6 = netip.MustParseAddr("2001:db8::1")
	vip4    = netip.MustParseAddr("203.0.113.10")
	vip6    = netip.MustParseAddr("2001:db8:1::aa:bbcc")
	snat4   = netip.MustParseAddr("203.0.113.20")
	snat6   = netip.MustParseAddr("2001:db8:1::20")
	tunnel4 = netip.MustParseAddr("203.0.113.30")
	tunnel6 = netip.MustParseAddr("2001:db8:1::30")
	host4   = netip.MustParseAddr("203.0.113.1")
	host6   = netip.MustParseAddr("2001:db8:1::1")
	silent4 = netip.MustParseAddr("203.0.113.40") // a VIP that another node answers ARP for
	silent6 = netip.MustParseAddr("2001:db8:1::40")
)

// ours are the addresses of the tables below.
func ours() []Local {
	return []Local{
		{Addr: vip4, Kind: VIP, AnswerARP: true, ID: 1},
		{Addr: vip6, Kind: VIP, AnswerARP: true},
		{Addr: snat4, Kind: SNAT, AnswerARP: true},
		{Addr: snat6, Kind: SNAT, AnswerARP: true},
		{Addr: tunnel4, Kind: Tunnel, AnswerARP: true},
		{Addr: tunnel6, Kind: Tunnel, AnswerARP: true},
		{Addr: silent4, Kind: VIP, FailPass: true},
		{Addr: silent6, Kind: VIP, FailPass: true},
	}
}

var (
	nearMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	farMAC  = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

// frame serialises layers, lengths and checksums filled in.
func frame(t testing.TB, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// link is the link-layer header, with VLAN tags of the given EtherTypes.
func linkLayers(inner layers.EthernetType, tags ...layers.EthernetType) []gopacket.SerializableLayer {
	types := append(append([]layers.EthernetType{}, tags...), inner)
	out := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: farMAC, DstMAC: nearMAC, EthernetType: types[0]}}
	for i := range tags {
		out = append(out, &layers.Dot1Q{VLANIdentifier: uint16(100 + i), Type: types[i+1]})
	}
	return out
}

// udp is a UDP packet with a payload of n bytes.
func udp(t testing.TB, src, dst netip.Addr, n int, tags ...layers.EthernetType) []byte {
	t.Helper()
	u := &layers.UDP{SrcPort: 4000, DstPort: 80}
	return frame(t, append(ipLayers(t, src, dst, layers.IPProtocolUDP, u, tags...), u, gopacket.Payload(make([]byte, n)))...)
}

type checksummed interface {
	SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
}

func ipLayers(t testing.TB, src, dst netip.Addr, proto layers.IPProtocol, over checksummed, tags ...layers.EthernetType) []gopacket.SerializableLayer {
	t.Helper()
	var ip gopacket.SerializableLayer
	ether := layers.EthernetTypeIPv4
	if src.Is4() {
		ip = &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	} else {
		ether = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	}
	if err := over.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer)); err != nil {
		t.Fatal(err)
	}
	return append(linkLayers(ether, tags...), ip)
}

// arp is an ARP packet of client4 about target.
func arp(t testing.TB, op uint16, target netip.Addr, tags ...layers.EthernetType) []byte {
	t.Helper()
	return frame(t, append(linkLayers(layers.EthernetTypeARP, tags...), &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: op, SourceHwAddress: farMAC, SourceProtAddress: client4.AsSlice(),
		DstHwAddress: make([]byte, 6), DstProtAddress: target.AsSlice(),
	})...)
}

// solicited is the solicited-node multicast address of a.
func solicited(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, b[13], b[14], b[15]})
}

// solicit is a neighbour solicitation for target.
func solicit(t testing.TB, src, dst, target netip.Addr, hopLimit uint8, tags ...layers.EthernetType) []byte {
	t.Helper()
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	l := ipLayers(t, src, dst, layers.IPProtocolICMPv6, icmp, tags...)
	l[len(l)-1].(*layers.IPv6).HopLimit = hopLimit
	return frame(t, append(l, icmp, &layers.ICMPv6NeighborSolicitation{TargetAddress: target.AsSlice()})...)
}
