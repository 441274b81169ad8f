package packet_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
)

// expect runs a setter on random bytes; the fields given as (from, width,
// value) must have changed, and nothing else.
func expect(t *testing.T, set func(b []byte), fields ...[3]uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(2, 2))
	for range 50 {
		b := randomBytes(r, 64)
		want := bytes.Clone(b)
		for _, f := range fields {
			putBits(want, int(f[0]), int(f[1]), f[2])
		}
		set(b)
		if !bytes.Equal(b, want) {
			t.Fatalf("wrote\n %x, want\n %x", b, want)
		}
	}
}

func TestSettersOfSeveralFields(t *testing.T) {
	a := packet.Addr{Hi: 0x20010db800010002, Lo: 0x0003000400050006}
	expect(t, func(b []byte) { packet.IPv4(b).SetVersionHeaderLen(24) }, [3]uint64{0, 4, 4}, [3]uint64{4, 4, 6})
	expect(t, func(b []byte) { packet.IPv6(b).SetFirst(0xb9, 0xfff12345) }, [3]uint64{0, 4, 6}, [3]uint64{4, 8, 0xb9}, [3]uint64{12, 20, 0x12345})
	expect(t, func(b []byte) { packet.IPv6(b).SetSrc(a) }, [3]uint64{64, 64, a.Hi}, [3]uint64{128, 64, a.Lo})
	expect(t, func(b []byte) { packet.IPv6(b).SetDst(a) }, [3]uint64{192, 64, a.Hi}, [3]uint64{256, 64, a.Lo})
	expect(t, func(b []byte) { packet.IPv6Fragment(b).SetOffsetMore(1480, true) }, [3]uint64{8, 8, 0}, [3]uint64{16, 13, 185}, [3]uint64{29, 2, 0}, [3]uint64{31, 1, 1})
	expect(t, func(b []byte) { packet.IPv6Fragment(b).SetOffsetMore(65528, false) }, [3]uint64{8, 8, 0}, [3]uint64{16, 13, 8191}, [3]uint64{29, 3, 0})
	expect(t, func(b []byte) { packet.TCP(b).SetHeaderLen(60) }, [3]uint64{96, 4, 15}, [3]uint64{100, 4, 0})
	expect(t, func(b []byte) { packet.ARP(b).SetTypes() }, [3]uint64{0, 16, 1}, [3]uint64{16, 16, 0x0800}, [3]uint64{32, 8, 6}, [3]uint64{40, 8, 4})
	expect(t, func(b []byte) { packet.NDP(b).SetFlags(0xe0) }, [3]uint64{32, 8, 0xe0}, [3]uint64{40, 24, 0})
	expect(t, func(b []byte) { packet.NDP(b).SetTarget(a) }, [3]uint64{64, 64, a.Hi}, [3]uint64{128, 64, a.Lo})
	expect(t, func(b []byte) { packet.NDP(b).PutLinkLayer(2, [6]byte{1, 2, 3, 4, 5, 6}) }, [3]uint64{192, 64, 0x0201010203040506})
	expect(t, func(b []byte) { packet.GUE(b).Set(packet.ProtoIPv6) }, [3]uint64{0, 32, 41 << 16})
	// SCTP's checksum is the one field with its least significant byte first.
	expect(t, func(b []byte) { packet.SCTP(b).SetChecksum(0x11223344) }, [3]uint64{64, 32, 0x44332211})
}

func TestHeaderLengths(t *testing.T) {
	for length := range 256 {
		h := packet.IPv6Extension{59, byte(length), 0, 0, 0, 0, 0, 0}
		if got, want := h.HeaderLen(), 8+8*length; got != want {
			t.Errorf("extension length %d: %d bytes, want %d", length, got, want)
		}
		if got, want := h.AuthenticationLen(), 8+4*length; got != want {
			t.Errorf("authentication length %d: %d bytes, want %d", length, got, want)
		}
		if got, want := packet.GUE([]byte{byte(length), 4, 0, 0}).HeaderLen(), 4+4*(length&31); got != want {
			t.Errorf("GUE first byte %#02x: %d bytes, want %d", length, got, want)
		}
	}
	h := packet.SCTP{8: 0x44, 0x33, 0x22, 0x11}
	if got := h.Checksum(); got != 0x11223344 {
		t.Errorf("SCTP checksum %#08x, want 0x11223344", got)
	}
}

func TestTOSHelpers(t *testing.T) {
	for tos := range 256 {
		v := uint8(tos)
		if packet.ECN(v) != v%4 || packet.DSCP(v) != v/4 {
			t.Errorf("%#02x: ECN %d, DSCP %d", v, packet.ECN(v), packet.DSCP(v))
		}
		for ecn := range uint8(4) {
			if got, want := packet.WithECN(v, ecn), v/4*4+ecn; got != want {
				t.Errorf("WithECN(%#02x, %d) = %#02x, want %#02x", v, ecn, got, want)
			}
		}
	}
}

func TestTypePredicates(t *testing.T) {
	errors4 := map[int]bool{3: true, 4: true, 5: true, 11: true, 12: true}
	errors6 := map[int]bool{1: true, 2: true, 3: true, 4: true}
	for typ := range 256 {
		if got := packet.ICMPv4IsError(uint8(typ)); got != errors4[typ] {
			t.Errorf("ICMPv4IsError(%d) = %v", typ, got)
		}
		if got := packet.ICMPv6IsError(uint8(typ)); got != errors6[typ] {
			t.Errorf("ICMPv6IsError(%d) = %v", typ, got)
		}
	}
	tags := map[int]bool{0x8100: true, 0x88a8: true, 0x9100: true}
	for etherType := range 0x10000 {
		if got := packet.IsVLAN(uint16(etherType)); got != tags[etherType] {
			t.Errorf("IsVLAN(%#04x) = %v", etherType, got)
		}
	}
	for s, want := range map[string]bool{
		"ff02::1:ff00:0": true, "ff02::1:ffff:ffff": true, "ff02::1:fe00:0": false, "ff02::2:ff00:0": false,
		"ff02::1": false, "ff05::1:ff00:0": false, "2001:db8::1:ff00:0": false, "ff02:0:0:1::1:ff00:0": false,
	} {
		if got := packet.IsSolicitedNode(addr(s)); got != want {
			t.Errorf("IsSolicitedNode(%s) = %v", s, got)
		}
	}
}

func TestTCPOptionsMSS(t *testing.T) {
	tests := []struct {
		name    string
		options []byte
		offset  int
		mss     uint16
		ok      bool
	}{
		{"none", nil, 0, 0, false},
		{"first", []byte{2, 4, 0x05, 0xb4}, 2, 1460, true},
		{"at an odd offset", []byte{1, 2, 4, 0x05, 0xb4, 0, 0, 0}, 3, 1460, true},
		{"as Linux sends it", []byte{2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7}, 2, 1460, true},
		{"last", []byte{4, 2, 1, 1, 2, 4, 0xff, 0xff}, 6, 65535, true},
		{"the first of two", []byte{2, 4, 0, 1, 2, 4, 0, 2}, 2, 1, true},
		{"behind the end", []byte{0, 2, 4, 5, 0xb4, 0, 0, 0}, 0, 0, false},
		{"length 3", []byte{2, 3, 5, 1}, 0, 0, false},
		{"length 6", []byte{2, 6, 5, 1, 0, 0, 0, 0}, 0, 0, false},
		{"length 0 before it", []byte{3, 0, 2, 4, 5, 0xb4, 0, 0}, 0, 0, false},
		{"length 1 before it", []byte{3, 1, 2, 4, 5, 0xb4, 0, 0}, 0, 0, false},
		{"cut", []byte{1, 2, 4, 5}, 0, 0, false},
		{"kind in the last byte", []byte{1, 1, 1, 2}, 0, 0, false},
		{"only padding", []byte{1, 1, 1, 1}, 0, 0, false},
	}
	for _, tt := range tests {
		frame := packettest.TCP(client4, vip4, packettest.TCPOptions(tt.options...))
		options := packet.TCP(frame[34:]).Options()
		if !bytes.Equal(options, tt.options) {
			t.Fatalf("%s: options %x, want %x", tt.name, options, tt.options)
		}
		offset, mss, ok := options.MSS()
		if offset != tt.offset || mss != tt.mss || ok != tt.ok {
			t.Errorf("%s: offset %d, MSS %d, %v; want %d, %d, %v", tt.name, offset, mss, ok, tt.offset, tt.mss, tt.ok)
		}
	}
}

func TestTCPOptionsNext(t *testing.T) {
	options := packet.TCPOptions{1, 2, 4, 5, 6, 1, 8, 3, 9, 0, 7, 7}
	type option struct {
		kind  uint8
		value string
		next  int
	}
	want := []option{{2, "\x05\x06", 5}, {8, "\x09", 9}}
	at := 0
	for i := 0; ; i++ {
		kind, value, next, ok, malformed := options.Next(at)
		if !ok {
			if i != len(want) || malformed {
				t.Fatalf("ended after %d options, malformed %v", i, malformed)
			}
			break
		}
		if got := (option{kind, string(value), next}); got != want[i] {
			t.Fatalf("option %d: %+v, want %+v", i, got, want[i])
		}
		at = next
	}
	for _, bad := range []packet.TCPOptions{{3}, {3, 1}, {3, 0, 0, 0}, {1, 3, 4, 0}} {
		if _, _, _, ok, malformed := bad.Next(0); ok || !malformed {
			t.Errorf("%v: ok %v, malformed %v", []byte(bad), ok, malformed)
		}
	}
}

func TestNDPOptions(t *testing.T) {
	body := func(options ...byte) packet.NDP { return append(make([]byte, packet.NDPLen), options...) }
	source := []byte{1, 1, 2, 0, 0, 0, 0, 9}
	nonce := []byte{14, 1, 1, 2, 3, 4, 5, 6}
	long := []byte{1, 2, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0}
	tests := []struct {
		name  string
		h     packet.NDP
		found bool // a source link-layer address of six bytes
		has   bool
		valid bool
	}{
		{"none", body(), false, false, true},
		{"source", body(source...), true, true, true},
		{"source behind another", body(append(nonce[:8:8], source...)...), true, true, true},
		{"only another", body(nonce...), false, false, true},
		{"two units", body(long...), false, true, true},
		{"type 0 before a bad one", body(0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0), false, false, false},
		{"length 0", body(1, 0, 0, 0, 0, 0, 0, 0), false, false, false},
		{"past the message", body(1, 2, 0, 0, 0, 0, 0, 0), false, false, false},
		{"rest of 7 bytes", body(append(source[:8:8], 0, 0, 0, 0, 0, 0, 0)...), true, true, false},
	}
	for _, tt := range tests {
		mac, found := tt.h.LinkLayer(packet.NDPOptionSourceLinkLayer)
		if found != tt.found || found && mac != [6]byte{2, 0, 0, 0, 0, 9} {
			t.Errorf("%s: LinkLayer %x, %v", tt.name, mac, found)
		}
		if got := tt.h.HasOption(packet.NDPOptionSourceLinkLayer); got != tt.has {
			t.Errorf("%s: HasOption %v", tt.name, got)
		}
		if got := tt.h.ValidOptions(); got != tt.valid {
			t.Errorf("%s: ValidOptions %v", tt.name, got)
		}
	}
}
