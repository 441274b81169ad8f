package rewrite

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// The checks in this file and the next are run by the fuzz targets on whatever
// parses, and by the random tests on frames of packettest. Each takes a frame
// that parsed and a number that all other choices come from.

// checked is one check, by the name of its fuzz target.
var checked = map[string]func(t testing.TB, frame []byte, info *packet.Info, number uint64){
	"FuzzNAT":        checkNAT,
	"FuzzTunnel":     checkTunnel,
	"FuzzReplies":    checkReplies,
	"FuzzICMPErrors": checkICMPErrors,
	"FuzzClampMSS":   checkClampMSS,
	"FuzzSplit4":     checkSplit4,
}

func fuzz(f *testing.F, name string) {
	check := checked[name]
	f.Fuzz(func(t *testing.T, frame []byte, number uint64) {
		frame = bytes.Clone(frame) // the fuzzing engine keeps its own
		if info, ok := arrange(frame); ok {
			check(t, frame, info, number)
		}
	})
}

func FuzzNAT(f *testing.F)        { fuzz(f, "FuzzNAT") }
func FuzzTunnel(f *testing.F)     { fuzz(f, "FuzzTunnel") }
func FuzzReplies(f *testing.F)    { fuzz(f, "FuzzReplies") }
func FuzzICMPErrors(f *testing.F) { fuzz(f, "FuzzICMPErrors") }
func FuzzClampMSS(f *testing.F)   { fuzz(f, "FuzzClampMSS") }
func FuzzSplit4(f *testing.F)     { fuzz(f, "FuzzSplit4") }

// Every check on many random valid frames.
func TestRandomFrames(t *testing.T) {
	for _, name := range fuzzTargets {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(5, 6))
			for range 4000 {
				frame := packettest.RandomFrame(rng)
				checked[name](t, frame, parse(t, frame), rng.Uint64())
			}
		})
	}
}

func isIP(info *packet.Info) bool {
	return info.Kind == packet.KindIPv4 || info.Kind == packet.KindIPv6
}

func randomAddr(rng *rand.Rand, is4 bool) packet.Addr {
	if is4 {
		return packet.Addr4([]byte{198, 18, byte(rng.Uint32()), byte(rng.Uint32())})
	}
	return packet.Addr{Hi: 0x20010db8<<32 | uint64(rng.Uint32()), Lo: rng.Uint64()}
}

func randomEnds(rng *rand.Rand, is4 bool) *NATArgs {
	return &NATArgs{Src: randomAddr(rng, is4), Dst: randomAddr(rng, is4), SrcPort: uint16(rng.Uint32()), DstPort: uint16(rng.Uint32())}
}

func hasPorts(proto uint8) bool { return proto == 6 || proto == 17 || proto == 132 }

// natReason is what NAT must say.
func natReason(info *packet.Info, to *NATArgs) reason.Reason {
	switch {
	case info.Frag != 0 && info.Frag&packet.FragFirst == 0:
		return reason.None
	case info.Proto == 132 && info.Frag != 0 && (info.SrcPort != to.SrcPort || info.DstPort != to.DstPort):
		return reason.FragmentUnsupported
	case !hasPorts(info.Proto) && info.Proto != 1 && info.Proto != 58:
		return reason.ProtocolUnsupported
	}
	return reason.None
}

// blank sets everything that NAT may change in a packet at l3 to zero.
func blank(frame []byte, is4 bool, l3, l4, end int, proto uint8, transport bool) []byte {
	out := bytes.Clone(frame)
	if is4 {
		clear(out[l3+10 : l3+20])
	} else {
		clear(out[l3+8 : l3+40])
	}
	if !transport {
		return out
	}
	if hasPorts(proto) {
		clear(out[l4 : l4+4])
	}
	if at, n, ok := checksumField(proto); ok && l4+at+n <= end {
		clear(out[l4+at : l4+at+n])
	}
	return out
}

// checksumField is where the checksum of a transport protocol is that covers
// what NAT changes.
func checksumField(proto uint8) (at, n int, ok bool) {
	switch proto {
	case 6:
		return 16, 2, true
	case 17:
		return 6, 2, true
	case 58:
		return 2, 2, true
	case 132:
		return 8, 4, true
	}
	return 0, 0, false
}

func checkNAT(t testing.TB, frame []byte, info *packet.Info, number uint64) {
	if !isIP(info) {
		return
	}
	rng := rand.New(rand.NewPCG(number, 1))
	is4 := info.Kind == packet.KindIPv4
	to := randomEnds(rng, is4)
	if rng.IntN(4) == 0 {
		to.SrcPort, to.DstPort = info.SrcPort, info.DstPort
	}
	original := bytes.Clone(frame)
	want := natReason(info, to)
	if got := NAT(frame, info, to); got != want {
		t.Fatalf("reason is %v, want %v", got, want)
	}
	if want != reason.None {
		if !bytes.Equal(frame, original) {
			t.Fatal("the frame was changed")
		}
		return
	}
	checkNATResult(t, frame, original, info, to)

	// A reply to what was sent, rewritten back, is a reply to what came.
	back := &NATArgs{Src: info.Dst, SrcPort: info.DstPort, Dst: info.Src, DstPort: info.SrcPort}
	reply, replyInfo := mirror(t, frame)
	if r := NAT(reply, replyInfo, back); r != reason.None {
		t.Fatalf("reply: %v", r)
	}
	wantReply := mirrored(original, info)
	if !bytes.Equal(normal(reply, info), normal(wantReply, info)) {
		t.Fatalf("the reply is\n%x, want\n%x", reply, wantReply)
	}
}

func checkNATResult(t testing.TB, frame, original []byte, info *packet.Info, to *NATArgs) {
	t.Helper()
	is4, later := info.Kind == packet.KindIPv4, info.Frag != 0 && info.Frag&packet.FragFirst == 0
	after := parse(t, frame)
	if after.Src != to.Src || after.Dst != to.Dst {
		t.Fatalf("addresses are %v and %v, want %v and %v", after.Src, after.Dst, to.Src, to.Dst)
	}
	if !later && hasPorts(info.Proto) && (after.SrcPort != to.SrcPort || after.DstPort != to.DstPort) {
		t.Fatalf("ports are %d and %d, want %d and %d", after.SrcPort, after.DstPort, to.SrcPort, to.DstPort)
	}
	if headerError(frame, after) != 0 {
		t.Fatal("the IPv4 header checksum is wrong")
	}
	noCRC := info.Proto == 132 && !later && binary.LittleEndian.Uint32(original[info.L4+8:]) == 0
	if e, was := transportError(frame, after), transportError(original, info); e != was && !noCRC {
		t.Fatalf("the transport checksum is wrong by %#x, was wrong by %#x", e, was)
	}
	if info.Proto == 17 && !later {
		had, has := binary.BigEndian.Uint16(original[info.L4+6:]), binary.BigEndian.Uint16(frame[info.L4+6:])
		if (had == 0) != (has == 0) {
			t.Fatalf("the UDP checksum is %#04x, was %#04x", has, had)
		}
	}
	l3, l4, end := int(info.L3), int(info.L4), int(info.L3+info.IPLen)
	if !bytes.Equal(blank(frame, is4, l3, l4, end, info.Proto, !later), blank(original, is4, l3, l4, end, info.Proto, !later)) {
		t.Fatal("more was changed than addresses, ports and checksums")
	}
}

// mirror is a frame with source and destination swapped, of addresses and
// ports, with a CRC that is as right or wrong as it was.
func mirror(t testing.TB, frame []byte) ([]byte, *packet.Info) {
	t.Helper()
	out := mirrored(frame, parse(t, frame))
	return out, parse(t, out)
}

func mirrored(frame []byte, info *packet.Info) []byte {
	out := bytes.Clone(frame)
	p := out[info.L3:]
	if info.Kind == packet.KindIPv4 {
		copy(p[12:16], frame[info.L3+16:])
		copy(p[16:20], frame[info.L3+12:])
	} else {
		copy(p[8:24], frame[info.L3+24:])
		copy(p[24:40], frame[info.L3+8:])
	}
	if hasPorts(info.Proto) && (info.Frag == 0 || info.Frag&packet.FragFirst != 0) {
		h := out[info.L4:]
		copy(h[0:2], frame[info.L4+2:])
		copy(h[2:4], frame[info.L4:])
		if info.Proto == 132 && info.Frag == 0 && binary.LittleEndian.Uint32(h[8:]) != 0 {
			segment := out[info.L4 : info.L3+info.IPLen]
			wrong := uint32(transportError(frame, info))
			binary.LittleEndian.PutUint32(h[8:], slowCRC32c(segment)^wrong)
		}
	}
	return out
}

// normal writes the checksums that are 0xffff as 0, which is the same number
// in ones' complement; in UDP it is not the same thing and stays.
func normal(frame []byte, info *packet.Info) []byte {
	out := bytes.Clone(frame)
	fix := func(b []byte) {
		if b[0] == 0xff && b[1] == 0xff {
			b[0], b[1] = 0, 0
		}
	}
	if info.Kind == packet.KindIPv4 {
		fix(out[info.L3+10:])
	}
	if info.Frag == 0 || info.Frag&packet.FragFirst != 0 {
		switch info.Proto {
		case 6:
			fix(out[info.L4+16:])
		case 58:
			fix(out[info.L4+2:])
		}
	}
	return out
}

func checkTunnel(t testing.TB, frame []byte, info *packet.Info, number uint64) {
	if !isIP(info) || len(frame) > 3000 {
		return
	}
	rng := rand.New(rand.NewPCG(number, 2))
	outer4, isGUE := rng.IntN(2) == 0, rng.IntN(2) == 0
	args := GUEArgs{SrcPort: GUESourcePort(rng.Uint32()), DstPort: packet.GUEPort, ZeroUDP6: rng.IntN(4) == 0,
		OuterArgs: OuterArgs{Src: randomAddr(rng, outer4), Dst: randomAddr(rng, outer4), DstMAC: nextHopMAC, SrcMAC: nodeMAC,
			TTL: uint8(1 + rng.IntN(255)), Entropy: rng.Uint32(), ID: uint16(rng.Uint32())}}
	b := newBuf(frame)
	overhead := 0
	var r reason.Reason
	if isGUE {
		r, overhead = GUE(b, info, &args), 12
	} else {
		r = IPIP(b, info, &args.OuterArgs)
	}
	if outer4 {
		overhead += 20
	} else {
		overhead += 40
	}
	if r != reason.None {
		t.Fatalf("reason is %v", r)
	}
	out := b.Frame()
	after := parse(t, out)
	l3 := int(info.L3)
	if len(out) != l3+overhead+int(info.IPLen) || int(after.IPLen) != overhead+int(info.IPLen) || int(after.L3) != l3 {
		t.Fatalf("the frame has %d bytes, the packet %d, from %d bytes and %d more", len(out), after.IPLen, info.IPLen, overhead)
	}
	if !bytes.Equal(out[l3+overhead:], frame[l3:l3+int(info.IPLen)]) {
		t.Fatal("the inner packet was changed")
	}
	if !bytes.Equal(out[12:l3-2], frame[12:l3-2]) {
		t.Fatal("the VLAN tags were changed")
	}
	if after.Src != args.Src || after.Dst != args.Dst || after.TTL != args.TTL || after.TOS != info.TOS || after.Frag != 0 ||
		outer4 && after.DontFragment != info.DontFragment {
		t.Fatalf("the outer header says %+v", after)
	}
	proto, inner := after.Proto, uint8(4)
	if info.Kind == packet.KindIPv6 {
		inner = 41
	}
	if isGUE {
		h := out[after.L4:]
		zero := h[6] == 0 && h[7] == 0
		if zero != (outer4 || args.ZeroUDP6) || transportError(out, after) != 0 {
			t.Fatalf("the UDP checksum is %x, wrong by %#x", h[6:8], transportError(out, after))
		}
		if proto != 17 || after.SrcPort != args.SrcPort || after.DstPort != args.DstPort || int(binary.BigEndian.Uint16(h[4:])) != 12+int(info.IPLen) {
			t.Fatalf("the UDP header is %x", h[:8])
		}
		if h[8] != 0 || h[10] != 0 || h[11] != 0 {
			t.Fatalf("the GUE header is %x", h[8:12])
		}
		proto = h[9]
	}
	if proto != inner {
		t.Fatalf("the protocol is %d, want %d", proto, inner)
	}
	if packettest.Verify(frame) == nil && !args.ZeroUDP6 {
		verify(t, out)
	}
}

func checkClampMSS(t testing.TB, frame []byte, info *packet.Info, number uint64) {
	limit := uint16(number)
	original := bytes.Clone(frame)
	changed := ClampMSS(frame, info, limit)
	if info.Proto != 6 || info.Frag != 0 || info.TCPFlags&2 == 0 {
		if changed || !bytes.Equal(frame, original) {
			t.Fatal("not a SYN, and changed")
		}
		return
	}
	options := int(info.L4) + 20
	payload := int(info.L4) + int(original[info.L4+12]>>4)*4
	want := slowClamp(original[options:payload], limit)
	if !bytes.Equal(frame[options:payload], want) {
		t.Fatalf("options are %x, want %x, from %x", frame[options:payload], want, original[options:payload])
	}
	if changed == bytes.Equal(want, original[options:payload]) {
		t.Fatalf("changed is %v", changed)
	}
	if e, was := transportError(frame, info), transportError(original, info); e != was {
		t.Fatalf("the checksum is wrong by %#x, was wrong by %#x", e, was)
	}
	copy(original[options:], want)
	copy(original[info.L4+16:], frame[info.L4+16:info.L4+18])
	if !bytes.Equal(frame, original) {
		t.Fatal("more was changed than options and checksum")
	}
	if ClampMSS(frame, info, limit) {
		t.Fatal("a second time changes something")
	}
}

func checkSplit4(t testing.TB, frame []byte, info *packet.Info, number uint64) {
	// From the longest IP header, ICMP header, quoted IP header and ports on,
	// which Parse demands of a first fragment.
	if info.Kind == packet.KindIPv4 {
		checkSplit(t, frame, 60+8+60+8+int(number%2000))
	}
}
