package packettest

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	client4, vip4 = AddrPort("192.0.2.1:40000"), AddrPort("198.18.0.10:80")
	client6, vip6 = AddrPort("[2001:db8::1]:40000"), AddrPort("[2001:db8:10::10]:80")
)

// samples is one frame of each kind that the builders make, in both families.
func samples() map[string][]byte {
	out := map[string][]byte{
		"arp request":   ARPRequest(Addr("192.0.2.1"), Addr("198.18.0.10")),
		"arp reply":     ARPReply(Addr("198.18.0.10"), Addr("192.0.2.1")),
		"solicitation":  NeighborSolicit(client6.Addr(), vip6.Addr()),
		"dad":           NeighborSolicit(netip.IPv6Unspecified(), vip6.Addr()),
		"advertisement": NeighborAdvert(client6.Addr(), vip6.Addr()),
		"v4 options":    TCP(client4, vip4, IPOptions(0x94, 4, 0, 0, 1)),
		"v6 chain":      UDP(client6, vip6, HopByHop(1), Routing(), DestOpts(40), AH(), PayloadLen(9)),
		"v6 atomic":     UDP(client6, vip6, Fragment(0, false, 7), PayloadLen(9)),
		"v4 last":       UDP(client4, vip4, Fragment(1480, false, 7), PayloadLen(9)),
		"v4 no check":   UDP(client4, vip4, NoUDPChecksum(), PayloadLen(9)),
	}
	for family, ends := range map[string][2]netip.AddrPort{"v4 ": {client4, vip4}, "v6 ": {client6, vip6}} {
		a, b := ends[0], ends[1]
		tcp := TCP(a, b, MSS(1460), PayloadLen(33), VLAN(5))
		out[family+"tcp"] = tcp
		out[family+"udp"] = UDP(a, b, PayloadLen(1), VLAN(5, 6), TOS(0xb9))
		out[family+"sctp"] = SCTP(a, b, PayloadLen(16), Trailer(5))
		out[family+"echo"] = Echo(a.Addr(), b.Addr(), 77, 1, PayloadLen(56))
		out[family+"error"] = ICMPError(b.Addr(), a.Addr(), 3, 1, tcp)
		out[family+"ipip"] = Encapsulate(b.Addr(), a.Addr(), tcp)
		out[family+"gue"] = EncapsulateGUE(b, netip.AddrPortFrom(a.Addr(), 6080), tcp)
	}
	return out
}

func TestBuiltFramesVerify(t *testing.T) {
	for name, frame := range samples() {
		if err := Verify(frame, 6080); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every byte that a checksum or a decoder covers is watched: flipping one bit
// anywhere in the IP packet of a frame must show. What no checksum covers in
// IPv6 is left out.
func TestVerifySeesEveryFlippedBit(t *testing.T) {
	for _, name := range []string{"v4 tcp", "v4 sctp", "v4 echo", "v4 error", "v4 gue", "v4 ipip"} {
		frame := samples()[name]
		l3, _, err := linkLayer(frame)
		if err != nil {
			t.Fatal(err)
		}
		end := l3 + len(IPPacket(frame))
		for bit := l3 * 8; bit < end*8; bit++ {
			bad := bytes.Clone(frame)
			bad[bit/8] ^= 0x80 >> (bit % 8)
			if Verify(bad, 6080) == nil {
				t.Errorf("%s: bit %d of byte %d flipped (%#02x), and it verifies", name, bit%8, bit/8-l3, frame[bit/8])
			}
		}
	}
}

func TestVerifyMessages(t *testing.T) {
	cut := func(frame []byte, n int) []byte { return frame[:len(frame)-n] }
	tests := []struct {
		name  string
		frame []byte
		want  string
	}{
		{"short", make([]byte, 13), "ethernet: Ethernet packet too small"},
		{"v4 checksum", TCP(client4, vip4, BadIPChecksum()), "ipv4: header checksum 0xa7e7, want 0xf2b2"},
		{"v4 cut", cut(TCP(client4, vip4), 1), "ipv4: total length 40, header 20, present 39"},
		{"tcp checksum", TCP(client4, vip4, BadChecksum()), "tcp: checksum 0xd219, want 0x874c"},
		{"udp checksum", UDP(client6, vip6, BadChecksum()), "udp: checksum 0x52ee, want 0x07bb"},
		{"udp length", UDP(client4, vip4, UDPLength(9)), "udp: length 9, present 8"},
		{"udp6 zero", UDP(client6, vip6, NoUDPChecksum()), "udp: no checksum in IPv6"},
		{"sctp checksum", SCTP(client4, vip4, BadChecksum()), "sctp: checksum 0x8f1b8bc2, want 0x8f1bde97"},
		{"icmp checksum", Echo(client4.Addr(), vip4.Addr(), 1, 1, BadChecksum()), "icmp: checksum 0xa2a8, want 0xf7fd"},
		{"v6 cut", cut(TCP(client6, vip6), 1), "ipv6: payload length 20, present 19"},
		{"ndp hops", NeighborSolicit(client6.Addr(), vip6.Addr(), TTL(64)), "ndp: hop limit 64, want 255"},
		{"tunnel slack", IP(client4.Addr(), vip4.Addr(), 4, append(IPPacket(TCP(client4, vip4)), 0)),
			"in tunnel: ip: tunnel carries 41 bytes, the packet in it has 40"},
		{"tunnel inner", Encapsulate(client6.Addr(), vip6.Addr(), TCP(client4, vip4, BadChecksum())),
			"in tunnel: tcp: checksum 0xd219, want 0x874c"},
		{"gue proto", UDP(client4, AddrPort("198.18.0.10:6080"), Payload([]byte{0, 6, 0, 0})), "in gue: protocol 6, want 4 or 41"},
		{"fragment length", UDP(client4, vip4, Fragment(8, true, 1), PayloadLen(9)), "ip: fragment of 9 bytes with more to come"},
	}
	for _, tt := range tests {
		if err := Verify(tt.frame, 6080); err == nil || err.Error() != tt.want {
			t.Errorf("%s:\n got %v\nwant %s", tt.name, err, tt.want)
		}
	}
}

func TestVerifyQuote(t *testing.T) {
	for name, bad := range map[string]bool{"whole": false, "bad": true} {
		opts := []Option{PayloadLen(100)}
		if bad {
			opts = append(opts, BadIPChecksum())
		}
		quoted := TCP(vip4, client4, opts...)
		for _, n := range []int{28, 40, 1000} {
			frame := ICMPError(client4.Addr(), vip4.Addr(), 3, 3, quoted, QuoteLen(n))
			if err := VerifyQuote(frame); (err != nil) != bad {
				t.Errorf("%s, %d bytes quoted: %v", name, n, err)
			}
		}
	}
	frame := ICMPError(client4.Addr(), vip4.Addr(), 3, 3, TCP(vip4, client4, BadChecksum()))
	if err := VerifyQuote(frame); err == nil {
		t.Error("a wrong TCP checksum in a whole quote verifies")
	}
}

func TestDecapsulate(t *testing.T) {
	inner := TCP(client4, vip4, PayloadLen(10), Trailer(6))
	for name, frame := range map[string][]byte{
		"ipip": Encapsulate(vip6.Addr(), client6.Addr(), inner),
		"gue":  EncapsulateGUE(vip6, AddrPort("[2001:db8::2]:6080"), inner),
	} {
		got, err := Decapsulate(frame, 6080)
		if err != nil || !bytes.Equal(got, IPPacket(inner)) {
			t.Errorf("%s: %x, %v; want %x", name, got, err, IPPacket(inner))
		}
	}
	if _, err := Decapsulate(inner, 6080); err == nil || err.Error() != "ip: protocol 6 is no tunnel" {
		t.Errorf("plain TCP: %v", err)
	}
}

func TestFragmentsHoldThePacket(t *testing.T) {
	for name, frame := range map[string][]byte{
		"v4": UDP(client4, vip4, PayloadLen(3000)),
		"v6": UDP(client6, vip6, PayloadLen(3000)),
	} {
		var payload []byte
		for i, f := range Fragments(frame, 1280, 9) {
			if err := Verify(f); err != nil {
				t.Errorf("%s fragment %d: %v", name, i, err)
			}
			p := IPPacket(f)
			if len(p) > 1280 {
				t.Errorf("%s fragment %d has %d bytes", name, i, len(p))
			}
			if p[0]>>4 == 4 {
				payload = append(payload, p[20:]...)
			} else {
				payload = append(payload, p[48:]...)
			}
		}
		whole := IPPacket(frame)
		if whole = whole[20:]; name == "v6" {
			whole = whole[20:]
		}
		if !bytes.Equal(payload, whole) {
			t.Errorf("%s: fragments carry %d bytes, the packet %d", name, len(payload), len(whole))
		}
	}
}

func TestRandomFramesVerify(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		frame := RandomFrame(r)
		if err := Verify(frame, 6080); err != nil {
			t.Fatalf("%v\n%x", err, frame)
		}
	}
}

// gopacket computes checksums too: a third implementation, which must agree
// with what the builders and Verify compute.
func TestChecksumsAgreeWithGopacket(t *testing.T) {
	for name, frame := range samples() {
		p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
		mismatches, err := gopacketChecksums(p)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, m := range mismatches {
			t.Errorf("%s: layer %d: %+v", name, m.LayerIndex, m.ChecksumVerificationResult)
		}
	}
	// The comparison is worth nothing unless it can fail.
	p := gopacket.NewPacket(TCP(client4, vip4, BadChecksum()), layers.LayerTypeEthernet, gopacket.Default)
	if mismatches, err := gopacketChecksums(p); err != nil || len(mismatches) != 1 {
		t.Errorf("a wrong TCP checksum: %v, %v", mismatches, err)
	}
}

func TestSCTPChecksumAgreesWithStandardLibrary(t *testing.T) {
	sctp := IPPacket(SCTP(client4, vip4, PayloadLen(100)))[20:]
	zeroed := bytes.Clone(sctp)
	clear(zeroed[8:12])
	want := crc32.Checksum(zeroed, crc32.MakeTable(crc32.Castagnoli))
	if got := binary.LittleEndian.Uint32(sctp[8:]); got != want {
		t.Errorf("checksum %#08x, want %#08x", got, want)
	}
}

// gopacketChecksums tells each transport layer which network layer is below it
// and has gopacket verify all checksums.
func gopacketChecksums(p gopacket.Packet) ([]gopacket.ChecksumMismatch, error) {
	var network gopacket.NetworkLayer
	for _, layer := range p.Layers() {
		if n, ok := layer.(gopacket.NetworkLayer); ok {
			network = n
		}
		if l, ok := layer.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok && network != nil {
			if err := l.SetNetworkLayerForChecksum(network); err != nil {
				return nil, err
			}
		}
	}
	err, mismatches := p.VerifyChecksums()
	return mismatches, err
}
