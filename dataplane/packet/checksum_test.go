package packet_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
)

// same says whether two folded sums are one number to ones' complement
// arithmetic: 0 and 0xffff are both zero.
func same(a, b uint16) bool { return a%0xffff == b%0xffff }

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestSumAgainstSlowSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for length := range 400 {
		for _, fill := range []string{"random", "ones", "zeros"} {
			buf := make([]byte, length+8)
			for i := range buf {
				switch fill {
				case "random":
					buf[i] = byte(r.Uint32())
				case "ones":
					buf[i] = 0xff
				}
			}
			for start := range 8 { // every alignment
				b := buf[start : start+length]
				if got, want := packet.Fold(packet.Sum(b, 0)), onesSum(b); got != want {
					t.Fatalf("%s, %d bytes at %d: %#04x, want %#04x", fill, length, start, got, want)
				}
				if got, want := packet.Checksum(b), ^onesSum(b); got != want {
					t.Fatalf("%s, %d bytes at %d: checksum %#04x, want %#04x", fill, length, start, got, want)
				}
			}
		}
	}
}

func TestSumAddsToInitial(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	initials := []uint32{0, 1, 0xffff, 0x10000, 0xfffffffe, 0xffffffff, 0xffff0000}
	for range 20_000 {
		b := randomBytes(r, r.IntN(64))
		initial := r.Uint32()
		if n := r.IntN(20); n < len(initials) {
			initial = initials[n]
		}
		var word [4]byte
		binary.BigEndian.PutUint32(word[:], initial)
		got, want := packet.Fold(packet.Sum(b, initial)), onesSum(word[:], b)
		if got != want {
			t.Fatalf("%x from %#x: %#04x, want %#04x", b, initial, got, want)
		}
	}
}

func TestFoldEveryCarry(t *testing.T) {
	for _, high := range []uint32{0, 1, 2, 0x7fff, 0x8000, 0xfffe, 0xffff} {
		for low := range uint32(0x10000) {
			sum := high<<16 | low
			want := sum
			for want > 0xffff {
				want = want>>16 + want&0xffff
			}
			if got := packet.Fold(sum); got != uint16(want) {
				t.Fatalf("Fold(%#x) = %#04x, want %#04x", sum, got, want)
			}
			if got := packet.Finish(sum); got != ^uint16(want) {
				t.Fatalf("Finish(%#x) = %#04x, want %#04x", sum, got, ^uint16(want))
			}
		}
	}
}

func pseudoHeader(src, dst netip.Addr, proto uint8, length uint32) []byte {
	b := append(src.AsSlice(), dst.AsSlice()...)
	if src.Is4() {
		return append(b, 0, proto, byte(length>>8), byte(length))
	}
	return append(binary.BigEndian.AppendUint32(b, length), 0, 0, 0, proto)
}

func randomAddrs(r *rand.Rand) (a, b netip.Addr) {
	if r.IntN(2) == 0 {
		return netip.AddrFrom4([4]byte(randomBytes(r, 4))), netip.AddrFrom4([4]byte(randomBytes(r, 4)))
	}
	return netip.AddrFrom16([16]byte(randomBytes(r, 16))), netip.AddrFrom16([16]byte(randomBytes(r, 16)))
}

func TestPseudoSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	for range 50_000 {
		src, dst := randomAddrs(r)
		proto, length := uint8(r.Uint32()), r.Uint32()
		if src.Is4() || r.IntN(2) == 0 {
			length &= 0xffff
		}
		got := packet.Fold(packet.PseudoSum(packet.AddrFrom(src), packet.AddrFrom(dst), proto, length))
		if want := onesSum(pseudoHeader(src, dst, proto, length)); got != want {
			t.Fatalf("%v %v %d %d: %#04x, want %#04x", src, dst, proto, length, got, want)
		}
	}
	// All ones, so that every addition carries.
	ones := netip.AddrFrom16([16]byte(randomBytesOf(16, 0xff)))
	got := packet.Fold(packet.PseudoSum(packet.AddrFrom(ones), packet.AddrFrom(ones), 255, 0xffffffff))
	if want := onesSum(pseudoHeader(ones, ones, 255, 0xffffffff)); got != want {
		t.Fatalf("ones: %#04x, want %#04x", got, want)
	}
}

func randomBytesOf(n int, v byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = v
	}
	return b
}

// interesting words are where ones' complement arithmetic has its corners.
var interesting = []uint16{0x0000, 0x0001, 0x00ff, 0x7fff, 0x8000, 0xff00, 0xfffe, 0xffff}

// Every old word with checksums over the whole range, and every checksum with
// the corner words, against the checksum computed anew: the data are the word
// and a rest that makes the checksum what it is.
func TestUpdate16Exhaustive(t *testing.T) {
	for oldWord := range 0x10000 {
		// The start moves with the old word, so that every checksum is met.
		for check := oldWord * 7 % 4093; check < 0x10000; check += 4093 {
			// ones' complement sum of the data: what check is the complement of
			rest := onesSub(^uint16(check), uint16(oldWord))
			news := [...]uint16{0, 0xffff, uint16(oldWord), ^uint16(oldWord), uint16(check), ^uint16(check), uint16(oldWord * 31), uint16(check * 17)}
			for _, newWord := range news {
				checkUpdate16(t, uint16(check), uint16(oldWord), newWord, rest)
			}
		}
	}
	for _, oldWord := range interesting {
		for _, newWord := range interesting {
			for check := range 0x10000 {
				checkUpdate16(t, uint16(check), oldWord, newWord, onesSub(^uint16(check), oldWord))
			}
		}
	}
}

// onesAdd is a + b in ones' complement.
func onesAdd(a, b uint16) uint16 {
	v := uint32(a) + uint32(b)
	return uint16(v%0x10000 + v/0x10000)
}

// onesSub is a - b in ones' complement.
func onesSub(a, b uint16) uint16 { return onesAdd(a, ^b) }

// checkUpdate16 checks an update of data that consists of the word and rest.
func checkUpdate16(t *testing.T, check, oldWord, newWord, rest uint16) {
	t.Helper()
	got := packet.Update16(check, oldWord, newWord)
	fresh := ^onesAdd(newWord, rest)
	if !same(got, fresh) {
		t.Fatalf("Update16(%#04x, %#04x, %#04x) = %#04x, anew %#04x", check, oldWord, newWord, got, fresh)
	}
	// Data that are not all zero have a sum that is not zero, hence a checksum
	// that is not 0xffff: RFC 1624 section 3 is about not writing that.
	original := ^onesAdd(oldWord, rest)
	if check == original && rest != 0 && got != fresh {
		t.Fatalf("Update16(%#04x, %#04x, %#04x) = %#04x, anew %#04x: the other zero", check, oldWord, newWord, got, fresh)
	}
}

// The example of RFC 1624 section 4: equation 3 gives 0x0000 where the one it
// replaced gave 0xffff.
func TestUpdate16RFC1624Example(t *testing.T) {
	if got := packet.Update16(0xdd2f, 0x5555, 0x3285); got != 0x0000 {
		t.Errorf("%#04x, want 0x0000", got)
	}
}

func TestUpdateAddr(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 4))
	for range 50_000 {
		before, after := randomAddrs(r)
		rest := randomBytes(r, 20)
		rest[0] |= 1 // never all zero, as no header is
		check := ^onesSum(before.AsSlice(), rest)
		want := ^onesSum(after.AsSlice(), rest)
		if got := packet.UpdateAddr(check, packet.AddrFrom(before), packet.AddrFrom(after)); got != want {
			t.Fatalf("%v to %v: %#04x, want %#04x", before, after, got, want)
		}
	}
}

// A rewrite of two addresses, a 32-bit field, two ports and an option at an
// odd offset in one Delta, against the checksum computed anew; and one that
// was wrong before must be wrong by as much afterwards.
func TestDelta(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 5))
	for range 50_000 {
		src, newSrc := randomAddrs(r)
		dst, newDst := src.Next(), newSrc.Prev()
		if !dst.IsValid() || !newDst.IsValid() {
			continue
		}
		before, after := randomBytes(r, 40), make([]byte, 40)
		copy(after, before)
		copy(after[0:4], randomBytes(r, 4)) // two ports
		copy(after[8:12], randomBytes(r, 4))
		copy(after[23:25], randomBytes(r, 2)) // odd
		word := func(b []byte, at int) uint16 { return binary.BigEndian.Uint16(b[at:]) }
		long := func(b []byte, at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }

		d := packet.Delta(0).
			Addr(packet.AddrFrom(src), packet.AddrFrom(newSrc)).
			Addr(packet.AddrFrom(dst), packet.AddrFrom(newDst)).
			Word(word(before, 0), word(after, 0)).
			Word(word(before, 2), word(after, 2)).
			Long(long(before, 8), long(after, 8)).
			OddWord(word(before, 23), word(after, 23))

		check := ^onesSum(src.AsSlice(), dst.AsSlice(), before)
		want := ^onesSum(newSrc.AsSlice(), newDst.AsSlice(), after)
		if got := d.Apply(check); got != want {
			t.Fatalf("%#04x, want %#04x", got, want)
		}
		wrong := check ^ uint16(1<<r.IntN(16))
		if got := d.Apply(wrong); same(got, want) {
			t.Fatalf("a wrong checksum %#04x became right", wrong)
		}
	}
}

// A Delta must not overflow before as many changes as anyone makes.
func TestDeltaHasRoom(t *testing.T) {
	d := packet.Delta(0)
	zero, ones := packet.Addr{}, packet.Addr{Hi: ^uint64(0), Lo: ^uint64(0)}
	for range 4096 {
		d = d.Addr(zero, ones).Long(0, 0xffffffff).Word(0, 0xffff)
	}
	if got := d.Apply(0x1234); !same(got, 0x1234) {
		t.Errorf("%#04x, want 0x1234", got)
	}
}

func TestUDPChecksum(t *testing.T) {
	for v := range 0x10000 {
		want := uint16(v)
		if v == 0 {
			want = 0xffff
		}
		if got := packet.UDPChecksum(uint16(v)); got != want {
			t.Fatalf("UDPChecksum(%#04x) = %#04x", v, got)
		}
	}
}

// A datagram whose checksum comes to 0 is sent with 0xffff, and an update of
// one that carries 0xffff is right too.
func TestUDPChecksumZeroCorner(t *testing.T) {
	frame := packettest.UDP(client4, vip4, packettest.Payload([]byte{0, 0}))
	udp := packet.UDP(frame[34:])
	// Choosing the payload to be the checksum makes the sum 0xffff.
	binary.BigEndian.PutUint16(frame[42:], udp.Checksum())
	udp.SetChecksum(0)
	src, dst := packet.AddrFrom(client4.Addr()), packet.AddrFrom(vip4.Addr())
	computed := packet.Finish(packet.Sum(frame[34:44], packet.PseudoSum(src, dst, packet.ProtoUDP, 10)))
	if computed != 0 {
		t.Fatalf("computed %#04x, want 0", computed)
	}
	udp.SetChecksum(packet.UDPChecksum(computed))
	if err := packettest.Verify(frame); err != nil {
		t.Fatal(err)
	}
	for port := range 0x10000 {
		updated := packet.UDPChecksum(packet.Update16(0xffff, udp.SrcPort(), uint16(port)))
		rest := onesSum(client4.Addr().AsSlice(), vip4.Addr().AsSlice(), []byte{0, 17, 0, 10}, frame[36:40], frame[42:44])
		want := ^onesSum([]byte{byte(port >> 8), byte(port), byte(rest >> 8), byte(rest)})
		if want == 0 {
			want = 0xffff
		}
		if updated != want {
			t.Fatalf("port %d: %#04x, want %#04x", port, updated, want)
		}
	}
}

func TestSCTPChecksum(t *testing.T) {
	for length := range 200 {
		frame := packettest.SCTP(client4, vip4, packettest.PayloadLen(length))
		h := packet.SCTP(frame[34:])
		if got, want := packet.SCTPChecksum(h), h.Checksum(); got != want {
			t.Fatalf("%d bytes: %#08x, want %#08x", length, got, want)
		}
	}
}
