package packet_test

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// dirtyInfo is what a reused Info may hold before Parse: nothing of it may
// show afterwards.
func dirtyInfo() packet.Info {
	info := packet.Info{
		Src: packet.Addr{Hi: ^uint64(0), Lo: ^uint64(0)}, Dst: packet.Addr{Hi: ^uint64(0), Lo: ^uint64(0)},
		Kind: 0xff, VLANs: 0xff, Proto: 0xff, TOS: 0xff, TTL: 0xff, Frag: 0xff,
		L3: 0xffff, L4: 0xffff, L3Len: 0xffff, IPLen: 0xffff,
		FragHeader: 0xffff, FragOffset: 0xffff, FragID: 0xffffffff,
		SrcPort: 0xffff, DstPort: 0xffff, TCPFlags: 0xff, ICMPType: 0xff, ICMPCode: 0xff,
		DontFragment: true, ARPOp: 0xffff,
	}
	info.Inner = packet.Inner{
		Src: info.Src, Dst: info.Dst, SrcPort: 0xffff, DstPort: 0xffff, Proto: 0xff, Fragment: true,
		L3: 0xffff, L4: 0xffff, End: 0xffff,
	}
	return info
}

// checkAgainstOracle parses a frame with Parse and with the oracle. They must
// agree on the reason, on the whole Info of a frame that is let through, and
// on what is known of one that is not.
func checkAgainstOracle(t *testing.T, frame []byte) reason.Reason {
	t.Helper()
	before := bytes.Clone(frame)
	got := dirtyInfo()
	gotReason := packet.Parse(frame, &got)
	if !bytes.Equal(before, frame) {
		t.Fatalf("Parse changed the frame\n from %x\n to   %x", before, frame)
	}
	want, wantReason := oracleParse(frame)
	if gotReason != wantReason {
		t.Fatalf("reason %v, oracle says %v\n%s", gotReason, wantReason, hex.Dump(frame))
	}
	if gotReason == reason.None && got != want {
		t.Fatalf("info\n %+v\noracle\n %+v\n%s", got, want, hex.Dump(frame))
	}
	checkOffsets(t, frame, &got, gotReason)
	return gotReason
}

// checkOffsets checks what Info promises of its offsets.
func checkOffsets(t *testing.T, frame []byte, info *packet.Info, r reason.Reason) {
	t.Helper()
	for name, at := range map[string]uint16{
		"L3": info.L3, "L4": info.L4, "L3+IPLen": info.L3 + info.IPLen, "FragHeader": info.FragHeader,
		"Inner.L3": info.Inner.L3, "Inner.L4": info.Inner.L4, "Inner.End": info.Inner.End,
	} {
		if int(at) > len(frame) {
			t.Fatalf("%s is %d in a frame of %d bytes\n%s", name, at, len(frame), hex.Dump(frame))
		}
	}
	if r != reason.None || info.Kind != packet.KindIPv4 && info.Kind != packet.KindIPv6 {
		return
	}
	if info.L4 != info.L3+info.L3Len || info.L4 > info.L3+info.IPLen {
		t.Fatalf("L3 %d, L3Len %d, L4 %d, IPLen %d", info.L3, info.L3Len, info.L4, info.IPLen)
	}
}

func TestParseRandomFramesAgainstOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(20, 26))
	for range 20_000 {
		frame := packettest.RandomFrame(r)
		if got := checkAgainstOracle(t, frame); got != reason.None {
			t.Fatalf("valid frame refused: %v\n%s", got, hex.Dump(frame))
		}
	}
}

// Mutated frames reach the refusals. Every reason that Parse has must come up,
// or the test has stopped to test something.
func TestParseMutatedFramesAgainstOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	seen := map[reason.Reason]int{}
	seeds := goldenFrames()
	for i := range 150_000 {
		var frame []byte
		if i%2 == 0 {
			frame = packettest.RandomFrame(r)
		} else {
			frame = bytes.Clone(seeds[r.IntN(len(seeds))])
		}
		frame = mutate(r, frame)
		if r.IntN(4) != 0 {
			repairChecksums(frame)
		}
		seen[checkAgainstOracle(t, frame)]++
	}
	for _, want := range []reason.Reason{
		reason.None, reason.FrameTooShort, reason.VLANTooDeep, reason.ARPMalformed,
		reason.IPv4HeaderMalformed, reason.IPv4ChecksumWrong, reason.IPv6HeaderMalformed,
		reason.IPv6ExtensionLimit, reason.IPv6ExtensionMalformed, reason.FragmentMalformed,
		reason.SourceInvalid, reason.TCPHeaderMalformed, reason.TCPFlagsInvalid,
		reason.UDPHeaderMalformed, reason.SCTPHeaderMalformed, reason.ICMPMalformed,
		reason.ICMPChecksumWrong, reason.ProtocolUnsupported,
	} {
		if seen[want] == 0 {
			t.Errorf("no mutated frame ended in %v", want)
		}
	}
}

// mutate changes a few bytes, mostly in the headers, with values that mean
// something more often than chance would have it, and may cut or lengthen.
func mutate(r *rand.Rand, frame []byte) []byte {
	values := []byte{0, 1, 4, 5, 6, 8, 17, 43, 44, 45, 50, 51, 58, 59, 60, 127, 132, 224, 255}
	for range r.IntN(4) {
		if len(frame) == 0 {
			break
		}
		at := r.IntN(min(len(frame), 120))
		if r.IntN(2) == 0 {
			frame[at] = values[r.IntN(len(values))]
		} else {
			frame[at] ^= 1 << r.IntN(8)
		}
	}
	switch r.IntN(6) {
	case 0:
		return frame[:r.IntN(len(frame)+1)]
	case 1:
		return append(frame, make([]byte, r.IntN(30))...)
	case 2:
		return shorten(r, frame)
	}
	return frame
}

// shorten cuts the end of the packet off and makes its length field agree.
func shorten(r *rand.Rand, frame []byte) []byte {
	info, _ := oracleParse(frame)
	if info.IPLen < 41 {
		return frame
	}
	n := r.IntN(int(info.IPLen))
	frame = frame[:int(info.L3)+n]
	p := frame[info.L3:]
	switch {
	case info.Kind == packet.KindIPv4 && n >= 20:
		p[2], p[3] = byte(n>>8), byte(n)
	case info.Kind == packet.KindIPv6 && n >= 40:
		p[4], p[5] = byte((n-40)>>8), byte(n-40)
	}
	return frame
}

func FuzzParse(f *testing.F) {
	for _, frame := range goldenFrames() {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		checkAgainstOracle(t, frame)
		repaired := bytes.Clone(frame)
		repairChecksums(repaired)
		checkAgainstOracle(t, repaired)
	})
}

// FuzzICMPInner puts the fuzzer's bytes behind a good ICMP error header, where
// the quoted packet is.
func FuzzICMPInner(f *testing.F) {
	for _, frame := range goldenFrames() {
		if info, r := oracleParse(frame); r == reason.None && info.IPLen != 0 {
			quote := frame[info.L3 : info.L3+info.IPLen]
			f.Add(info.Kind == packet.KindIPv6, uint8(3), uint8(1), quote)
			f.Add(info.Kind == packet.KindIPv6, uint8(4), uint8(0), quote[:min(len(quote), int(info.L3Len)+8)])
		}
	}
	f.Fuzz(func(t *testing.T, is6 bool, typ, code uint8, quote []byte) {
		if len(quote) > 2000 {
			return
		}
		src, dst := client4.Addr(), vip4.Addr()
		if is6 {
			src, dst = client6.Addr(), vip6.Addr()
		}
		checkAgainstOracle(t, packettest.ICMP(src, dst, typ, code, packettest.Payload(quote)))
	})
}
