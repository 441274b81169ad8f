package rewrite

import (
	"bytes"
	"fmt"
	"testing"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

const (
	tunnel4, tunnel6 = "198.18.0.30", "2001:db8::30"
	testEntropy      = 0x12345678
	testLabel        = 0x45678
	outerTTL         = 63
	outerID          = 0xbeef
)

func outerArgs(src, dst string) OuterArgs {
	return OuterArgs{Src: addr(src), Dst: addr(dst), DstMAC: nextHopMAC, SrcMAC: nodeMAC,
		Entropy: testEntropy, ID: outerID, TTL: outerTTL}
}

func ipip(src, dst string) func(*Buf, *packet.Info) reason.Reason {
	return func(b *Buf, info *packet.Info) reason.Reason {
		outer := outerArgs(src, dst)
		return IPIP(b, info, &outer)
	}
}

func gue(src, dst string, zeroUDP6 bool) func(*Buf, *packet.Info) reason.Reason {
	return func(b *Buf, info *packet.Info) reason.Reason {
		outer := GUEArgs{OuterArgs: outerArgs(src, dst), SrcPort: 50000, DstPort: packet.GUEPort, ZeroUDP6: zeroUDP6}
		return GUE(b, info, &outer)
	}
}

func TestIPIP(t *testing.T) {
	to4, to6 := ipip(tunnel4, backend4), ipip(tunnel6, backend6)
	outer := packettest.Join(packettest.MACs(nextHopMAC, nodeMAC), packettest.TTL(outerTTL), packettest.FlowLabel(testLabel))
	encapsulate := func(src, dst string, inner []byte, opts ...packettest.Option) []byte {
		return packettest.Encapsulate(ip(src), ip(dst), inner, append([]packettest.Option{outer}, opts...)...)
	}
	tcp4 := packettest.TCP(ap(clientEnd4), ap(vipEnd4), packettest.DF(), packettest.PayloadLen(100))
	tcp6 := packettest.TCP(ap(clientEnd6), ap(vipEnd6), packettest.PayloadLen(100))
	udp4 := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.ID(77), packettest.PayloadLen(1400))
	marked4 := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.DF(), packettest.TOS(0xb8|packet.ECNCE))
	marked6 := packettest.UDP(ap(clientEnd6), ap(vipEnd6), packettest.TOS(0x28|packet.ECNECT0), packettest.FlowLabel(9))
	tagged4 := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.DF(), packettest.VLAN(0x6005))
	tagged6 := packettest.UDP(ap(clientEnd6), ap(vipEnd6), packettest.VLAN(7, 0xe008))
	padded := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.DF(), packettest.Trailer(18))
	fragment := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.Fragment(1480, true, 77), packettest.PayloadLen(64))
	runGolden(t, []golden{
		{name: "4in4", in: tcp4, do: to4, out: encapsulate(tunnel4, backend4, tcp4, packettest.DF())},
		{name: "6in6", in: tcp6, do: to6, out: encapsulate(tunnel6, backend6, tcp6)},
		{name: "4in6", in: tcp4, do: to6, out: encapsulate(tunnel6, backend6, tcp4)},
		{name: "6in4", in: tcp6, do: to4, out: encapsulate(tunnel4, backend4, tcp6, packettest.DF())},
		{name: "4in4, may be fragmented: an identification of its own",
			in: udp4, do: to4, out: encapsulate(tunnel4, backend4, udp4, packettest.ID(outerID))},
		{name: "4in6, may be fragmented: nothing to say in IPv6",
			in: udp4, do: to6, out: encapsulate(tunnel6, backend6, udp4)},
		{name: "4in4, DSCP and congestion experienced copied",
			in: marked4, do: to4, out: encapsulate(tunnel4, backend4, marked4, packettest.DF(), packettest.TOS(0xbb))},
		{name: "6in6, traffic class copied, flow label not",
			in: marked6, do: to6, out: encapsulate(tunnel6, backend6, marked6, packettest.TOS(0x2a))},
		{name: "4in6, traffic class", in: marked4, do: to6, out: encapsulate(tunnel6, backend6, marked4, packettest.TOS(0xbb))},
		{name: "6in4, TOS", in: marked6, do: to4, out: encapsulate(tunnel4, backend4, marked6, packettest.DF(), packettest.TOS(0x2a))},
		{name: "4in6, one VLAN tag moved forward",
			in: tagged4, do: to6, out: encapsulate(tunnel6, backend6, tagged4, packettest.VLAN(0x6005))},
		{name: "6in4, two VLAN tags moved forward",
			in: tagged6, do: to4, out: encapsulate(tunnel4, backend4, tagged6, packettest.DF(), packettest.VLAN(7, 0xe008))},
		{name: "4in4, padding cut off", in: padded, do: to4, out: encapsulate(tunnel4, backend4, padded, packettest.DF())},
		{name: "4in4, a fragment", in: fragment, do: to4, out: encapsulate(tunnel4, backend4, fragment, packettest.ID(outerID))},
		{name: "outer addresses of two families", in: tcp4, do: ipip(tunnel6, backend4), want: reason.FamilyMismatch},
	})
}

func TestGUE(t *testing.T) {
	to4, to6 := gue(tunnel4, backend4, false), gue(tunnel6, backend6, false)
	from4, from6 := ap(tunnel4+":50000"), ap("["+tunnel6+"]:50000")
	at4, at6 := ap(backend4+":6080"), ap("["+backend6+"]:6080")
	outer := packettest.Join(packettest.MACs(nextHopMAC, nodeMAC), packettest.TTL(outerTTL), packettest.FlowLabel(testLabel))
	df, none := packettest.DF(), packettest.NoUDPChecksum()
	tcp4 := packettest.TCP(ap(clientEnd4), ap(vipEnd4), df, packettest.PayloadLen(101))
	tcp6 := packettest.TCP(ap(clientEnd6), ap(vipEnd6), packettest.PayloadLen(101))
	udp4 := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.TOS(0x03), packettest.Trailer(5))
	tagged6 := packettest.UDP(ap(clientEnd6), ap(vipEnd6), packettest.VLAN(7, 8))
	runGolden(t, []golden{
		{name: "4 in 4", in: tcp4, do: to4, out: packettest.EncapsulateGUE(from4, at4, tcp4, outer, df, none)},
		{name: "6 in 4", in: tcp6, do: to4, out: packettest.EncapsulateGUE(from4, at4, tcp6, outer, df, none)},
		{name: "4 in 6, checksum computed", in: tcp4, do: to6, out: packettest.EncapsulateGUE(from6, at6, tcp4, outer)},
		{name: "6 in 6, checksum computed", in: tcp6, do: to6, out: packettest.EncapsulateGUE(from6, at6, tcp6, outer)},
		{name: "6 in 6, checksum left out", in: tcp6, do: gue(tunnel6, backend6, true),
			out: packettest.EncapsulateGUE(from6, at6, tcp6, outer, none), unverified: true},
		{name: "4 in 4, may be fragmented, TOS, padding cut off", in: udp4, do: to4,
			out: packettest.EncapsulateGUE(from4, at4, udp4, outer, none, packettest.TOS(0x03), packettest.ID(outerID))},
		{name: "6 in 6, two VLAN tags", in: tagged6, do: to6,
			out: packettest.EncapsulateGUE(from6, at6, tagged6, outer, packettest.VLAN(7, 8))},
		{name: "outer addresses of two families", in: tcp4, do: gue(tunnel4, backend6, false), want: reason.FamilyMismatch},
	})
}

// A tunnel takes exactly Overhead bytes of headroom; with one less the frame
// stays as it is.
func TestTunnelHeadroom(t *testing.T) {
	frame := packettest.TCP(ap(clientEnd4), ap(vipEnd4), packettest.VLAN(5))
	cases := []struct {
		name     string
		do       func(*Buf, *packet.Info) reason.Reason
		overhead int
	}{
		{"IPIP over IPv4", ipip(tunnel4, backend4), Overhead(fib.MethodIPIP, false)},
		{"IPIP over IPv6", ipip(tunnel6, backend6), Overhead(fib.MethodIPIP, true)},
		{"GUE over IPv4", gue(tunnel4, backend4, false), Overhead(fib.MethodGUE, false)},
		{"GUE over IPv6", gue(tunnel6, backend6, false), Overhead(fib.MethodGUE, true)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			info := parse(t, frame)
			chunk := append(make([]byte, c.overhead), frame...)
			b := &Buf{Chunk: chunk, Start: c.overhead, End: len(chunk)}
			if r := c.do(b, info); r != reason.None {
				t.Fatalf("with just enough headroom: %v", r)
			}
			if b.Start != 0 || b.Len() != len(frame)+c.overhead {
				t.Errorf("frame is at %d with %d bytes, want 0 and %d", b.Start, b.Len(), len(frame)+c.overhead)
			}
			verify(t, b.Frame())

			chunk = append(make([]byte, c.overhead-1), frame...)
			b = &Buf{Chunk: chunk, Start: c.overhead - 1, End: len(chunk)}
			if r := c.do(b, info); r != reason.HeadroomExhausted {
				t.Fatalf("with one byte less: %v, want %v", r, reason.HeadroomExhausted)
			}
			if b.Start != c.overhead-1 || !bytes.Equal(b.Frame(), frame) {
				t.Error("the frame was changed")
			}
		})
	}
}

// A packet that is as long as IP can say has no room for outer headers.
func TestTunnelTooBig(t *testing.T) {
	for _, size := range []struct {
		payload int
		want    reason.Reason
	}{{65535 - 28 - 20, reason.None}, {65535 - 28 - 19, reason.TooBig}} {
		t.Run(fmt.Sprintf("UDP payload of %d", size.payload), func(t *testing.T) {
			frame := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.PayloadLen(size.payload))
			chunk := append(make([]byte, testHeadroom), frame...)
			b := &Buf{Chunk: chunk, Start: testHeadroom, End: len(chunk)}
			info := parse(t, frame)
			if r := ipip(tunnel4, backend4)(b, info); r != size.want {
				t.Errorf("reason is %v, want %v", r, size.want)
			}
		})
	}
}

func TestOverhead(t *testing.T) {
	cases := []struct {
		method fib.Method
		is6    bool
		want   int
	}{
		{fib.MethodNAT, false, 0}, {fib.MethodNAT, true, 0},
		{fib.MethodL2, false, 0}, {fib.MethodL2, true, 0},
		{fib.MethodIPIP, false, 20}, {fib.MethodIPIP, true, 40},
		{fib.MethodGUE, false, 32}, {fib.MethodGUE, true, 52},
	}
	for _, c := range cases {
		if got := Overhead(c.method, c.is6); got != c.want {
			t.Errorf("Overhead(%v, %v) = %d, want %d", c.method, c.is6, got, c.want)
		}
	}
}

func TestGUESourcePort(t *testing.T) {
	seen := map[uint16]bool{}
	for i := range uint32(1 << 20) {
		port := GUESourcePort(i * 2654435761)
		if port < 49152 {
			t.Fatalf("port %d is not a dynamic port", port)
		}
		seen[port] = true
	}
	if len(seen) != 16384 {
		t.Errorf("%d ports are used, want all 16384", len(seen))
	}
}

// A flow label of 0 would say that there is none.
func TestFlowLabelIsNeverZero(t *testing.T) {
	for entropy, want := range map[uint32]uint32{0: 1, 0xfff00000: 1, 0xffffffff: 0xfffff, testEntropy: testLabel} {
		if got := flowLabel(entropy); got != want {
			t.Errorf("flowLabel(%#x) = %#x, want %#x", entropy, got, want)
		}
	}
}
