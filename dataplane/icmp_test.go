package dataplane_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// errorKinds are the errors that path MTU discovery and fast failure live on.
var errorKinds = []struct{ type4, code4, type6, code6 uint8 }{
	{packet.ICMPv4Unreachable, packet.ICMPv4CodeFragNeeded, packet.ICMPv6PacketTooBig, 0},
	{packet.ICMPv4Unreachable, packet.ICMPv4CodePortUnreachable, packet.ICMPv6Unreachable, packet.ICMPv6CodePortUnreachable},
	{packet.ICMPv4TimeExceeded, 0, packet.ICMPv6TimeExceeded, 0},
}

func routerOf(a packet.Addr) netip.Addr {
	if a.Is4() {
		return packettest.Addr("192.0.2.7")
	}
	return packettest.Addr("2001:db8:7::7")
}

// errorAbout makes the i-th kind of error about a frame, from a router to the
// frame's sender, with as much of a quote as is allowed, or length bytes of its
// transport header.
func errorAbout(t testing.TB, frame []byte, i, length int, opts ...packettest.Option) []byte {
	t.Helper()
	var info packet.Info
	if r := packet.Parse(frame, &info); r != reason.None {
		t.Fatal(r)
	}
	k := errorKinds[i]
	typ, code := k.type4, k.code4
	if info.Kind == packet.KindIPv6 {
		typ, code = k.type6, k.code6
	}
	opts = append(opts, packettest.Rest(1400))
	if length > 0 {
		opts = append(opts, packettest.QuoteLen(int(info.L3Len)+length))
	}
	return packettest.ICMPError(routerOf(info.Src), info.Src.Netip(), typ, code, frame, opts...)
}

// quoted parses the packet that an error quotes.
func quoted(t testing.TB, frame []byte) (info packet.Info) {
	t.Helper()
	if err := packettest.Verify(frame); err != nil {
		t.Fatal(err)
	}
	if r := packet.Parse(frame, &info); r != reason.None {
		t.Fatal(r)
	}
	return info
}

// TestErrorsThroughNAT sends errors about the packets of both directions: each
// end gets them in terms of the addresses it knows.
func TestErrorsThroughNAT(t *testing.T) {
	for _, c := range []struct {
		service     testService
		client, vip string
	}{{web, "203.0.113.9:1234", "198.18.100.1:80"}, {web6, "[2001:db8:20::9]:1234", "[2001:db8:100::1]:80"}} {
		for kind := range errorKinds {
			for _, length := range []int{0, 8, 20} {
				t.Run(fmt.Sprint(c.vip, " kind ", kind, " quote ", length), func(t *testing.T) {
					n := newNode(t, c.service)
					sent, _ := n.one(0, fromClient(c.client, c.vip, packettest.Flags(syn)))
					forward := sent[1][0]
					sent, _ = n.one(1, reverse(forward))
					back := sent[0][0]

					sent, v := n.one(1, errorAbout(t, forward, kind, length))
					n.expect(v, reason.ICMPErrorForward)
					info := quoted(t, sent[0][0])
					if endpoint(info.Src, 0) != endpoint(packettestAddr(c.vip), 0) || endpoint(info.Inner.Src, info.Inner.SrcPort) != c.client || endpoint(info.Inner.Dst, info.Inner.DstPort) != c.vip {
						t.Errorf("the client is told %+v", info)
					}
					if packet.Ethernet(sent[0][0]).DstMAC() != clientMAC {
						t.Error("it does not go to the client's gateway")
					}

					var seen packet.Info
					packet.Parse(forward, &seen)
					sent, v = n.one(0, errorAbout(t, back, kind, length, packettest.MACs(ourMAC0, clientMAC)))
					n.expect(v, reason.ICMPErrorForward)
					info = quoted(t, sent[1][0])
					if info.Src != seen.Src || info.Dst != seen.Dst || info.Inner.Src != seen.Dst || info.Inner.SrcPort != seen.DstPort ||
						info.Inner.Dst != seen.Src || info.Inner.DstPort != seen.SrcPort {
						t.Errorf("the backend is told %+v", info)
					}
					n.expect(n.tcp(c.client, c.vip, ack), reason.ForwardFlow)
				})
			}
		}
	}
}

func packettestAddr(end string) packet.Addr {
	return packet.AddrFrom(packettest.AddrPort(end).Addr())
}

// TestErrorsWithDirectReply asserts that an error about what a backend sent in
// the VIP's name reaches that backend as it is, by the flow table or, where
// that knows nothing, by Maglev.
func TestErrorsWithDirectReply(t *testing.T) {
	for _, method := range []fib.Method{fib.MethodIPIP, fib.MethodGUE, fib.MethodL2} {
		for _, known := range []bool{true, false} {
			for _, length := range []int{0, 8} {
				t.Run(fmt.Sprint(method, " known ", known, " quote ", length), func(t *testing.T) {
					n := newNode(t, pooled(method, packet.ProtoTCP, nil))
					// Where the flow goes, in a node that keeps it apart.
					home, _ := newNode(t, pooled(method, packet.ProtoTCP, nil)).connect("203.0.113.9:1000", pooledVIP)
					if known {
						home, _ = n.connect("203.0.113.9:1000", pooledVIP)
						n.leave(home)
					}
					about := packettest.TCP(packettest.AddrPort(pooledVIP), packettest.AddrPort("203.0.113.9:1000"), packettest.Flags(ack), packettest.PayloadLen(100))
					frame := errorAbout(t, about, 0, length, packettest.MACs(ourMAC0, clientMAC))
					sent, v := n.one(0, frame)
					n.expect(v, reason.ICMPErrorForward)
					if v.Backend != home {
						t.Errorf("it goes to backend %d, the flow to %d", v.Backend, home)
					}
					inner := packettest.IPPacket(unwrap(t, v.Op, sent[1][0]))
					want := packettest.IPPacket(frame)
					if !bytes.Equal(inner[12:], want[12:]) || inner[8] != want[8]-1 {
						t.Errorf("the backend gets %x of %x", inner, want)
					}
				})
			}
		}
	}
}

// TestErrorsThatConcernNobody asserts what errors are not forwarded.
func TestErrorsThatConcernNobody(t *testing.T) {
	direct := pooled(fib.MethodL2, packet.ProtoUDP, nil)
	direct.vip = "198.18.100.2"
	n := newNode(t, pooled(fib.MethodNAT, packet.ProtoTCP, nil), direct)
	_, forward := n.connect("203.0.113.9:1000", pooledVIP)
	macs := packettest.MACs(ourMAC0, clientMAC)
	about := func(src, dst string) []byte {
		return packettest.UDP(packettest.AddrPort(src), packettest.AddrPort(dst), packettest.PayloadLen(44))
	}
	later := packettest.UDP(packettest.AddrPort("198.18.100.2:80"), packettest.AddrPort("203.0.113.9:1000"), packettest.Fragment(80, false, 3), packettest.PayloadLen(40))
	elsewhere := packettest.ICMPError(packettest.Addr("192.0.2.7"), packettest.Addr("198.18.100.2"), 3, 1, about("198.18.100.1:80", "203.0.113.9:1000"), macs)
	for name, c := range map[string]struct {
		port  int
		frame []byte
		want  reason.Reason
	}{
		"no flow with nat":            {0, errorAbout(t, about(pooledVIP, "203.0.113.9:7"), 0, 0, macs), reason.ICMPFlowNotFound},
		"no service":                  {0, errorAbout(t, about("198.18.100.2:81", "203.0.113.9:7"), 0, 0, macs), reason.ICMPFlowNotFound},
		"quotes what another sent":    {0, elsewhere, reason.ICMPFlowNotFound},
		"quotes a later fragment":     {0, errorAbout(t, later, 0, 0, macs), reason.ICMPFlowNotFound},
		"no flow at a SNAT address":   {1, errorAbout(t, about("198.18.10.200:5000", "198.18.10.11:80"), 1, 0), reason.ICMPFlowNotFound},
		"TTL has run out":             {1, errorAbout(t, forward, 1, 0, packettest.TTL(1)), reason.TTLExpired},
		"TTL has run out, to backend": {0, errorAbout(t, about("198.18.100.2:80", "203.0.113.9:7"), 1, 0, macs, packettest.TTL(1)), reason.TTLExpired},
		"is a fragment":               {0, errorAbout(t, about("198.18.100.2:80", "203.0.113.9:7"), 1, 0, macs, packettest.Fragment(0, true, 2)), reason.FragmentUnsupported},
		"redirect":                    {0, packettest.ICMP(packettest.Addr("192.0.2.7"), packettest.Addr("198.18.100.2"), 5, 1, macs, packettest.Payload(packettest.IPPacket(forward))), reason.ICMPUnsupported},
		"echo reply":                  {0, packettest.EchoReply(packettest.Addr("192.0.2.7"), packettest.Addr("198.18.100.2"), 1, 1, macs), reason.ICMPUnsupported},
		"timestamp":                   {0, packettest.ICMP(packettest.Addr("192.0.2.7"), packettest.Addr("198.18.100.2"), 13, 0, macs), reason.ICMPUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			sent, v := n.one(c.port, c.frame)
			n.expect(v, c.want)
			if len(sent[0])+len(sent[1]) != 0 {
				t.Error("something is sent")
			}
		})
	}
	// The service of a flow is gone.
	n.b.Matches, n.b.Services[1] = n.b.Matches[1:], fib.Service{}
	n.publish()
	_, v := n.one(1, errorAbout(t, forward, 1, 0))
	n.expect(v, reason.ICMPFlowNotFound)
}

// TestPing asserts that every address of ours answers pings, each one of a
// flood, and that those that must not be answered are not.
func TestPing(t *testing.T) {
	n := newNode(t, web, web6)
	macs := packettest.MACs(ourMAC0, clientMAC)
	client4, client6 := packettest.Addr("203.0.113.9"), packettest.Addr("2001:db8:20::9")
	for _, target := range []string{"198.18.100.1", "198.18.10.200", "2001:db8:100::1", "2001:db8:10::200"} {
		client := client4
		extra := []packettest.Option{macs, packettest.PayloadLen(56)}
		if packettest.Addr(target).Is6() {
			client = client6
		} else {
			extra = append(extra, packettest.IPOptions(7, 7, 4, 0, 0, 0, 0)) // record route
		}
		for i := range 500 {
			sent, v := n.one(0, packettest.Echo(client, packettest.Addr(target), 9, uint16(i), extra...))
			n.expect(v, reason.EchoReply)
			if err := packettest.Verify(sent[0][0]); err != nil {
				t.Fatal(err)
			}
			var info packet.Info
			packet.Parse(sent[0][0], &info)
			if info.Src.Netip() != packettest.Addr(target) || info.Dst.Netip() != client || info.SrcPort != 9 || packet.Ethernet(sent[0][0]).DstMAC() != clientMAC {
				t.Fatalf("the answer is %+v", info)
			}
		}
	}
	for i := range n.b.Locals {
		n.b.Locals[i].Flags |= fib.LocalNoPing
	}
	n.publish()
	_, v := n.one(0, packettest.Echo(client4, packettest.Addr("198.18.100.1"), 9, 1, macs))
	n.expect(v, reason.ICMPUnsupported)
}

// TestPingNotAnswered are pings that no single host sent, or not to us alone.
func TestPingNotAnswered(t *testing.T) {
	n := newNode(t, web)
	vip := packettest.Addr("198.18.100.1")
	for name, c := range map[string]struct {
		frame []byte
		want  reason.Reason
	}{
		"link broadcast":   {packettest.Echo(packettest.Addr("203.0.113.9"), vip, 1, 1, packettest.MACs([6]byte{255, 255, 255, 255, 255, 255}, clientMAC)), reason.LinkBroadcast},
		"from class E":     {packettest.Echo(packettest.Addr("240.0.0.1"), vip, 1, 1), reason.ICMPUnsupported},
		"from multicast":   {packettest.Echo(packettest.Addr("224.0.0.1"), vip, 1, 1), reason.SourceInvalid},
		"from loopback":    {packettest.Echo(packettest.Addr("127.0.0.1"), vip, 1, 1), reason.SourceInvalid},
		"a fragment":       {packettest.Echo(packettest.Addr("203.0.113.9"), vip, 1, 1, packettest.Fragment(0, true, 1), packettest.PayloadLen(56)), reason.FragmentUnsupported},
		"a later fragment": {packettest.Echo(packettest.Addr("203.0.113.9"), vip, 1, 1, packettest.Fragment(64, false, 1), packettest.PayloadLen(56)), reason.FragmentUnsupported},
		"checksum wrong":   {packettest.Echo(packettest.Addr("203.0.113.9"), vip, 1, 1, packettest.BadChecksum()), reason.ICMPChecksumWrong},
	} {
		t.Run(name, func(t *testing.T) {
			sent, v := n.one(0, c.frame)
			n.expect(v, c.want)
			if len(sent[0])+len(sent[1]) != 0 {
				t.Error("something is sent")
			}
		})
	}
}

// TestErrorTooBigForTheClient has an error that exceeds the MTU of the client's
// interface.
func TestErrorTooBigForTheClient(t *testing.T) {
	n := newNode(t, web6)
	sent, _ := n.one(0, fromClient("[2001:db8:20::9]:1234", "[2001:db8:100::1]:80", packettest.PayloadLen(1300)))
	n.b.Interfaces[0].MTU = 1280
	n.publish()
	frame := errorAbout(t, sent[1][0], 1, 1280)
	_, v := n.one(1, frame)
	if v.Action != reason.Drop || v.Reason != reason.TooBig || v.Op != dataplane.OpNone {
		t.Errorf("%+v %v", v, v.Reason)
	}
}
