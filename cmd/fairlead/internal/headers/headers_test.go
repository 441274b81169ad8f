package headers

import (
	"math/rand/v2"
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
)

var (
	client = packettest.AddrPort("203.0.113.7:4711")
	vip    = packettest.AddrPort("198.18.0.10:80")
	six    = packettest.AddrPort("[2001:db8::7]:4711")
	vip6   = packettest.AddrPort("[2001:db8:10::1]:53")
	macs   = packettest.MACs([6]byte{2, 0, 0, 0, 0, 1}, [6]byte{2, 0, 0, 0, 0, 2})
)

func samples() map[string][]byte {
	tcp := packettest.TCP(client, vip, macs, packettest.Flags(packet.TCPFlagSYN|packet.TCPFlagFIN), packettest.Seq(17))
	broken := append([]byte(nil), tcp...)
	broken[14] = 0x35
	return map[string][]byte{
		"203.0.113.7:4711 > 198.18.0.10:80 tcp [FS] seq 17 win 65535 (ttl 64, length 40)":               tcp,
		"203.0.113.7 > 198.18.0.10 tcp header cut short (ttl 64, length 40)":                            tcp[:40],
		"203.0.113.7:4711 > 198.18.0.10:80 tcp [FS] seq 17 win 65535 (version 3, ttl 64, length 40)":    broken,
		"ipv4 header of 6 bytes, cut short":                                                             tcp[:20],
		"10 bytes, too short for Ethernet":                                                              tcp[:10],
		"203.0.113.7:4711 > 198.18.0.10:80 tcp [none] seq 0 win 65535 (ttl 64, length 40)":              packettest.TCP(client, vip, macs, packettest.Flags(0), packettest.Seq(0)),
		"vlan 7 [2001:db8::7]:4711 > [2001:db8:10::1]:53 udp length 12 (hop limit 64, length 52)":       packettest.UDP(six, vip6, macs, packettest.VLAN(7), packettest.PayloadLen(4)),
		"203.0.113.7 > 198.18.0.10 protocol 17 (fragment 80 of id 5, ttl 64, length 36)":                packettest.UDP(client, vip, macs, packettest.Fragment(80, false, 5), packettest.PayloadLen(16)),
		"203.0.113.7:4711 > 198.18.0.10:80 udp length 24 (fragment 0 of id 5+, ttl 64, length 44)":      packettest.UDP(client, vip, macs, packettest.Fragment(0, true, 5), packettest.PayloadLen(16)),
		"203.0.113.7 > 198.18.0.10 protocol 47 (ttl 64, length 24)":                                     packettest.IP(client.Addr(), vip.Addr(), 47, make([]byte, 4), macs),
		"203.0.113.7 > 198.18.0.10 icmp type 8 code 0 (ttl 64, length 28)":                              packettest.Echo(client.Addr(), vip.Addr(), 1, 1, macs),
		"to group 01:00:5e:00:00:01 203.0.113.7:4711 > 198.18.0.10:80 udp length 8 (ttl 64, length 28)": packettest.UDP(client, vip, packettest.MACs([6]byte{1, 0, 0x5e, 0, 0, 1}, [6]byte{2, 0, 0, 0, 0, 2})),
		"02:00:00:00:00:02 > 02:00:00:00:00:01 ethertype 0x88cc":                                        append(append([]byte(nil), tcp[:12]...), 0x88, 0xcc),
	}
}

// TestLines is what frames of all kinds look like.
func TestLines(t *testing.T) {
	for want, frame := range samples() {
		if got := Line(frame); got != want {
			t.Errorf("%q\nwant %q", got, want)
		}
	}
}

// TestAnything reads frames that are cut short anywhere, and random ones.
func TestAnything(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, frame := range samples() {
		for n := range frame {
			if Line(frame[:n]) == "" {
				t.Errorf("nothing is said of %x", frame[:n])
			}
		}
		for range 2000 {
			changed := append([]byte(nil), frame...)
			for range 1 + rnd.IntN(4) {
				changed[rnd.IntN(len(changed))] = byte(rnd.Uint32())
			}
			Line(changed)
		}
	}
}
