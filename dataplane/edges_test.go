package dataplane_test

import (
	"testing"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// TestNeighborQuestions asserts which questions about link-layer addresses are
// answered, and with which address.
func TestNeighborQuestions(t *testing.T) {
	silent := web
	silent.vip, silent.port = "198.18.100.9", 80
	n := newNode(t, web, web6, silent)
	for i := range n.b.Locals {
		if n.b.Locals[i].Addr == addr("198.18.100.9") {
			n.b.Locals[i].Flags = 0
		}
	}
	n.publish()
	v4, v6 := packettest.Addr("203.0.113.9"), packettest.Addr("2001:db8:20::9")
	vip4, vip6 := packettest.Addr("198.18.100.1"), packettest.Addr("2001:db8:100::1")
	unspecified := packettest.Addr("::")
	for _, c := range []struct {
		name  string
		frame []byte
		want  reason.Reason
	}{
		{"ARP for a VIP", packettest.ARPRequest(v4, vip4), reason.ARPReply},
		{"ARP for a VIP, to us alone", packettest.ARPRequest(v4, vip4, packettest.MACs(ourMAC0, clientMAC)), reason.ARPReply},
		{"ARP for a SNAT address", packettest.ARPRequest(v4, packettest.Addr("198.18.10.200")), reason.ARPReply},
		{"ARP probe for a VIP", packettest.ARPRequest(packettest.Addr("0.0.0.0"), vip4), reason.ARPReply},
		{"ARP for a VIP of another node", packettest.ARPRequest(v4, packettest.Addr("198.18.100.9")), reason.PassARP},
		{"ARP for another", packettest.ARPRequest(v4, packettest.Addr("198.18.100.77")), reason.PassARP},
		{"ARP reply to a VIP", packettest.ARPReply(v4, vip4), reason.PassARP},
		{"solicitation by multicast", packettest.NeighborSolicit(v6, vip6), reason.NeighborAdvert},
		{"solicitation to us alone", packettest.ICMP(v6, vip6, packet.ICMPv6NeighborSolicit, 0, packettest.MACs(ourMAC0, clientMAC), packettest.TTL(255), packettest.Payload(vip6.AsSlice())), reason.NeighborAdvert},
		{"address detection", packettest.NeighborSolicit(unspecified, vip6), reason.NeighborAdvert},
		{"solicitation for another", packettest.NeighborSolicit(v6, packettest.Addr("2001:db8:100::77")), reason.PassNeighbor},
		{"solicitation for another, sent to a VIP", packettest.ICMP(v6, vip6, packet.ICMPv6NeighborSolicit, 0, packettest.TTL(255), packettest.Payload(packettest.Addr("2001:db8:100::77").AsSlice())), reason.PassNeighbor},
		{"solicitation from afar", packettest.NeighborSolicit(v6, vip6, packettest.TTL(64)), reason.ICMPMalformed},
		{"advertisement to a VIP", packettest.NeighborAdvert(vip6, v6), reason.ICMPUnsupported},
	} {
		n.t = t
		sent, v := n.one(0, c.frame)
		if v.Reason != c.want {
			t.Errorf("%s: %v, want %v", c.name, v.Reason, c.want)
			continue
		}
		if v.Action != reason.Transmit {
			if len(sent[0])+len(sent[1]) != 0 {
				t.Errorf("%s: something is sent", c.name)
			}
			continue
		}
		answer := sent[0][0]
		if packet.Ethernet(answer).SrcMAC() != ourMAC0 {
			t.Errorf("%s: the answer comes from %x", c.name, packet.Ethernet(answer).SrcMAC())
		}
		if v.Reason == reason.ARPReply {
			if a := packet.ARP(answer[14:]); a.SenderMAC() != ourMAC0 || a.Op() != packet.ARPReply {
				t.Errorf("%s: %x", c.name, answer)
			}
			continue
		}
		if err := packettest.Verify(answer); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if mac, ok := packet.NDP(answer[54:]).LinkLayer(packet.NDPOptionTargetLinkLayer); !ok || mac != ourMAC0 {
			t.Errorf("%s: the answer says %x", c.name, mac)
		}
	}
}

// TestPacketsNotCarried are packets to a VIP that no service can have.
func TestPacketsNotCarried(t *testing.T) {
	direct := testService{vip: "198.18.100.2", proto: packet.ProtoUDP, port: 80, method: fib.MethodL2, backends: []string{"198.18.10.11:80"}}
	direct6 := testService{vip: "2001:db8:100::2", proto: packet.ProtoUDP, port: 80, method: fib.MethodL2, backends: []string{"[2001:db8:10::11]:80"}}
	n := newNode(t, web, direct, direct6)
	macs := packettest.MACs(ourMAC0, clientMAC)
	v4, vip4 := packettest.Addr("203.0.113.9"), packettest.Addr("198.18.100.2")
	v6, vip6 := packettest.Addr("2001:db8:20::9"), packettest.Addr("2001:db8:100::2")
	udp := func(src, dst string, opts ...packettest.Option) []byte { return udpFrom(src, dst, opts...) }
	routing := packettest.UDP(packettest.AddrPort("[2001:db8:20::9]:5"), packettest.AddrPort("[2001:db8:100::2]:80"), macs, packettest.Extension(packet.ProtoRouting, 253, 1, 0, 0, 0, 0))
	for _, c := range []struct {
		name  string
		frame []byte
		want  reason.Reason
	}{
		{"GRE", packettest.IP(v4, vip4, 47, make([]byte, 20), macs), reason.ProtocolUnsupported},
		{"IP in IP", packettest.IP(v4, vip4, 4, make([]byte, 20), macs), reason.ProtocolUnsupported},
		{"ESP", packettest.IP(v6, vip6, 50, make([]byte, 20), macs), reason.ProtocolUnsupported},
		{"no next header", packettest.IP(v6, vip6, 59, nil, macs), reason.ProtocolUnsupported},
		{"later fragment of GRE", packettest.IP(v4, vip4, 47, make([]byte, 24), macs, packettest.Fragment(80, false, 1)), reason.ProtocolUnsupported},
		{"ICMPv6 over IPv4", packettest.IP(v4, vip4, 58, make([]byte, 24), macs), reason.ProtocolUnsupported},
		{"ICMP over IPv6", packettest.IP(v6, vip6, 1, make([]byte, 24), macs), reason.ProtocolUnsupported},
		{"routing header with segments left", routing, reason.IPv6ExtensionMalformed},
		{"routing header used up", packettest.UDP(packettest.AddrPort("[2001:db8:20::9]:5"), packettest.AddrPort("[2001:db8:100::2]:80"), macs, packettest.Routing()), reason.ForwardNew},
		{"no service there", udp("203.0.113.9:5", "198.18.100.2:81"), reason.ServiceNotFound},
		{"no service of that protocol", fromClient("203.0.113.9:5", "198.18.100.2:80"), reason.ServiceNotFound},
		{"from the VIP itself", udp("198.18.100.2:80", "198.18.100.2:80"), reason.SourceInvalid},
		{"from another VIP", udp("198.18.100.1:80", "198.18.100.2:80"), reason.SourceInvalid},
		{"from another VIP, to NAT", fromClient("198.18.100.2:80", "198.18.100.1:80", packettest.Flags(syn)), reason.SourceInvalid},
		{"from a SNAT address: one service's backend is another service", udp("198.18.10.200:5000", "198.18.100.2:80"), reason.ForwardNew},
		{"from loopback", udp("127.0.0.1:5", "198.18.100.2:80"), reason.SourceInvalid},
		{"from nowhere", udp("0.0.0.0:5", "198.18.100.2:80"), reason.SourceInvalid},
		{"from broadcast", udp("255.255.255.255:5", "198.18.100.2:80"), reason.SourceInvalid},
		{"from multicast", udp("[ff0e::1]:5", "[2001:db8:100::2]:80"), reason.SourceInvalid},
		{"to a SNAT address out of nowhere", udp("203.0.113.9:5", "198.18.10.200:5000"), reason.FlowNotFound},
		{"to an address that is not ours", udp("203.0.113.9:5", "192.0.2.1:80"), reason.PassNotOurs},
		{"IPv4 options", udp("203.0.113.9:5", "198.18.100.2:80", packettest.IPOptions(7, 7, 4, 0, 0, 0, 0)), reason.ForwardNew},
		{"IPv4 option cut", udp("203.0.113.9:5", "198.18.100.2:80", packettest.IPOptions(7, 9, 4, 0)), reason.IPv4HeaderMalformed},
		{"link broadcast", udp("203.0.113.9:5", "198.18.100.2:80", packettest.MACs([6]byte{255, 255, 255, 255, 255, 255}, clientMAC)), reason.LinkBroadcast},
		{"link multicast", udp("[2001:db8:20::9]:5", "[2001:db8:100::2]:80", packettest.MACs([6]byte{0x33, 0x33, 0, 0, 0, 1}, clientMAC)), reason.LinkBroadcast},
		{"link broadcast to a SNAT address", udp("198.18.10.11:80", "198.18.10.200:5000", packettest.MACs([6]byte{255, 255, 255, 255, 255, 255}, clientMAC)), reason.LinkBroadcast},
		{"three VLAN tags", udp("203.0.113.9:5", "198.18.100.2:80", packettest.VLAN(1, 2, 3)), reason.VLANTooDeep},
	} {
		sent, v := n.one(0, c.frame)
		if v.Reason != c.want {
			t.Errorf("%s: %v, want %v", c.name, v.Reason, c.want)
		}
		if v.Action != reason.Transmit && len(sent[0])+len(sent[1]) != 0 {
			t.Errorf("%s: something is sent", c.name)
		}
	}
}

// TestTunnelAddress asserts that what is sent to the source address of our
// tunnels is the host's, fragments too.
func TestTunnelAddress(t *testing.T) {
	n := newNode(t, web)
	n.b.Locals = append(n.b.Locals, fib.Local{Addr: addr("198.18.10.1"), ID: 60, Kind: fib.LocalTunnel, Flags: fib.LocalAnswerARP, SNAT: fib.NoIndex})
	n.publish()
	for _, frame := range [][]byte{
		udpFrom("203.0.113.9:5", "198.18.10.1:80"),
		udpFrom("203.0.113.9:5", "198.18.10.1:80", packettest.Fragment(80, false, 1), packettest.PayloadLen(80)),
		packettest.Echo(packettest.Addr("203.0.113.9"), packettest.Addr("198.18.10.1"), 1, 1),
	} {
		_, v := n.one(0, frame)
		n.expect(v, reason.PassNotOurs)
	}
	_, v := n.one(0, packettest.ARPRequest(packettest.Addr("203.0.113.9"), packettest.Addr("198.18.10.1")))
	n.expect(v, reason.ARPReply)
}

// TestFewerInterfaces has a snapshot know fewer interfaces than the worker has
// ports, as one may for the moment in which an interface goes away.
func TestFewerInterfaces(t *testing.T) {
	n := newNode(t, web)
	_, seen := n.connect("203.0.113.9:1000", "198.18.100.1:80")
	n.b.Interfaces = n.b.Interfaces[:1]
	n.b.NextHops[0].Port = 0
	n.publish()
	macs := packettest.MACs(ourMAC1, clientMAC)
	for _, c := range []struct {
		frame []byte
		want  reason.Reason
	}{
		{packettest.Echo(packettest.Addr("203.0.113.9"), packettest.Addr("198.18.100.1"), 1, 1, macs), reason.TransmitDown},
		{packettest.ARPRequest(packettest.Addr("203.0.113.9"), packettest.Addr("198.18.100.1")), reason.TransmitDown},
		{packettest.TCP(packettest.AddrPort("203.0.113.9:1001"), packettest.AddrPort("198.18.100.1:80"), macs, packettest.MSS(1460)), reason.ForwardNew},
		{reverse(seen), reason.ReplyFlow},
	} {
		_, v := n.one(1, c.frame)
		n.expect(v, c.want)
	}
}

// TestBackendMTUIsALimit asserts that a backend's MTU does not lift the one of
// the interface.
func TestBackendMTUIsALimit(t *testing.T) {
	n := newNode(t, testService{vip: "198.18.100.2", proto: packet.ProtoUDP, port: 80, method: fib.MethodIPIP, backends: []string{"198.18.10.11:80"}})
	n.b.Backends[1].MTU = 9000
	n.publish()
	_, v := n.one(0, udpFrom("203.0.113.9:5", "198.18.100.2:80", packettest.DF(), packettest.PayloadLen(1453)))
	if v.Reason != reason.TooBigReply || v.MTU != 1480 {
		t.Errorf("%+v %v", v, v.Reason)
	}
}
