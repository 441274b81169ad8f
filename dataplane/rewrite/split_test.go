package rewrite

import (
	"bytes"
	"fmt"
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
)

func TestSplit4(t *testing.T) {
	udp := func(opts ...packettest.Option) []byte { return packettest.UDP(ap(clientEnd4), ap(vipEnd4), opts...) }
	whole := udp(packettest.ID(9), packettest.TOS(0xb9), packettest.VLAN(5), packettest.PayloadLen(1472), packettest.Trailer(7))
	middle := udp(packettest.Fragment(1480, true, 9), packettest.PayloadLen(1400))
	last := udp(packettest.Fragment(2960, false, 9), packettest.PayloadLen(1001))
	piece := func(offset int, more bool, from, to int) []byte {
		payload := make([]byte, 0, 1500)
		for i := from; i < to; i++ {
			payload = append(payload, byte(i%251))
		}
		return packettest.IP(ip(client4), ip(vip4), packet.ProtoUDP, payload, packettest.Fragment(offset, more, 9))
	}
	cases := []struct {
		name          string
		in            []byte
		mtu           int
		first, second []byte
	}{
		{"a whole packet, as packettest cuts it", whole, 1300,
			packettest.Fragments(whole, 1300, 0)[0], packettest.Fragments(whole, 1300, 0)[1]},
		{"the MTU is used as far as units of eight allow", whole, 1299,
			packettest.Fragments(whole, 1299, 0)[0], packettest.Fragments(whole, 1299, 0)[1]},
		{"a fragment in the middle", middle, 820, piece(1480, true, 0, 800), piece(2280, true, 800, 1400)},
		{"the last fragment", last, 1020, piece(2960, true, 0, 1000), piece(3960, false, 1000, 1001)},
		{"the smallest MTU", last, 28, piece(2960, true, 0, 8), piece(2968, false, 8, 1001)},
		{"one byte too long", last, 1020, piece(2960, true, 0, 1000), piece(3960, false, 1000, 1001)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			frame, second := bytes.Clone(c.in), make([]byte, 2048)
			n1, n2, ok := Split4(frame, parse(t, frame), c.mtu, second)
			if !ok {
				t.Fatal("not split")
			}
			if !bytes.Equal(frame[:n1], c.first) {
				t.Errorf("first is\n%x, want\n%x", frame[:n1], c.first)
			}
			if !bytes.Equal(second[:n2], c.second) {
				t.Errorf("second is\n%x, want\n%x", second[:n2], c.second)
			}
			verify(t, frame[:n1])
			verify(t, second[:n2])
		})
	}
}

// Options with the copy flag are in every fragment, others in the first alone
// (RFC 791 section 3.1).
func TestSplit4Options(t *testing.T) {
	cases := []struct {
		name            string
		options, second []byte
	}{
		{"record route is not copied", []byte{7, 7, 4, 0, 0, 0, 0}, nil},
		{"router alert is copied", []byte{148, 4, 0, 0}, []byte{148, 4, 0, 0}},
		{"security among others", []byte{1, 130, 5, 1, 2, 3, 7, 3, 4}, []byte{130, 5, 1, 2, 3}},
		{"two that are copied lie closer then", []byte{148, 4, 0, 0, 1, 1, 1, 130, 3, 9}, []byte{148, 4, 0, 0, 130, 3, 9}},
		{"nothing behind the end of the list", []byte{1, 0, 148, 4, 0, 0}, nil},
		{"as many as fit", bytes.Repeat([]byte{148, 4, 0, 0}, 10), bytes.Repeat([]byte{148, 4, 0, 0}, 10)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			frame := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.ID(9), packettest.IPOptions(c.options...), packettest.PayloadLen(792))
			payload := frame[14+int(frame[14]&15)*4:]
			want := packettest.IP(ip(client4), ip(vip4), packet.ProtoUDP, payload[400:], packettest.Fragment(400, false, 9), packettest.IPOptions(c.second...))
			mtu := int(frame[14]&15)*4 + 400
			second := bytes.Repeat([]byte{0xa5}, 2048)
			n1, n2, ok := Split4(frame, parse(t, frame), mtu, second)
			if !ok {
				t.Fatal("not split")
			}
			if !bytes.Equal(second[:n2], want) {
				t.Errorf("second is\n%x, want\n%x", second[:n2], want)
			}
			verify(t, frame[:n1])
			verify(t, second[:n2])
		})
	}
}

func TestSplit4Refuses(t *testing.T) {
	udp := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.PayloadLen(972)) // 1000 bytes
	options := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.IPOptions(1, 1, 1, 0), packettest.PayloadLen(972))
	cases := []struct {
		name   string
		in     []byte
		mtu    int
		second int
	}{
		{"it fits", udp, 1000, 2048},
		{"it may not be fragmented", packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.DF(), packettest.PayloadLen(972)), 500, 2048},
		{"IPv6", packettest.UDP(ap(clientEnd6), ap(vipEnd6), packettest.PayloadLen(972)), 500, 2048},
		{"no room for eight bytes", udp, 27, 2048},
		{"no room for eight bytes behind options", options, 31, 2048},
		{"less than a header", udp, 8, 2048},
		{"nothing at all", udp, 0, 2048},
		{"no room for the second", udp, 500, 14 + 20 + 980 - 480 - 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			frame, second := bytes.Clone(c.in), make([]byte, c.second)
			if n1, n2, ok := Split4(frame, parse(t, frame), c.mtu, second); ok || n1 != 0 || n2 != 0 {
				t.Errorf("Split4 says %d, %d, %v", n1, n2, ok)
			}
			if !bytes.Equal(frame, c.in) || !bytes.Equal(second, make([]byte, c.second)) {
				t.Error("bytes were changed")
			}
		})
	}
	second := make([]byte, 14+20+980-480)
	if _, _, ok := Split4(udp, parse(t, udp), 500, second); !ok {
		t.Error("not split with just enough room for the second")
	}
}

// checkSplit cuts a frame until every piece fits, puts the pieces together
// again in the plainest way, and demands what went in.
func checkSplit(t testing.TB, frame []byte, mtu int) {
	t.Helper()
	info := parse(t, frame)
	original := bytes.Clone(frame[info.L3 : info.L3+info.IPLen])
	headerLen := int(original[0]&15) * 4
	if info.DontFragment || int(info.IPLen) <= mtu || mtu < headerLen+8 {
		return
	}
	originalOffset, originalMore := int(info.FragOffset), info.Frag&packet.FragMore != 0
	payload := make([]byte, len(original)-headerLen)
	var pieces [][]byte
	for rest := bytes.Clone(frame); ; {
		restInfo := parse(t, rest)
		if int(restInfo.IPLen) <= mtu {
			pieces = append(pieces, rest)
			break
		}
		second := make([]byte, len(rest)+60)
		n1, n2, ok := Split4(rest, restInfo, mtu, second)
		if !ok {
			t.Fatalf("a piece of %d bytes is not split at %d", restInfo.IPLen, mtu)
		}
		pieces = append(pieces, rest[:n1])
		rest = second[:n2]
	}
	at := 0
	for i, p := range pieces {
		pi := parse(t, p)
		what := fmt.Sprintf("piece %d of %d", i, len(pieces))
		if int(pi.IPLen) > mtu || len(p) != int(pi.L3+pi.IPLen) {
			t.Fatalf("%s has %d bytes in a frame of %d", what, pi.IPLen, len(p))
		}
		if !bytes.Equal(p[:pi.L3], frame[:info.L3]) {
			t.Fatalf("%s has another link-layer header", what)
		}
		if int(pi.FragOffset) != originalOffset+at || pi.FragID != uint32(original[4])<<8|uint32(original[5]) {
			t.Fatalf("%s is at offset %d with ID %d", what, pi.FragOffset, pi.FragID)
		}
		if more := i < len(pieces)-1 || originalMore; (pi.Frag&packet.FragMore != 0) != more {
			t.Fatalf("%s: more is %v, want %v", what, !more, more)
		}
		if headerError(p, pi) != 0 || pi.TOS != info.TOS || pi.TTL != info.TTL || pi.Proto != info.Proto || pi.Src != info.Src || pi.Dst != info.Dst {
			t.Fatalf("%s has a wrong header: %+v", what, pi)
		}
		at += copy(payload[at:], p[pi.L4:])
	}
	if at != len(payload) || !bytes.Equal(payload, original[headerLen:]) {
		t.Fatal("the payload put together is another one")
	}
}
