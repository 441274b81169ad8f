package dataplane_test

import (
	"testing"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/nic/nictest"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

var (
	web  = testService{vip: "198.18.100.1", proto: packet.ProtoTCP, port: 80, method: fib.MethodNAT, backends: []string{"198.18.10.11:8080", "198.18.10.12:8080", "198.18.10.13:8080"}}
	web6 = testService{vip: "2001:db8:100::1", proto: packet.ProtoTCP, port: 80, method: fib.MethodNAT, backends: []string{"[2001:db8:10::11]:8080", "[2001:db8:10::12]:8080"}}
)

func fromClient(src, dst string, opts ...packettest.Option) []byte {
	opts = append([]packettest.Option{packettest.MACs(ourMAC0, clientMAC)}, opts...)
	return packettest.TCP(packettest.AddrPort(src), packettest.AddrPort(dst), opts...)
}

// TestNATRoundTrip opens a connection through NAT and answers it, in both
// families.
func TestNATRoundTrip(t *testing.T) {
	for _, c := range []struct{ name, client, vip string }{
		{"IPv4", "203.0.113.9:1234", "198.18.100.1:80"},
		{"IPv6", "[2001:db8:20::9]:1234", "[2001:db8:100::1]:80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, web, web6)
			sent, v := n.one(0, fromClient(c.client, c.vip, packettest.Flags(packet.TCPFlagSYN)))
			if v.Action != reason.Transmit || v.Reason != reason.ForwardNew || len(sent[1]) != 1 {
				t.Fatalf("SYN: %+v, sent %d", v, len(sent[1]))
			}
			if err := packettest.Verify(sent[1][0]); err != nil {
				t.Fatal(err)
			}
			var fwd packet.Info
			if r := packet.Parse(sent[1][0], &fwd); r != reason.None {
				t.Fatal(r)
			}
			reply := packettest.TCP(
				packettest.AddrPort(endpoint(fwd.Dst, fwd.DstPort)), packettest.AddrPort(endpoint(fwd.Src, fwd.SrcPort)),
				packettest.MACs(ourMAC1, backendMAC), packettest.Flags(packet.TCPFlagSYN|packet.TCPFlagACK))
			sent, v = n.one(1, reply)
			if v.Action != reason.Transmit || v.Reason != reason.ReplyFlow || len(sent[0]) != 1 {
				t.Fatalf("SYN-ACK: %+v, sent %d", v, len(sent[0]))
			}
			if err := packettest.Verify(sent[0][0]); err != nil {
				t.Fatal(err)
			}
			var back packet.Info
			if r := packet.Parse(sent[0][0], &back); r != reason.None {
				t.Fatal(r)
			}
			if from, to := endpoint(back.Src, back.SrcPort), endpoint(back.Dst, back.DstPort); from != c.vip || to != c.client {
				t.Errorf("the client sees %s -> %s", from, to)
			}
			if packet.Ethernet(sent[0][0]).DstMAC() != clientMAC {
				t.Error("the reply does not go to the MAC the client's packet came from")
			}
			_, v = n.one(0, fromClient(c.client, c.vip, packettest.Flags(packet.TCPFlagACK)))
			if v.Reason != reason.ForwardFlow {
				t.Errorf("ACK: %+v", v)
			}
		})
	}
}

// TestNoAllocation asserts that no method and no verdict allocates.
func TestNoAllocation(t *testing.T) {
	methods := map[string]testService{
		"nat": web, "nat6": web6,
		"ipip":  {vip: "198.18.100.2", proto: packet.ProtoTCP, port: 80, method: fib.MethodIPIP, backends: []string{"198.18.10.11:80"}},
		"ipip6": {vip: "198.18.100.3", proto: packet.ProtoTCP, port: 80, method: fib.MethodIPIP, backends: []string{"[2001:db8:10::11]:80"}},
		"gue":   {vip: "198.18.100.4", proto: packet.ProtoTCP, port: 80, method: fib.MethodGUE, backends: []string{"198.18.10.11:80"}},
		"gue6":  {vip: "2001:db8:100::4", proto: packet.ProtoTCP, port: 80, method: fib.MethodGUE, backends: []string{"[2001:db8:10::11]:80"}},
		"l2":    {vip: "198.18.100.5", proto: packet.ProtoTCP, port: 80, method: fib.MethodL2, backends: []string{"198.18.10.11:80"}},
		"empty": {vip: "198.18.100.6", proto: packet.ProtoTCP, port: 80, method: fib.MethodL2},
	}
	for name, svc := range methods {
		t.Run(name, func(t *testing.T) {
			n := newNodeWith(t, nictest.Config{Wire: func([]byte) {}}, svc)
			n.quiet = true
			vip, client, stranger := svc.vip+":80", "203.0.113.9:1234", "192.0.2.1:80"
			if name == "nat6" || name == "gue6" {
				vip, client = "["+svc.vip+"]:80", "[2001:db8:20::9]:1234"
				stranger = "[2001:db8:ffff::1]:80"
			}
			frames := [][]byte{
				fromClient(client, vip, packettest.Flags(packet.TCPFlagSYN)),
				fromClient(client, vip, packettest.Flags(packet.TCPFlagACK), packettest.PayloadLen(700)),
				fromClient(client, vip, packettest.Flags(packet.TCPFlagACK), packettest.TTL(1)),
				fromClient(client, vip, packettest.BadChecksum()),
				fromClient(client, stranger),
			}
			if allocs := testing.AllocsPerRun(100, func() {
				for _, f := range frames {
					n.queues[0].Inject(f)
				}
				for n.worker.Step() > 0 {
				}
			}); allocs != 0 {
				t.Errorf("%v allocations", allocs)
			}
		})
	}
}
