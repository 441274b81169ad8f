package rewrite

import (
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
)

func TestMayReply(t *testing.T) {
	quoted4 := packettest.UDP(ap(vipEnd4), ap(clientEnd4))
	quoted6 := packettest.UDP(ap(vipEnd6), ap(clientEnd6))
	from := packettest.DefaultSrcMAC
	broadcast := packettest.MACs([6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, from)
	multicast := packettest.MACs([6]byte{0x01, 0, 0x5e, 0, 0, 1}, from)
	cases := []struct {
		name         string
		frame        []byte
		reply, reset bool
	}{
		{"TCP", packettest.TCP(ap(clientEnd4), ap(vipEnd4)), true, true},
		{"TCP, IPv6", packettest.TCP(ap(clientEnd6), ap(vipEnd6)), true, true},
		{"TCP reset", packettest.TCP(ap(clientEnd4), ap(vipEnd4), packettest.Flags(packet.TCPFlagRST)), true, false},
		{"TCP, first fragment", packettest.TCP(ap(clientEnd4), ap(vipEnd4), packettest.Fragment(0, true, 1), packettest.PayloadLen(44)), true, false},
		{"TCP, later fragment", packettest.TCP(ap(clientEnd4), ap(vipEnd4), packettest.Fragment(64, false, 1), packettest.PayloadLen(44)), false, false},
		{"TCP, atomic fragment", packettest.TCP(ap(clientEnd6), ap(vipEnd6), packettest.Fragment(0, false, 1)), true, true},
		{"UDP", packettest.UDP(ap(clientEnd4), ap(vipEnd4)), true, false},
		{"UDP, later fragment, IPv6", packettest.UDP(ap(clientEnd6), ap(vipEnd6), packettest.Fragment(64, true, 1), packettest.PayloadLen(64)), false, false},
		{"link-layer broadcast", packettest.TCP(ap(clientEnd4), ap(vipEnd4), broadcast), false, false},
		{"link-layer multicast", packettest.TCP(ap(clientEnd6), ap(vipEnd6), multicast), false, false},
		{"multicast destination", packettest.UDP(ap(clientEnd4), ap("224.0.0.251:5353")), false, false},
		{"multicast destination, IPv6", packettest.UDP(ap(clientEnd6), ap("[ff02::fb]:5353")), false, false},
		{"broadcast destination", packettest.UDP(ap(clientEnd4), ap("255.255.255.255:67")), false, false},
		{"class E source", packettest.UDP(ap("240.0.0.1:1"), ap(vipEnd4)), false, false},
		{"source in 0.0.0.0/8", packettest.UDP(ap("0.1.2.3:1"), ap(vipEnd4)), false, false},
		{"echo request", packettest.Echo(ip(client4), ip(vip4), 1, 1), true, false},
		{"echo request, IPv6", packettest.Echo(ip(client6), ip(vip6), 1, 1), true, false},
		{"echo reply", packettest.EchoReply(ip(client4), ip(vip4), 1, 1), true, false},
		{"timestamp request", packettest.ICMP(ip(client4), ip(vip4), 13, 0, packettest.PayloadLen(12)), true, false},
		{"ICMP type that nobody knows", packettest.ICMP(ip(client4), ip(vip4), 200, 0), false, false},
		{"ICMPv6 error type that nobody knows", packettest.ICMP(ip(client6), ip(vip6), 100, 0, packettest.PayloadLen(60)), false, false},
		{"ICMPv6 informational type that nobody knows", packettest.ICMP(ip(client6), ip(vip6), 200, 0), true, false},
		{"unreachable", packettest.ICMPError(ip(client4), ip(vip4), 3, 1, quoted4), false, false},
		{"source quench", packettest.ICMPError(ip(client4), ip(vip4), 4, 0, quoted4), false, false},
		{"redirect", packettest.ICMPError(ip(client4), ip(vip4), 5, 1, quoted4), false, false},
		{"time exceeded", packettest.ICMPError(ip(client4), ip(vip4), 11, 0, quoted4), false, false},
		{"parameter problem", packettest.ICMPError(ip(client4), ip(vip4), 12, 0, quoted4), false, false},
		{"packet too big, IPv6", packettest.ICMPError(ip(client6), ip(vip6), 2, 0, quoted6), false, false},
		{"redirect, IPv6", packettest.ICMP(ip(client6), ip(vip6), 137, 0, packettest.PayloadLen(32)), false, false},
		{"ARP", packettest.ARPRequest(ip(client4), ip(vip4), packettest.MACs(nodeMAC, from)), false, false},
		{"duplicate address detection", packettest.NeighborSolicit(ip("::"), ip(vip6)), false, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			info := parse(t, c.frame)
			if got := MayReply(c.frame, info); got != c.reply {
				t.Errorf("MayReply is %v, want %v", got, c.reply)
			}
			if got := MayReset(c.frame, info); got != c.reset {
				t.Errorf("MayReset is %v, want %v", got, c.reset)
			}
		})
	}
}

// Parse refuses such sources before MayReply is asked; it must not depend on
// that.
func TestSingleHost(t *testing.T) {
	for a, want := range map[string]bool{
		"192.0.2.1": true, "1.0.0.0": true, "223.255.255.255": true, "126.0.0.1": true, "128.0.0.1": true,
		"0.0.0.0": false, "0.255.0.1": false, "127.0.0.1": false, "224.0.0.1": false, "239.1.1.1": false, "255.255.255.255": false,
	} {
		if got := singleHost4(addr(a)); got != want {
			t.Errorf("%s: %v, want %v", a, got, want)
		}
	}
	for a, want := range map[string]bool{
		"2001:db8::1": true, "fe80::1": true, "::2": true, "::": false, "::1": false, "ff02::1": false, "ff0e::1": false,
	} {
		if got := singleHost6(addr(a)); got != want {
			t.Errorf("%s: %v, want %v", a, got, want)
		}
	}
}
