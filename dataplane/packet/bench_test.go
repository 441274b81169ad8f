package packet_test

import (
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

func BenchmarkParse(b *testing.B) {
	frames := []struct {
		name  string
		frame []byte
	}{
		{"udp4", packettest.UDP(client4, vip4, packettest.PayloadLen(18))},
		{"tcp4", packettest.TCP(client4, vip4, packettest.Flags(packet.TCPFlagACK))},
		{"udp6", packettest.UDP(client6, vip6, packettest.PayloadLen(18))},
		{"tcp6", packettest.TCP(client6, vip6, packettest.Flags(packet.TCPFlagACK))},
		{"tcp4-vlan", packettest.TCP(client4, vip4, packettest.VLAN(7))},
		{"tcp4-options", packettest.TCP(client4, vip4, packettest.IPOptions(1, 1, 1, 1))},
		{"udp4-fragment", packettest.UDP(client4, vip4, packettest.Fragment(1480, true, 7), packettest.PayloadLen(64))},
		{"udp6-extensions", packettest.UDP(client6, vip6, packettest.HopByHop(1), packettest.DestOpts(1))},
		{"echo4-64", packettest.Echo(client4.Addr(), vip4.Addr(), 1, 1, packettest.PayloadLen(56))},
		{"error4", packettest.ICMPError(client4.Addr(), vip4.Addr(), 3, 4, packettest.TCP(vip4, client4))},
	}
	for _, f := range frames {
		b.Run(f.name, func(b *testing.B) {
			var info packet.Info
			for b.Loop() {
				if r := packet.Parse(f.frame, &info); r != reason.None {
					b.Fatal(r)
				}
			}
		})
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []struct {
		name string
		size int
	}{{"20", 20}, {"64", 64}, {"1500", 1500}} {
		data := make([]byte, n.size)
		b.Run(n.name, func(b *testing.B) {
			b.SetBytes(int64(n.size))
			for b.Loop() {
				packet.Sum(data, 0)
			}
		})
	}
}
