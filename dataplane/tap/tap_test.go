package tap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"unsafe"

	"go.uber.org/goleak"

	"fairlead/dataplane/nic"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// aligned is memory for so many workers, aligned to words.
func aligned(workers int) []byte {
	words := make([]uint64, Size(workers)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), Size(workers))
}

func pair(t testing.TB, workers int) (*Reader, []*Writer, []byte) {
	t.Helper()
	mem := aligned(workers)
	r, err := NewReader(mem, workers)
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWriters(mem, workers)
	if err != nil {
		t.Fatal(err)
	}
	return r, w, mem
}

func open(t testing.TB, r *Reader, f Filter) int {
	t.Helper()
	slot, _, err := r.Open(&f)
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

var everything = Ending(reason.Drop, reason.Pass, reason.Transmit)

// TestRing carries packets of all lengths through a ring many times its size
// and demands each of them unchanged, in order.
func TestRing(t *testing.T) {
	r, ws, _ := pair(t, 1)
	w := ws[0]
	open(t, r, Filter{Reasons: everything, Snap: MaxSnap, Flags: Received | Sent})
	if !w.Refresh(monotonic()) {
		t.Fatal("the worker sees no tap")
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	var sent []Packet
	total := 0
	check := func() {
		var got []Record
		if _, err := r.Read(func(c *Record) {
			one := *c
			one.Frame = bytes.Clone(c.Frame)
			got = append(got, one)
		}); err != nil {
			t.Fatal(err)
		}
		var want []Record
		for _, p := range sent {
			if p.Came != nil {
				want = append(want, Record{Frame: p.Came, Length: p.CameLen, Port: p.Port, Altered: p.Altered})
			}
			if p.Left != nil {
				want = append(want, Record{Frame: p.Left, Length: uint32(len(p.Left)), Port: p.Out, Sent: true})
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%d records, want %d", len(got), len(want))
		}
		for i := range got {
			g, w := got[i], want[i]
			keep := min(len(w.Frame), MaxSnap)
			if !bytes.Equal(g.Frame, w.Frame[:keep]) || g.Length != w.Length || g.Port != w.Port || g.Sent != w.Sent || g.Altered != w.Altered {
				t.Fatalf("record %d differs", i)
			}
		}
		sent = sent[:0]
	}
	for total < 5*RingSize {
		p := Packet{Reason: reason.ForwardNew, Service: rnd.Uint32(), Backend: rnd.Uint32(), Port: uint16(rnd.Uint32()), Out: uint16(rnd.Uint32()), Altered: rnd.IntN(2) == 0}
		if rnd.IntN(5) > 0 {
			p.Came = random(rnd, rnd.IntN(5000))
			p.CameLen = uint32(len(p.Came))
		}
		if rnd.IntN(3) > 0 {
			p.Left = random(rnd, rnd.IntN(5000))
		}
		w.Note(&p)
		sent = append(sent, p)
		total += len(p.Came) + len(p.Left)
		if len(sent) > 200 {
			check()
		}
	}
	check()
	if c := r.Counts(0); c.Lost != 0 {
		t.Errorf("%d packets were lost", c.Lost)
	}
}

func random(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// TestReaderAndWriterAtOnce has one goroutine show packets while another reads
// them: whatever is not counted as lost arrives whole and in order.
func TestReaderAndWriterAtOnce(t *testing.T) {
	const packets = 50_000
	r, ws, _ := pair(t, 1)
	w := ws[0]
	slot := open(t, r, Filter{Reasons: everything, Snap: MaxSnap, Flags: Received})
	w.Refresh(monotonic())
	var done atomic.Bool
	go func() {
		defer done.Store(true)
		frame := make([]byte, 1500)
		for i := range uint64(packets) {
			for at := 0; at+4 <= len(frame); at += 8 {
				binary.LittleEndian.PutUint32(frame[at:], uint32(i))
			}
			n := 4 + int(i*37%1496)
			w.Note(&Packet{Came: frame[:n], CameLen: uint32(n), Reason: reason.ForwardFlow})
		}
	}()
	seen, last := uint64(0), int64(-1)
	read := func() {
		if _, err := r.Read(func(c *Record) {
			i := int64(binary.LittleEndian.Uint32(c.Frame))
			if i <= last || int(c.Length) != 4+int(i*37%1496) || len(c.Frame) != int(c.Length) {
				t.Errorf("packet %d after %d, %d bytes", i, last, len(c.Frame))
			}
			for at := 0; at+4 <= len(c.Frame); at += 8 {
				if int64(binary.LittleEndian.Uint32(c.Frame[at:])) != i {
					t.Errorf("packet %d is torn", i)
				}
			}
			last = i
			seen++
		}); err != nil {
			t.Error(err)
		}
	}
	for !done.Load() {
		read()
		runtime.Gosched()
	}
	read()
	c := r.Counts(slot)
	if c.Matched != packets || seen+c.Lost != packets {
		t.Errorf("%d shown, %d lost, %d matched; %d were noted", seen, c.Lost, c.Matched, packets)
	}
}

// TestFullRing asserts that what does not fit is counted, for each tap that
// wanted it, and that the worker goes on when there is room again.
func TestFullRing(t *testing.T) {
	r, ws, _ := pair(t, 1)
	w := ws[0]
	a := open(t, r, Filter{Reasons: everything, Snap: 1500, Flags: Received})
	b := open(t, r, Filter{Reasons: SetOf(reason.TooBig), Snap: 1500, Flags: Received})
	w.Refresh(monotonic())
	frame := make([]byte, 1500)
	fits := RingSize / sizeOf(1500)
	for range fits + 10 {
		w.Note(&Packet{Came: frame, CameLen: 1500, Reason: reason.TooBig})
	}
	w.Note(&Packet{Came: frame, CameLen: 1500, Reason: reason.ForwardNew})
	if got, want := r.Counts(a), (Counts{Matched: uint64(fits + 11), Lost: 11}); got != want {
		t.Errorf("the first tap: %+v, want %+v", got, want)
	}
	if got, want := r.Counts(b), (Counts{Matched: uint64(fits + 10), Lost: 10}); got != want {
		t.Errorf("the second tap: %+v, want %+v", got, want)
	}
	if n, err := r.Read(func(*Record) {}); n != fits || err != nil {
		t.Errorf("%d records, %v; want %d", n, err, fits)
	}
	w.Note(&Packet{Came: frame, CameLen: 1500, Reason: reason.TooBig})
	if n, err := r.Read(func(c *Record) {
		if c.Taps != 1<<a|1<<b {
			t.Errorf("it is for taps %b", c.Taps)
		}
	}); n != 1 || err != nil {
		t.Errorf("%d records after that, %v", n, err)
	}
}

// TestGarbage has somebody write anything into the workers' part of the memory:
// the reader says so, reads nothing outside of the ring, and goes on.
func TestGarbage(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	r, ws, mem := pair(t, 1)
	w := ws[0]
	open(t, r, Filter{Reasons: everything, Snap: 200, Flags: Received})
	w.Refresh(monotonic())
	frame := make([]byte, 200)
	skipped := 0
	for range 3000 {
		for range 1 + rnd.IntN(5) {
			w.Note(&Packet{Came: frame, CameLen: 200, Reason: reason.TooBig})
		}
		at := page + rnd.IntN(8) // head
		if rnd.IntN(4) > 0 {
			tail := atomic.LoadUint64(&r.parts[0].tail)
			at = 2*page + int((tail+rnd.Uint64N(600))%RingSize)
		}
		mem[at] ^= byte(1 + rnd.IntN(255))
		if _, err := r.Read(func(c *Record) {
			if len(c.Frame) > RingSize || !c.Reason.Valid() {
				t.Errorf("%d bytes, reason %v", len(c.Frame), c.Reason)
			}
		}); err != nil {
			if !errors.Is(err, ErrGarbage) {
				t.Fatal(err)
			}
			skipped++
		}
		again, err := NewWriters(mem, 1) // as after a restart
		if err != nil {
			t.Fatal(err)
		}
		w = again[0]
		w.Refresh(monotonic())
		r.skip(0)
	}
	if skipped < 100 {
		t.Errorf("garbage was noticed %d times", skipped)
	}
}

// TestSelection is which packets a filter selects.
func TestSelection(t *testing.T) {
	in := packettest.TCP(packettest.AddrPort("203.0.113.7:1000"), packettest.AddrPort("198.18.0.1:80"))
	out := packettest.TCP(packettest.AddrPort("198.18.0.1:80"), packettest.AddrPort("203.0.113.7:1000"))
	reply := packettest.TCP(packettest.AddrPort("198.18.10.1:80"), packettest.AddrPort("198.18.10.200:5000"))
	in6 := packettest.TCP(packettest.AddrPort("[2001:db8::7]:1000"), packettest.AddrPort("[2001:db8:10::1]:80"), packettest.VLAN(7))
	net4, net6 := packet.AddrFrom(packettest.Addr("203.0.113.0")), packet.AddrFrom(packettest.Addr("2001:db8::"))
	drops := Ending(reason.Drop)
	for _, c := range []struct {
		name string
		f    Filter
		p    Packet
		want bool
	}{
		{"all", Filter{Reasons: everything}, Packet{Reason: reason.ForwardFlow}, true},
		{"another action", Filter{Reasons: drops}, Packet{Reason: reason.ForwardFlow}, false},
		{"an action", Filter{Reasons: drops}, Packet{Reason: reason.RestartLost}, true},
		{"a reason", Filter{Reasons: SetOf(reason.TooBig, reason.TransmitDown)}, Packet{Reason: reason.TransmitDown}, true},
		{"another reason", Filter{Reasons: SetOf(reason.TooBig)}, Packet{Reason: reason.TransmitDown}, false},
		{"a service", Filter{Reasons: everything, Services: [MaxNames]uint32{5, 6}}, Packet{Reason: reason.TooBig, Service: 6}, true},
		{"another service", Filter{Reasons: everything, Services: [MaxNames]uint32{5, 6}}, Packet{Reason: reason.TooBig, Service: 7}, false},
		{"no service", Filter{Reasons: everything, Services: [MaxNames]uint32{5}}, Packet{Reason: reason.TooBig}, false},
		{"a backend", Filter{Reasons: everything, Backends: [MaxNames]uint32{0, 9}}, Packet{Reason: reason.TooBig, Backend: 9}, true},
		{"another backend", Filter{Reasons: everything, Backends: [MaxNames]uint32{9}}, Packet{Reason: reason.TooBig, Backend: 8}, false},
		{"a client", Filter{Reasons: everything, Client: net4, ClientMask: Mask(24, true)}, Packet{Reason: reason.TooBig, Came: in}, true},
		{"another client", Filter{Reasons: everything, Client: packet.AddrFrom(packettest.Addr("203.0.113.8")), ClientMask: Mask(32, true)}, Packet{Reason: reason.TooBig, Came: in}, false},
		{"a client's reply", Filter{Reasons: everything, Client: net4, ClientMask: Mask(24, true)}, Packet{Reason: reason.ReplyFlow, Came: reply, Left: out}, true},
		{"an IPv6 client", Filter{Reasons: everything, Client: net6, ClientMask: Mask(32, false)}, Packet{Reason: reason.TooBig, Came: in6}, true},
		{"every IPv4 client", Filter{Reasons: everything, Client: packet.AddrFrom(packettest.Addr("0.0.0.0")), ClientMask: Mask(0, true)}, Packet{Reason: reason.TooBig, Came: in6}, false},
		{"a client of a frame without addresses", Filter{Reasons: everything, Client: net4, ClientMask: Mask(24, true)}, Packet{Reason: reason.FrameTooShort, Came: in[:20]}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, ws, _ := pair(t, 1)
			c.f.Snap, c.f.Flags = 64, Received
			slot := open(t, r, c.f)
			ws[0].Refresh(monotonic())
			ws[0].Note(&c.p)
			if got := r.Counts(slot).Matched == 1; got != c.want {
				t.Errorf("selected: %v, want %v", got, c.want)
			}
		})
	}
}

// TestLimits asserts that a sampled tap gets its share, and a limited one what
// its rate allows, for each reason apart.
func TestLimits(t *testing.T) {
	const packets = 20_000
	r, ws, _ := pair(t, 1)
	w := ws[0]
	sampled := open(t, r, Filter{Reasons: everything, Every: 10, Flags: Received})
	limited := open(t, r, Filter{Reasons: everything, PerSecond: 5, Flags: Received})
	now := monotonic()
	var got [2]int
	p := Packet{Came: []byte{1}, CameLen: 1}
	for i := range packets {
		r.Beat()
		if !w.Refresh(now + uint32(i/10)) { // two seconds
			t.Fatal("the worker sees no tap")
		}
		p.Reason = []reason.Reason{reason.TooBig, reason.TTLExpired}[i%2]
		w.Note(&p)
		if _, err := r.Read(func(c *Record) {
			for slot := range got {
				got[slot] += int(c.Taps >> slot & 1)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if n := got[sampled]; n < packets/10-300 || n > packets/10+300 {
		t.Errorf("one in ten of %d were %d", packets, n)
	}
	if n := got[limited]; n < 26 || n > 30 { // a burst of 5 and 2 seconds of 5, for each of two reasons
		t.Errorf("5 a second for two reasons, over two seconds, were %d", n)
	}
}

// TestReaderDies asserts that a worker stops to look when the reader has, and
// goes on when there is one again.
func TestReaderDies(t *testing.T) {
	r, ws, mem := pair(t, 2)
	w := ws[1]
	_, epoch, err := r.Open(&Filter{Reasons: everything, Flags: Received})
	if err != nil {
		t.Fatal(err)
	}
	now := monotonic()
	if r.InForce(epoch) {
		t.Error("in force before any worker has seen it")
	}
	if !ws[0].Refresh(now) || !w.Refresh(now) {
		t.Error("the workers see no tap")
	}
	if !r.InForce(epoch) {
		t.Error("not in force though all workers have seen it")
	}
	if w.Refresh(now + aliveFor + 1) {
		t.Error("the worker looks for a reader that is dead")
	}
	next, err := NewReader(mem, 2)
	if err != nil {
		t.Fatal(err)
	}
	next.Beat()
	if w.Refresh(now) {
		t.Error("the next reader has inherited a tap")
	}
	open(t, next, Filter{Reasons: everything, Flags: Received})
	if !w.Refresh(now) {
		t.Error("the worker sees no tap of the next reader")
	}
}

// TestSpare has a second process stand by with the memory mapped while the first
// shows packets, and go on from where that one ends.
func TestSpare(t *testing.T) {
	r, ws, mem := pair(t, 1)
	spare, err := NewWriters(mem, 1)
	if err != nil {
		t.Fatal(err)
	}
	slot := open(t, r, Filter{Reasons: everything, Snap: 64, Flags: Received})
	for i, w := range []*Writer{ws[0], spare[0], ws[0]} {
		w.Refresh(monotonic())
		for range 10 {
			w.Note(&Packet{Came: []byte{byte(i)}, CameLen: 1, Reason: reason.TooBig})
		}
		n := 0
		if _, err := r.Read(func(c *Record) {
			n++
			if c.Frame[0] != byte(i) {
				t.Errorf("frame %x of process %d", c.Frame, i)
			}
		}); err != nil || n != 10 {
			t.Errorf("process %d showed %d packets, %v", i, n, err)
		}
	}
	if c := r.Counts(slot); c.Matched != 30 {
		t.Errorf("%d packets were selected", c.Matched)
	}
}

// TestSlots asserts that taps are independent of each other, and that there are
// only so many.
func TestSlots(t *testing.T) {
	r, ws, _ := pair(t, 1)
	for i := range MaxTaps {
		if slot := open(t, r, Filter{Reasons: everything, Flags: Received}); slot != i {
			t.Errorf("slot %d, want %d", slot, i)
		}
	}
	if _, _, err := r.Open(&Filter{}); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	r.Close(3)
	if slot := open(t, r, Filter{Reasons: SetOf(reason.TooBig), Flags: Received}); slot != 3 {
		t.Errorf("slot %d, want 3", slot)
	}
	for i := range MaxTaps {
		r.Close(i)
	}
	if ws[0].Refresh(monotonic()) {
		t.Error("the worker looks for nobody")
	}
}

// TestWithholding asserts whose flows are kept from the XDP program, and when
// the sweep for it is due.
func TestWithholding(t *testing.T) {
	mem := aligned(2)
	r, err := NewReader(mem, 2)
	if err != nil {
		t.Fatal(err)
	}
	ws, err := NewWriters(mem, 2)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSweeper(mem, 2)
	if err != nil {
		t.Fatal(err)
	}
	client, other := packet.AddrFrom(packettest.Addr("203.0.113.7")), packet.AddrFrom(packettest.Addr("203.0.113.8"))
	filter := Filter{Reasons: everything, Services: [MaxNames]uint32{5}, Client: client, ClientMask: Mask(32, true), Flags: Received | AllPaths}
	_, epoch, err := r.Open(&filter)
	if err != nil {
		t.Fatal(err)
	}
	now := monotonic()
	ws[0].Refresh(now)
	if _, due := s.Due(); due {
		t.Error("the sweep is due before all workers use the filter")
	}
	ws[1].Refresh(now)
	if wanted, due := s.Due(); !wanted || !due {
		t.Errorf("wanted %v, due %v", wanted, due)
	}
	if _, due := s.Due(); due {
		t.Error("the sweep is due twice")
	}
	for _, side := range []func(uint32, uint32, packet.Addr) bool{s.Wants, ws[1].Withholds} {
		if !side(5, 1, client) || side(6, 1, client) || side(5, 1, other) {
			t.Error("it is for other flows than the filter's")
		}
	}
	if r.Swept(epoch) {
		t.Error("swept before it was done")
	}
	s.Done()
	if !r.Swept(epoch) {
		t.Error("not swept though it was done")
	}
	r.Close(0)
	filter.Reasons = Ending(reason.Drop)
	open(t, r, filter)
	ws[0].Refresh(now)
	ws[1].Refresh(now)
	if wanted, due := s.Due(); wanted || !due {
		t.Errorf("for drops alone: wanted %v, due %v", wanted, due)
	}
}

// TestNoAllocation demands that showing a packet allocates nothing.
func TestNoAllocation(t *testing.T) {
	r, ws, _ := pair(t, 1)
	w := ws[0]
	open(t, r, Filter{Reasons: everything, Client: packet.AddrFrom(packettest.Addr("203.0.113.0")), ClientMask: Mask(24, true), Snap: 1500, Every: 2, Flags: Received | Sent})
	frame := packettest.TCP(packettest.AddrPort("203.0.113.7:1000"), packettest.AddrPort("198.18.0.1:80"), packettest.PayloadLen(1000))
	now := monotonic()
	if n := testing.AllocsPerRun(5000, func() {
		w.Refresh(now)
		for i := range nic.BatchSize {
			w.Keep(i, uint64(i), frame)
		}
		kept, length := w.Kept(3, 3)
		w.Note(&Packet{Came: kept, CameLen: length, Left: frame, Reason: reason.ForwardFlow})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if kept, _ := w.Kept(3, 4); kept != nil {
		t.Error("another chunk's frame was kept")
	}
}

// TestForeignMemory asserts what is said of memory that does not fit.
func TestForeignMemory(t *testing.T) {
	if _, err := NewReader(make([]byte, 100), 1); err == nil || err.Error() != "tap: 1 workers take 4202496 bytes, the memory has 100" {
		t.Errorf("short memory: %v", err)
	}
	if _, err := NewWriters(aligned(1), 1); !errors.Is(err, ErrLayout) {
		t.Errorf("memory that no reader has prepared: %v", err)
	}
	_, _, mem := pair(t, 1)
	mem[0]++ // another version's
	if _, err := NewReader(mem, 1); !errors.Is(err, ErrLayout) {
		t.Errorf("a reader of another version's memory: %v", err)
	}
	if _, err := NewWriters(mem, 1); !errors.Is(err, ErrLayout) {
		t.Errorf("a writer to another version's memory: %v", err)
	}
}

// TestSets asserts that every reason finds its place.
func TestSets(t *testing.T) {
	for _, r := range reason.All() {
		one := SetOf(r)
		for _, other := range reason.All() {
			if one.Has(other) != (r == other) {
				t.Fatalf("the set of %v says %v of %v", r, one.Has(other), other)
			}
		}
		drops := Ending(reason.Drop)
		if drops.Has(r) != (r.Action() == reason.Drop) {
			t.Errorf("among drops: %v is %v", r, drops.Has(r))
		}
	}
	if empty := (Set{}); !empty.Empty() || !slices.Contains(reason.All(), reason.TooBig) {
		t.Error("the empty set is not")
	}
}
