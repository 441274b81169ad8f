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

// checkReplies makes every reply that the frame may have.
func checkReplies(t testing.TB, frame []byte, info *packet.Info, number uint64) {
	if len(frame) > 3000 {
		return
	}
	switch {
	case info.Kind == packet.KindARP:
		checkARPReply(t, frame, info)
	case info.Kind == packet.KindIPv6 && info.Proto == 58 && info.ICMPType == 135 && info.Frag == 0:
		checkNeighborAdvert(t, frame, info)
	}
	if MayReset(frame, info) {
		checkReset(t, frame, info)
	}
	if MayReply(frame, info) {
		checkEchoReply(t, frame, info)
		checkErrorReplies(t, frame, info, number)
	}
}

// checkAnswer checks what all replies have in common.
func checkAnswer(t testing.TB, b *Buf, frame []byte, info *packet.Info) *packet.Info {
	t.Helper()
	out := b.Frame()
	after := verify(t, out)
	if !bytes.Equal(out[0:6], frame[6:12]) || !bytes.Equal(out[6:12], frame[0:6]) {
		t.Fatalf("link-layer addresses are %x, were %x", out[:12], frame[:12])
	}
	if !bytes.Equal(out[12:info.L3], frame[12:info.L3]) || after.L3 != info.L3 {
		t.Fatal("VLAN tags or EtherType were changed")
	}
	if after.Dst != info.Src || after.TTL != 64 || len(out) != int(after.L3+after.IPLen) {
		t.Fatalf("the answer says %+v", after)
	}
	return after
}

func checkEchoReply(t testing.TB, frame []byte, info *packet.Info) {
	b := newBuf(frame)
	want := reason.None
	switch {
	case info.Kind == packet.KindIPv4 && (info.Proto != 1 || info.ICMPType != 8), info.Kind == packet.KindIPv6 && (info.Proto != 58 || info.ICMPType != 128):
		want = reason.ICMPUnsupported
	case info.Frag != 0:
		want = reason.FragmentUnsupported
	}
	if got := EchoReply(b, info); got != want {
		t.Fatalf("reason is %v, want %v", got, want)
	}
	if want != reason.None {
		if !bytes.Equal(b.Frame(), frame) {
			t.Fatal("the frame was changed")
		}
		return
	}
	after := checkAnswer(t, b, frame, info)
	message, was := b.Frame()[after.L4:after.L3+after.IPLen], frame[info.L4:info.L3+info.IPLen]
	if after.Src != info.Dst || !bytes.Equal(message[4:], was[4:]) || message[1] != was[1] || after.ICMPType != map[uint8]uint8{8: 0, 128: 129}[info.ICMPType] {
		t.Fatalf("the message is %x, was %x", message, was)
	}
}

func checkErrorReplies(t testing.TB, frame []byte, info *packet.Info, number uint64) {
	rng := rand.New(rand.NewPCG(number, 3))
	is4 := info.Kind == packet.KindIPv4
	src, mtu := randomAddr(rng, is4), uint32(rng.IntN(65536))
	for _, want := range []struct {
		type4, code4, type6, code6 uint8
		rest                       uint32
		do                         func(*Buf) reason.Reason
	}{
		{3, 4, 2, 0, mtu, func(b *Buf) reason.Reason { return TooBig(b, info, src, mtu) }},
		{11, 0, 3, 0, 0, func(b *Buf) reason.Reason { return TimeExceeded(b, info, src) }},
		{3, 3, 1, 3, 0, func(b *Buf) reason.Reason { return Unreachable(b, info, src, 3) }},
	} {
		b := newBuf(frame)
		if r := want.do(b); r != reason.None {
			t.Fatalf("reason is %v", r)
		}
		after := checkAnswer(t, b, frame, info)
		limit, typ, code := 1280, want.type6, want.code6
		if is4 {
			limit, typ, code = 576, want.type4, want.code4
		}
		if after.Src != src || after.ICMPType != typ || after.ICMPCode != code {
			t.Fatalf("the error says %+v", after)
		}
		quote := b.Frame()[after.L4+8 : after.L3+after.IPLen]
		whole := frame[info.L3 : info.L3+info.IPLen]
		if room := limit - int(after.L3Len) - 8; len(quote) != min(len(whole), room) || !bytes.Equal(quote, whole[:len(quote)]) {
			t.Fatalf("the quote has %d bytes of %d", len(quote), len(whole))
		}
		if rest := binary.BigEndian.Uint32(b.Frame()[after.L4+4:]); rest != want.rest {
			t.Fatalf("the second word is %d, want %d", rest, want.rest)
		}
		if after.Inner.Src != info.Src || after.Inner.Dst != info.Dst || after.Inner.SrcPort != info.SrcPort {
			t.Fatalf("the quote says %+v of %+v", after.Inner, info)
		}
	}
}

func checkReset(t testing.TB, frame []byte, info *packet.Info) {
	b := newBuf(frame)
	if r := Reset(b, info); r != reason.None {
		t.Fatalf("reason is %v", r)
	}
	after := checkAnswer(t, b, frame, info)
	if after.Src != info.Dst || after.SrcPort != info.DstPort || after.DstPort != info.SrcPort || int(after.IPLen-after.L3Len) != 20 {
		t.Fatalf("the reset says %+v", after)
	}
	was, is := frame[info.L4:info.L3+info.IPLen], b.Frame()[after.L4:]
	if info.TCPFlags&0x10 != 0 {
		if after.TCPFlags != 0x04 || !bytes.Equal(is[4:8], was[8:12]) || !bytes.Equal(is[8:12], make([]byte, 4)) {
			t.Fatalf("the reset is %x to %x", is, was[:20])
		}
		return
	}
	next := binary.BigEndian.Uint32(was[4:]) + uint32(len(was)-int(was[12]>>4)*4) + uint32(was[13]&1) + uint32(was[13]>>1&1)
	if after.TCPFlags != 0x14 || !bytes.Equal(is[4:8], make([]byte, 4)) || binary.BigEndian.Uint32(is[8:]) != next {
		t.Fatalf("the reset is %x to %x", is, was[:20])
	}
}

func checkARPReply(t testing.TB, frame []byte, info *packet.Info) {
	out := bytes.Clone(frame)
	r := ARPReply(out, info, nodeMAC)
	if info.ARPOp != 1 {
		if r != reason.ARPMalformed || !bytes.Equal(out, frame) {
			t.Fatalf("reason is %v", r)
		}
		return
	}
	if r != reason.None {
		t.Fatalf("reason is %v", r)
	}
	want := bytes.Clone(frame)
	copy(want[0:], frame[6:12])
	copy(want[6:], nodeMAC[:])
	p, q := want[info.L3:], frame[info.L3:]
	p[7] = 2
	copy(p[8:], nodeMAC[:])
	copy(p[14:], q[24:28])
	copy(p[18:], q[8:18])
	if !bytes.Equal(out, want) {
		t.Fatalf("the reply is\n%x, want\n%x", out, want)
	}
}

func checkNeighborAdvert(t testing.TB, frame []byte, info *packet.Info) {
	b := newBuf(frame)
	if r := NeighborAdvert(b, info, nodeMAC); r != reason.None {
		t.Fatalf("reason is %v", r)
	}
	var target [16]byte
	copy(target[:], frame[info.L4+8:])
	message := append([]byte{136, 0, 0, 0, 0x60, 0, 0, 0}, target[:]...)
	message = append(append(message, 2, 1), nodeMAC[:]...)
	if info.Src.IsZero() {
		message[4] = 0x20
	}
	out := b.Frame()
	l4 := int(info.L3) + 40
	if len(out) != l4+len(message) {
		t.Fatalf("the frame has %d bytes, want %d", len(out), l4+len(message))
	}
	got := bytes.Clone(out[l4:])
	got[2], got[3] = 0, 0
	if !bytes.Equal(got, message) || out[info.L3+7] != 255 || !bytes.Equal(out[info.L3+8:info.L3+24], target[:]) {
		t.Fatalf("the advertisement is %x", out)
	}
	// Parse refuses sources that no host has, a target among them, so the
	// checksum is judged by itself.
	if e := transportError(out, &packet.Info{Kind: packet.KindIPv6, Proto: 58, L3: info.L3, L4: uint16(l4), IPLen: uint16(40 + len(message))}); e != 0 {
		t.Fatalf("the checksum is wrong by %#x", e)
	}
}

// quotedInfo describes the quoted packet as if it were the frame's own.
func quotedInfo(info *packet.Info) *packet.Info {
	in := info.Inner
	return &packet.Info{Kind: info.Kind, Proto: in.Proto, L3: in.L3, L4: in.L4, IPLen: in.End - in.L3, Frag: packet.FragAny | packet.FragFirst}
}

func checkICMPErrors(t testing.TB, frame []byte, info *packet.Info, number uint64) {
	if !isIP(info) {
		return
	}
	to := randomEnds(rand.New(rand.NewPCG(number, 4)), info.Kind == packet.KindIPv4)
	original := bytes.Clone(frame)
	r := ICMPToClient(frame, info, to)
	if info.Inner.Proto == 0 {
		if r != reason.ICMPMalformed || !bytes.Equal(frame, original) {
			t.Fatalf("reason is %v", r)
		}
		return
	}
	if r != reason.None {
		t.Fatalf("reason is %v", r)
	}
	if packettest.Verify(original) == nil {
		verify(t, frame)
	}
	after := parse(t, frame)
	in := after.Inner
	if after.Src != to.Src || after.Dst != to.Dst || in.Src != to.Dst || in.Dst != to.Src ||
		hasPorts(in.Proto) && !in.Fragment && (in.SrcPort != to.DstPort || in.DstPort != to.SrcPort) {
		t.Fatalf("the result says %+v", after)
	}
	if headerError(frame, after) != 0 || transportError(frame, after) != transportError(original, info) {
		t.Fatal("the checksums of the message are wrong")
	}
	quoted := quotedInfo(info)
	if headerError(frame, quoted) != headerError(original, quoted) {
		t.Fatal("the quoted header checksum has another error")
	}
	checkQuotedTransport(t, frame, original, info)

	// Nothing else has changed.
	is4 := info.Kind == packet.KindIPv4
	rest := func(b []byte) []byte {
		b = blank(b, is4, int(info.L3), int(info.L4), len(b), info.Proto, false)
		clear(b[info.L4+2 : info.L4+4])
		return blank(b, is4, int(in.L3), int(in.L4), int(in.End), in.Proto, !in.Fragment)
	}
	if !bytes.Equal(rest(frame), rest(original)) {
		t.Fatal("more was changed than addresses, ports and checksums")
	}
}

// checkQuotedTransport demands that a quoted transport checksum is as wrong as
// it was. What is missing of the quoted packet is the same before and after.
func checkQuotedTransport(t testing.TB, frame, original []byte, info *packet.Info) {
	t.Helper()
	in := info.Inner
	quote := original[in.L4:in.End]
	at, n, ok := checksumField(in.Proto)
	if in.Fragment || !ok || in.Proto == 132 || len(quote) < at+n || in.Proto == 58 && info.Kind == packet.KindIPv4 {
		return
	}
	quoted := quotedInfo(info)
	if transportError(frame, quoted) != transportError(original, quoted) {
		t.Fatal("the quoted transport checksum has another error")
	}
}
