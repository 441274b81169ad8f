package dataplane_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// reassembler puts fragments together as a receiver does, with nothing of
// package packet: RFC 791 section 3.2, RFC 8200 section 4.5.
type reassembler struct {
	t     testing.TB
	parts map[string]*datagram
	whole [][]byte // frames of complete packets, in the order they became so
}

type datagram struct {
	link, header []byte
	data         []byte
	have         []bool
	end          int // length of the data, -1 while unknown
}

// take accepts the frame of a fragment or of a whole packet.
func (r *reassembler) take(frame []byte) {
	r.t.Helper()
	ip := packettest.IPPacket(frame)
	link := frame[:14]
	if ip[0]>>4 == 4 {
		word := binary.BigEndian.Uint16(ip[6:])
		if word&0x3fff == 0 {
			r.whole = append(r.whole, frame)
			return
		}
		header := int(ip[0]&15) * 4
		r.add(fmt.Sprintf("%x %x %x", ip[12:20], ip[4:6], ip[9]), link, ip[:header], ip[header:], int(word&0x1fff)*8, word&0x2000 != 0)
		return
	}
	if ip[6] != 44 {
		r.whole = append(r.whole, frame)
		return
	}
	f := ip[40:48]
	header := append([]byte(nil), ip[:40]...)
	header[6] = f[0]
	word := binary.BigEndian.Uint16(f[2:])
	r.add(fmt.Sprintf("%x %x", ip[8:40], f[4:8]), link, header, ip[48:], int(word&^7), word&1 != 0)
}

func (r *reassembler) add(key string, link, header, data []byte, offset int, more bool) {
	r.t.Helper()
	if r.parts == nil {
		r.parts = make(map[string]*datagram)
	}
	d := r.parts[key]
	if d == nil {
		d = &datagram{end: -1, data: make([]byte, 65536), have: make([]bool, 65536)}
		r.parts[key] = d
	}
	if offset == 0 {
		d.link, d.header = link, header
	}
	if !more {
		d.end = offset + len(data)
	}
	for i, b := range data {
		if d.have[offset+i] && d.data[offset+i] != b {
			r.t.Fatalf("fragments differ where they overlap, at byte %d", offset+i)
		}
		d.data[offset+i], d.have[offset+i] = b, true
	}
	if d.end < 0 || d.header == nil {
		return
	}
	for i := range d.end {
		if !d.have[i] {
			return
		}
	}
	delete(r.parts, key)
	ip := append(append([]byte(nil), d.header...), d.data[:d.end]...)
	if ip[0]>>4 == 4 {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		ip[6], ip[7], ip[10], ip[11] = 0, 0, 0, 0
		sum := 0
		for i := 0; i < len(d.header); i += 2 {
			sum += int(binary.BigEndian.Uint16(ip[i:]))
		}
		for sum > 0xffff {
			sum = sum>>16 + sum&0xffff
		}
		binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
	}
	r.whole = append(r.whole, append(append([]byte(nil), d.link...), ip...))
}

// unwrap takes the outer headers of a tunnel off a frame.
func unwrap(t testing.TB, op dataplane.Op, frame []byte) []byte {
	t.Helper()
	if op != dataplane.OpIPIP && op != dataplane.OpGUE {
		return frame
	}
	if err := packettest.Verify(frame); err != nil {
		t.Fatal(err)
	}
	ip := packettest.IPPacket(frame)
	cut := 20
	if ip[0]>>4 == 6 {
		cut = 40
	}
	if op == dataplane.OpGUE {
		cut += 12
	}
	inner := ip[cut:]
	out := append([]byte(nil), frame[:14]...)
	out[12], out[13] = 0x08, 0x00
	if inner[0]>>4 == 6 {
		out[12], out[13] = 0x86, 0xdd
	}
	return append(out, inner...)
}

// fragmentServices are UDP services, one for each way to carry fragments.
func fragmentServices() []testService {
	var list []testService
	for i, c := range []struct {
		method  fib.Method
		v6      bool
		backend string
	}{
		{fib.MethodNAT, false, "198.18.10.11:80"}, {fib.MethodNAT, true, "[2001:db8:10::11]:80"},
		{fib.MethodL2, false, "198.18.10.11:80"}, {fib.MethodL2, true, "[2001:db8:10::11]:80"},
		{fib.MethodIPIP, false, "198.18.10.11:80"}, {fib.MethodIPIP, true, "198.18.10.11:80"}, {fib.MethodIPIP, false, "[2001:db8:10::11]:80"},
		{fib.MethodGUE, false, "198.18.10.11:80"}, {fib.MethodGUE, true, "[2001:db8:10::11]:80"},
	} {
		vip := fmt.Sprintf("198.18.100.%d", 1+i)
		if c.v6 {
			vip = fmt.Sprintf("2001:db8:100::%d", 1+i)
		}
		list = append(list, testService{vip: vip, proto: packet.ProtoUDP, port: 80, method: c.method, backends: []string{c.backend}})
	}
	return list
}

func fragmentEnds(s testService, client int) (src, dst netip.AddrPort) {
	dst = netip.AddrPortFrom(netip.MustParseAddr(s.vip), 80)
	if dst.Addr().Is6() {
		return netip.MustParseAddrPort(fmt.Sprintf("[2001:db8:20::%x]:4000", 1+client)), dst
	}
	return netip.MustParseAddrPort(fmt.Sprintf("203.0.113.%d:4000", 1+client)), dst
}

// TestFragmentsInAnyOrder sends the fragments of several datagrams mixed and
// with duplicates, with every method and family: each datagram reaches its
// backend whole, with a right checksum.
func TestFragmentsInAnyOrder(t *testing.T) {
	for _, s := range fragmentServices() {
		t.Run(fmt.Sprint(s.method, " ", s.vip, " to ", s.backends[0]), func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			n := newNode(t, s)
			for round := range 30 {
				var frames [][]byte
				payloads := make(map[string]bool)
				for client := range 5 {
					src, dst := fragmentEnds(s, client)
					payload := make([]byte, 1500+random.IntN(4000))
					for i := range payload {
						payload[i] = byte(random.IntN(256))
					}
					payloads[string(payload)] = false
					// Direct reply keeps the clients apart. With NAT all fragments
					// come from one address, and identifications must differ.
					id := uint32(1000*round + client%2)
					if s.method == fib.MethodNAT {
						id = uint32(1000*round + client)
					}
					whole := packettest.UDP(src, dst, packettest.MACs(ourMAC0, clientMAC), packettest.Payload(payload), packettest.ID(id))
					frames = append(frames, packettest.Fragments(whole, 700+random.IntN(400), id)...)
				}
				frames = append(frames, frames[random.IntN(len(frames))], frames[random.IntN(len(frames))])
				random.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
				sent, verdicts := n.exchange(0, frames...)
				if len(sent[1]) != len(frames) {
					t.Fatalf("%d of %d fragments were sent: %+v", len(sent[1]), len(frames), verdicts)
				}
				r := &reassembler{t: t}
				for _, f := range sent[1] {
					r.take(unwrap(t, verdicts[0].Op, f))
				}
				for _, f := range r.whole {
					if err := packettest.Verify(f); err != nil {
						t.Fatal(err)
					}
					var info packet.Info
					if reason := packet.Parse(f, &info); reason != 0 {
						t.Fatal(reason)
					}
					payload := string(f[int(info.L4)+8:])
					if _, known := payloads[payload]; !known {
						t.Fatal("a datagram has changed")
					}
					payloads[payload] = true
				}
				for _, arrived := range payloads {
					if !arrived {
						t.Fatal("a datagram is not whole")
					}
				}
				n.now += 10_000
				n.worker.Step()
			}
		})
	}
}

// TestFragmentsWithLaterExtensions has extension headers after the fragment
// header, so that a later fragment does not tell its transport protocol.
func TestFragmentsWithLaterExtensions(t *testing.T) {
	s := fragmentServices()[1]
	src, dst := fragmentEnds(s, 0)
	macs := packettest.MACs(ourMAC0, clientMAC)
	payload := bytes.Repeat([]byte{7}, 64)
	first := packettest.UDP(src, dst, macs, packettest.Fragment(0, true, 9), packettest.DestOpts(1), packettest.Payload(payload), packettest.UDPLength(136))
	later := packettest.IP(src.Addr(), dst.Addr(), packet.ProtoDestOpts, payload, macs, packettest.Fragment(80, false, 9))
	for name, frames := range map[string][][]byte{"in order": {first, later}, "the other way": {later, first}} {
		n := newNode(t, s)
		sent, verdicts := n.exchange(0, frames...)
		if len(sent[1]) != 2 {
			t.Fatalf("%s: %+v", name, verdicts)
		}
		for _, f := range sent[1] {
			if ip := packettest.IPPacket(f); !bytes.Equal(ip[24:40], packettest.Addr("2001:db8:10::11").AsSlice()) {
				t.Errorf("%s: a fragment goes to %x", name, ip[24:40])
			}
		}
	}
}

// piecesOf are the fragments of one datagram to the service, in order.
func piecesOf(s testService, client int, id uint32) [][]byte {
	src, dst := fragmentEnds(s, client)
	whole := packettest.UDP(src, dst, packettest.MACs(ourMAC0, clientMAC), packettest.PayloadLen(2000), packettest.ID(id))
	return packettest.Fragments(whole, 700, id)
}

// TestFragmentsHeldWithinLimits asserts how many fragments wait for their
// first one, and how long.
func TestFragmentsHeldWithinLimits(t *testing.T) {
	s := fragmentServices()[0]
	n := newNode(t, s)
	n.b.Settings.FragHold = 3
	n.publish()
	pieces := piecesOf(s, 0, 1)
	var later [][]byte
	for i := range 5 {
		later = append(later, piecesOf(s, i, 7)[1])
	}
	_, verdicts := n.exchange(0, later...)
	if len(verdicts) != 2 || verdicts[0].Reason != reason.FragmentLimit || verdicts[1].Reason != reason.FragmentLimit {
		t.Fatalf("%+v", verdicts)
	}
	if n.ledger.InFlight != 3 {
		t.Fatalf("%d are in flight", n.ledger.InFlight)
	}
	n.now += 1000 // frag_hold is over after this millisecond
	_, verdicts = n.exchange(0)
	if len(verdicts) != 0 {
		t.Fatalf("%+v", verdicts)
	}
	n.now++
	_, verdicts = n.exchange(0)
	if len(verdicts) != 3 || verdicts[0].Reason != reason.FragmentTimeout {
		t.Fatalf("%+v", verdicts)
	}
	// What the first one said is remembered for as long as is configured.
	_, v := n.one(0, pieces[0])
	n.expect(v, reason.ForwardNew)
	n.now += 5000
	_, v = n.one(0, pieces[1])
	n.expect(v, reason.FragmentForward)
	n.now++
	if _, verdicts = n.exchange(0, pieces[2]); len(verdicts) != 0 {
		t.Fatalf("%+v", verdicts)
	}
	n.worker.Close()
	if n.ledger.Ended[reason.FragmentTimeout] != 4 || n.ledger.InFlight != 0 {
		t.Errorf("after Close %+v", n.ledger)
	}
	n.check()
}

// TestFragmentIDsAreUsedAgain has a client use an identification again from
// another port: later fragments follow the latest first one.
func TestFragmentIDsAreUsedAgain(t *testing.T) {
	s := fragmentServices()[0]
	n := newNode(t, s)
	for port := range uint16(3) {
		src, dst := fragmentEnds(s, 0)
		src = netip.AddrPortFrom(src.Addr(), 5000+port)
		whole := packettest.UDP(src, dst, packettest.MACs(ourMAC0, clientMAC), packettest.PayloadLen(2000), packettest.ID(3))
		sent, verdicts := n.exchange(0, packettest.Fragments(whole, 700, 0)...)
		if len(verdicts) != 3 || verdicts[0].Reason != reason.ForwardNew || verdicts[1].Reason != reason.FragmentForward {
			t.Fatalf("%+v", verdicts)
		}
		r := &reassembler{t: t}
		for _, f := range sent[1] {
			r.take(f)
		}
		if len(r.whole) != 1 {
			t.Fatal("the datagram is not whole")
		}
		if err := packettest.Verify(r.whole[0]); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFragmentTrackerIsBounded has more first fragments come than are
// remembered: the oldest are forgotten, and their later ones wait in vain.
func TestFragmentTrackerIsBounded(t *testing.T) {
	s := fragmentServices()[2]
	n := newNode(t, s)
	n.quiet = true
	for id := range uint32(40_000) {
		n.queues[0].Inject(piecesOf(s, int(id%200), id)[0])
		if id%32 == 31 {
			n.worker.Step()
			n.queues[1].Sent()
		}
	}
	n.quiet = false
	_, verdicts := n.exchange(0, piecesOf(s, 0, 0)[1], piecesOf(s, 39_999%200, 39_999)[1])
	if len(verdicts) != 1 || verdicts[0].Reason != reason.FragmentForward {
		t.Fatalf("%+v", verdicts)
	}
	n.now += 2000
	_, verdicts = n.exchange(0)
	if len(verdicts) != 1 || verdicts[0].Reason != reason.FragmentTimeout {
		t.Fatalf("%+v", verdicts)
	}
}

// TestLaterFragmentsFareAsTheFirst asserts that fragments of a packet whose
// first one is refused are refused for the same reason.
func TestLaterFragmentsFareAsTheFirst(t *testing.T) {
	for want, change := range map[reason.Reason]func(*fib.Builder){
		reason.ServiceNotFound:   func(b *fib.Builder) { b.Matches = nil },
		reason.ServiceEmpty:      func(b *fib.Builder) { b.Pools[0].TableSize, b.Services[1].Gone = 0, fib.GoneDrop },
		reason.NextHopUnresolved: func(b *fib.Builder) { b.NextHops[0].Resolved = 0 },
		reason.SourceNotAllowed: func(b *fib.Builder) {
			b.SourceRanges = []fib.SourceRange{fib.SourceRangeFrom(netip.MustParsePrefix("192.0.2.0/24"))}
			b.Services[1].RangeCount = 1
		},
	} {
		t.Run(want.String(), func(t *testing.T) {
			s := fragmentServices()[4] // direct reply: what fails is the same for all
			n := newNode(t, s)
			change(n.b)
			n.publish()
			pieces := piecesOf(s, 0, 1)
			_, verdicts := n.exchange(0, pieces[2], pieces[0], pieces[1])
			if len(verdicts) != 3 {
				t.Fatalf("%+v", verdicts)
			}
			for _, v := range verdicts {
				n.expect(v, want)
			}
		})
	}
}

// TestCutting asserts that IPv4 packets that are too big for the way ahead and
// may be fragmented arrive in pieces that fit, with each method, whole or
// fragments themselves.
func TestCutting(t *testing.T) {
	for _, s := range fragmentServices() {
		if netip.MustParseAddr(s.vip).Is6() {
			continue
		}
		for _, mtu := range []uint32{1300, 576, 128} {
			t.Run(fmt.Sprint(s.method, " to ", s.backends[0], " MTU ", mtu), func(t *testing.T) {
				n := newNode(t, s)
				n.b.Backends[1].MTU = mtu
				n.publish()
				src, dst := fragmentEnds(s, 0)
				macs := packettest.MACs(ourMAC0, clientMAC)
				frames := [][]byte{packettest.UDP(src, dst, macs, packettest.PayloadLen(1472), packettest.ID(1))}
				frames = append(frames, packettest.Fragments(packettest.UDP(src, dst, macs, packettest.PayloadLen(4000), packettest.ID(2)), 1400, 0)...)
				r := &reassembler{t: t}
				pieces := 0
				for _, f := range frames {
					sent, v := n.one(0, f)
					for _, p := range sent[1] {
						pieces++
						if l := len(p) - 14; l > int(mtu) {
							t.Fatalf("a packet of %d bytes is sent", l)
						}
						r.take(unwrap(t, v.Op, p))
					}
				}
				if len(r.whole) != 2 {
					t.Fatalf("%d of 2 datagrams are whole: %v", len(r.whole), n.ledger.Ended)
				}
				for _, f := range r.whole {
					if err := packettest.Verify(f); err != nil {
						t.Fatal(err)
					}
				}
				if got := uint64(pieces - len(frames)); n.ledger.Created != got {
					t.Errorf("%d frames were created, the ledger says %d", got, n.ledger.Created)
				}
			})
		}
	}
}

// TestCuttingWithoutChunks takes the free chunks away in the middle of cutting.
func TestCuttingWithoutChunks(t *testing.T) {
	s := fragmentServices()[4]
	for left := range 4 {
		n := newNode(t, s)
		n.b.Backends[1].MTU = 576
		n.publish()
		var taken []uint64
		for n.pool.Count(0) > left {
			chunk, _ := n.pool.Get()
			taken = append(taken, chunk)
		}
		src, dst := fragmentEnds(s, 0)
		sent, _ := n.exchange(0, packettest.UDP(src, dst, packettest.MACs(ourMAC0, clientMAC), packettest.PayloadLen(1472)))
		if want := min(left, 2); n.ledger.Created != uint64(want) {
			t.Errorf("%d chunks left: %d created", left, n.ledger.Created)
		}
		if want := uint64(1); left < 2 && n.ledger.Ended[reason.TooBig] != want {
			t.Errorf("%d chunks left: %d too big, %d sent", left, n.ledger.Ended[reason.TooBig], len(sent[1]))
		}
		for _, chunk := range taken {
			n.pool.Put(chunk)
		}
		n.check()
	}
}

// TestChunksAreLeftForCutting asserts that a worker does not give all of its
// chunks to the fill rings, however large those are.
func TestChunksAreLeftForCutting(t *testing.T) {
	n := newNode(t, fragmentServices()[4])
	if free := n.pool.Count(0); free < 128 {
		t.Errorf("%d of %d chunks are free", free, n.pool.Chunks())
	}
}
