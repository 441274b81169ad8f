package parity

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"fairlead/dataplane/memo"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
	"fairlead/dataplane/rewrite"
)

// errand is what is to be done with a frame.
type errand struct {
	op      memo.Op
	outer6  bool
	to      rewrite.NATArgs
	outer   rewrite.OuterArgs
	gue     uint16
	entropy uint32
}

func randomErrand(r *rand.Rand, op memo.Op, outer6, is6 bool) errand {
	e := errand{op: op, outer6: outer6, gue: uint16(r.Uint32()), entropy: r.Uint32()}
	e.to = rewrite.NATArgs{Src: randomAddr(r, is6), Dst: randomAddr(r, is6), SrcPort: randomWord(r), DstPort: randomWord(r)}
	e.outer = rewrite.OuterArgs{Src: randomAddr(r, outer6), Dst: randomAddr(r, outer6), Entropy: e.entropy, TTL: uint8(r.Uint32())}
	for i := range 6 {
		e.outer.DstMAC[i], e.outer.SrcMAC[i] = byte(r.Uint32()), byte(r.Uint32())
	}
	if r.IntN(8) == 0 {
		e.entropy &^= 0xfffff // no flow label
		e.outer.Entropy = e.entropy
	}
	return e
}

// randomWord has the words at which checksums go wrong more often than chance.
func randomWord(r *rand.Rand) uint16 {
	switch r.IntN(6) {
	case 0:
		return 0
	case 1:
		return 0xffff
	}
	return uint16(r.Uint32())
}

func randomAddr(r *rand.Rand, is6 bool) packet.Addr {
	word := func() uint64 { return uint64(randomWord(r)) }
	low := word()<<16 | word()
	if !is6 {
		return packet.Addr{Lo: 0xffff<<32 | low}
	}
	// Of 2001:db8::/32, so that it is no IPv4 address.
	return packet.Addr{Hi: 0x20010db8<<32 | word()<<16 | word(), Lo: word()<<48 | word()<<32 | low}
}

// route is the errand as the kernel is told of it.
func (e *errand) route(ifindex int) memo.Route {
	r := memo.Route{
		IfIndex: uint32(ifindex), MTU: longest, Op: e.op, Flags: memo.InKernel,
		DstMAC: e.outer.DstMAC, SrcMAC: e.outer.SrcMAC, GUEPort: e.gue, TTL: e.outer.TTL,
		Src: e.outer.Src, Dst: e.outer.Dst,
	}
	if e.outer6 {
		r.Flags |= memo.Outer6
	} else if e.op == memo.IPIP || e.op == memo.GUE {
		h := []byte{0x45, 0, e.outer.TTL, 0}
		if e.op == memo.GUE {
			h[3] = packet.ProtoUDP
		}
		r.Sum = packet.Sum(bytesOf(e.outer.Src, e.outer.Dst, 0, false), packet.Sum(h, 0))
	}
	if e.op == memo.NATForward || e.op == memo.NATReply {
		r.Src, r.Dst = e.to.Src, e.to.Dst
	}
	return r
}

// words are the entry's words for NAT.
func (e *errand) words(p *program, frame []byte, key memo.Key, dst packet.Addr) (nat, viaHi, viaLo uint64) {
	if e.op != memo.NATForward && e.op != memo.NATReply {
		return 0, 0, 0
	}
	l3 := bytesOf(packet.Addr{Hi: key.Hi, Lo: key.Lo}, dst, 0, false)
	l3after := bytesOf(e.to.Src, e.to.Dst, 0, false)
	l4 := bytesOf(packet.Addr{Hi: key.Hi, Lo: key.Lo}, dst, uint32(key.Rest>>32), true)
	l4after := bytesOf(e.to.Src, e.to.Dst, uint32(e.to.SrcPort)<<16|uint32(e.to.DstPort), true)
	nat = uint64(e.to.SrcPort)<<48 | uint64(e.to.DstPort)<<32 | delta(l3, l3after)<<16 | delta(l4, l4after)
	if e.op == memo.NATReply {
		return nat, e.to.Dst.Hi, e.to.Dst.Lo
	}
	var mac [8]byte
	copy(mac[2:], frame[6:12])
	return nat, binary.BigEndian.Uint64(mac[:]), uint64(p.ifindex)
}

func bytesOf(src, dst packet.Addr, ports uint32, withPorts bool) []byte {
	b := append(src.Netip().AsSlice(), dst.Netip().AsSlice()...)
	if withPorts {
		b = binary.BigEndian.AppendUint32(b, ports)
	}
	return b
}

// delta is by how much a checksum changes, word by word (RFC 1624, equation 3).
func delta(before, after []byte) uint64 {
	var sum uint64
	for i := 0; i < len(before); i += 2 {
		sum += uint64(^binary.BigEndian.Uint16(before[i:])) + uint64(binary.BigEndian.Uint16(after[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum
}

// isPlain says of a frame that Parse found nothing wrong with whether a memo may
// forward it.
func isPlain(frame []byte, info *packet.Info) bool {
	l3Len, ok := uint16(packet.IPv6Len), info.Kind == packet.KindIPv6
	if info.Kind == packet.KindIPv4 {
		l3Len, ok = packet.IPv4MinLen, frame[20]&0x80 == 0
	}
	if !ok || info.VLANs != 0 || info.L3Len != l3Len || info.Frag != 0 || info.TTL < 2 || frame[0]&1 != 0 || info.IPLen > longest {
		return false
	}
	const ends = packet.TCPFlagSYN | packet.TCPFlagFIN | packet.TCPFlagRST
	return info.Proto == packet.ProtoUDP || info.Proto == packet.ProtoTCP && info.TCPFlags&ends == 0
}

// rewritten is the frame as the worker would send it.
func (e *errand) rewritten(frame []byte, info *packet.Info) ([]byte, reason.Reason) {
	const headroom = 128
	chunk := append(make([]byte, headroom), frame...)
	buf := rewrite.Buf{Chunk: chunk, Start: headroom, End: len(chunk)}
	rewrite.DecrementTTL(buf.Frame(), info)
	r := reason.None
	switch e.op {
	case memo.NATForward, memo.NATReply:
		r = rewrite.NAT(buf.Frame(), info, &e.to)
		rewrite.SetMACs(buf.Frame(), e.outer.DstMAC, e.outer.SrcMAC)
	case memo.L2:
		rewrite.SetMACs(buf.Frame(), e.outer.DstMAC, e.outer.SrcMAC)
	case memo.IPIP:
		r = rewrite.IPIP(&buf, info, &e.outer)
	case memo.GUE:
		r = rewrite.GUE(&buf, info, &rewrite.GUEArgs{OuterArgs: e.outer, SrcPort: rewrite.GUESourcePort(e.entropy), DstPort: e.gue})
	}
	return buf.Frame(), r
}

// check gives a frame to the program, with a memo that would forward it, and
// compares what it does with what the worker does. It returns whether the frame
// was forwarded.
func check(t testing.TB, p *program, frame []byte, e *errand) bool {
	t.Helper()
	key, dst, ok := rawKey(frame)
	if !ok || !p.serve(dst) {
		return false
	}
	nat, viaHi, viaLo := e.words(p, frame, key, packet.AddrFrom(dst))
	p.set(t, key, e.route(p.ifindex), nat, viaHi, viaLo, e.entropy)
	action, out := p.run(t, frame)

	var info packet.Info
	parsed := packet.Parse(frame, &info)
	if parsed == reason.SourceInvalid {
		return false // such a source has no memo
	}
	if parsed != reason.None || !isPlain(frame, &info) {
		if action == xdpCarried || !bytes.Equal(out, frame) {
			t.Errorf("a frame that is not plain (%v): action %d\n%x, was\n%x", parsed, action, out, frame)
		}
		return false
	}
	if action != xdpCarried {
		t.Errorf("a plain frame: action %d\n%x", action, frame)
		return false
	}
	want, r := e.rewritten(frame, &info)
	if r != reason.None {
		t.Fatalf("rewrite: %v", r)
	}
	if (e.op == memo.IPIP || e.op == memo.GUE) && !e.outer6 && !info.DontFragment {
		out, want = withoutID(t, out), withoutID(t, want)
	}
	if !bytes.Equal(out, want) {
		t.Errorf("%+v:\n%x, worker\n%x, was\n%x", *e, out, want, frame)
	}
	var sum memo.Count
	for _, c := range p.counts {
		sum.Packets, sum.Bytes, sum.BytesSent = sum.Packets+c.Packets, sum.Bytes+c.Bytes, sum.BytesSent+c.BytesSent
	}
	if sum.Packets != 1 || sum.Bytes != uint64(len(frame)) || sum.BytesSent != uint64(len(want)) {
		t.Errorf("counted %+v for a frame of %d bytes that left with %d", sum, len(frame), len(want))
	}
	return true
}

// withoutID takes the outer identification, and the checksum over it, out of a
// frame after checking the latter.
func withoutID(t testing.TB, frame []byte) []byte {
	t.Helper()
	frame = bytes.Clone(frame)
	if packet.Fold(packet.Sum(frame[14:34], 0)) != 0xffff {
		t.Errorf("the outer header's checksum is wrong: %x", frame)
	}
	clear(frame[18:20])
	clear(frame[24:26])
	return frame
}

// way is an operation and the family of its outer header.
type way struct {
	op     memo.Op
	outer6 bool
}

var allWays = []way{{memo.NATForward, false}, {memo.NATReply, false}, {memo.IPIP, false}, {memo.IPIP, true}, {memo.GUE, false}, {memo.L2, false}}

// randomPlain is a plain packet.
func randomPlain(r *rand.Rand, is6 bool) []byte {
	src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(r.Uint32()), byte(r.Uint32())}), randomWord(r))
	dst := packettest.AddrPort("203.0.113.10:80")
	if is6 {
		src = netip.AddrPortFrom(randomAddr(r, true).Netip(), randomWord(r))
		dst = packettest.AddrPort("[2001:db8:1::1]:80")
	}
	opts := []packettest.Option{
		packettest.TTL(uint8(2 + r.IntN(254))), packettest.TOS(uint8(r.Uint32())), packettest.ID(uint32(r.Uint32() & 0xffff)),
		packettest.Trailer(r.IntN(3) * r.IntN(30)),
	}
	payload := make([]byte, []int{0, 1, r.IntN(64), r.IntN(1400)}[r.IntN(4)])
	for i := range payload {
		payload[i] = byte(r.Uint32())
	}
	opts = append(opts, packettest.Payload(payload))
	if r.IntN(2) == 0 && !is6 {
		opts = append(opts, packettest.DF())
	}
	if r.IntN(8) == 0 {
		opts = append(opts, packettest.BadChecksum())
	}
	var f []byte
	if r.IntN(2) == 0 {
		opts = append(opts, packettest.Flags([]byte{0x10, 0x18, 0x30, 0x08, 0x90, 0x50}[r.IntN(6)]), packettest.TCPOptions(make([]byte, 4*r.IntN(11))...))
		f = packettest.TCP(src, dst, opts...)
	} else {
		if r.IntN(4) == 0 {
			opts = append(opts, packettest.NoUDPChecksum())
		}
		f = packettest.UDP(src, dst, opts...)
	}
	// Checksums, wrong as they may be, at which sums wrap around.
	if r.IntN(4) == 0 {
		binary.BigEndian.PutUint16(f[checksumAt(f):], []uint16{0, 1, 0xfffe, 0xffff}[r.IntN(4)])
	}
	if r.IntN(8) == 0 {
		zeroHeaderChecksum(r, f)
	}
	return f
}

func checksumAt(f []byte) int {
	l4, proto := 34, f[23]
	if binary.BigEndian.Uint16(f[12:]) == packet.EtherTypeIPv6 {
		l4, proto = 54, f[20]
	}
	if proto == packet.ProtoTCP {
		return l4 + 16
	}
	return l4 + 6
}

// zeroHeaderChecksum makes an IPv4 header whose right checksum is zero, in
// either form of zero.
func zeroHeaderChecksum(r *rand.Rand, f []byte) {
	if binary.BigEndian.Uint16(f[12:]) != packet.EtherTypeIPv4 {
		return
	}
	clear(f[18:20])
	clear(f[24:26])
	binary.BigEndian.PutUint16(f[18:], packet.Checksum(f[14:34]))
	if r.IntN(2) == 0 {
		binary.BigEndian.PutUint16(f[24:], 0xffff)
	}
}

// TestParity compares the program with the worker on random plain packets, by
// every operation.
func TestParity(t *testing.T) {
	p := newProgram(t)
	r := rand.New(rand.NewPCG(3, 14))
	for _, w := range allWays {
		for _, is6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("op %d, outer IPv6 %v, IPv6 %v", w.op, w.outer6, is6), func(t *testing.T) {
				forwarded := 0
				const packets = 1500
				for range packets {
					e := randomErrand(r, w.op, w.outer6, is6)
					if check(t, p, randomPlain(r, is6), &e) {
						forwarded++
					}
					if t.Failed() {
						return
					}
				}
				if forwarded < packets*9/10 {
					t.Errorf("%d of %d packets were forwarded", forwarded, packets)
				}
			})
		}
	}
}

// FuzzParity compares the program with the worker on any frame. With repair, an
// IPv4 header's checksum is made right first.
func FuzzParity(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for i, w := range allWays {
		for _, is6 := range []bool{false, true} {
			f.Add(randomPlain(r, is6), uint8(i), uint64(i), false)
			f.Add(randomPlain(r, is6), uint8(i), uint64(w.op), true)
		}
	}
	src, dst := packettest.AddrPort("198.18.0.1:1000"), packettest.AddrPort("203.0.113.10:80")
	for i, opt := range []packettest.Option{
		packettest.TTL(1), packettest.VLAN(100), packettest.BadIPChecksum(), packettest.Fragment(0, true, 1),
		packettest.Fragment(8, false, 1), packettest.UDPLength(7), packettest.UDPLength(2000), packettest.PayloadLen(1479),
	} {
		f.Add(packettest.UDP(src, dst, opt), uint8(i), uint64(i), false)
	}
	for flags := range 64 {
		f.Add(packettest.TCP(src, dst, packettest.Flags(uint8(flags))), uint8(flags), uint64(flags), false)
	}
	p := newProgram(f)
	f.Fuzz(func(t *testing.T, frame []byte, which uint8, seed uint64, repair bool) {
		if len(frame) < 14 || len(frame) > 1514 {
			return
		}
		frame = bytes.Clone(frame)
		is6 := binary.BigEndian.Uint16(frame[12:]) == packet.EtherTypeIPv6
		if repair && !is6 && len(frame) >= 34 {
			clear(frame[24:26])
			binary.BigEndian.PutUint16(frame[24:], packet.Checksum(frame[14:34]))
		}
		w := allWays[int(which)%len(allWays)]
		e := randomErrand(rand.New(rand.NewPCG(seed, 0)), w.op, w.outer6, is6)
		check(t, p, frame, &e)
	})
}
