package handover_test

import (
	"testing"
	"time"

	"fairlead/dataplane/nic"
	"fairlead/xdp"
	"fairlead/xdp/handover"
)

const (
	testChunks = 256
	testRing   = 64
)

// adopt takes over in this process through queues of its own.
func (r *rig) adopt(t testing.TB) (*worker, []*xdp.Queue, handover.Report) {
	t.Helper()
	var queues []*xdp.Queue
	for _, s := range r.sockets {
		q := r.attach(t, s)
		t.Cleanup(func() { q.Close() })
		queues = append(queues, q)
	}
	pool, report, err := handover.Adopt(r.umem, queues...)
	if err != nil {
		t.Fatal(err)
	}
	if err := pool.Check(); err != nil {
		t.Fatal(err)
	}
	return newWorker(pool, queues, nic.BatchSize), queues, report
}

func TestFirstStartFindsEverythingFree(t *testing.T) {
	r := newRig(t, testChunks, testRing)
	_, _, report := r.adopt(t)
	if report != (handover.Report{Free: testChunks}) {
		t.Errorf("report %v, want %d free and nothing else", report, testChunks)
	}
}

// TestFramesInEveryRingKeepTheirOwner puts chunks into all four rings and lets
// a second process take over.
func TestFramesInEveryRingKeepTheirOwner(t *testing.T) {
	r := newRig(t, testChunks, testRing)
	w, queues, _ := r.adopt(t)
	w.refill()

	for i := range 10 { // into the RX ring of port 0
		r.lab.Inject(t, 0, frame(uint32(i)))
	}
	waitFor(t, "frames in the RX ring", func() bool { return len(queues[0].Contents().RX) == 10 })
	send := func(n int) {
		for i := range n {
			addr, _ := w.pool.Get()
			f := nic.Frame{Addr: addr + 256, Len: 60}
			copy(w.pool.Bytes(f), frame(uint32(200*i)))
			queues[1].Transmit([]nic.Frame{f})
			w.pool.Sent([]nic.Frame{f})
		}
	}
	send(5) // into the completion ring of port 1
	if err := queues[1].Kick(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "completions", func() bool { return len(queues[1].Contents().Completion) == 5 })
	send(7)      // into its TX ring
	w.pool.Get() // and two in the worker's hands
	w.pool.Get()

	c := queues[1].Contents()
	if len(c.TX) != 7 || len(c.Completion) != 5 || c.Sending != 12 || c.Receiving != testRing {
		t.Errorf("port 1: %d in TX, %d in completion ring, %d sending, %d receiving", len(c.TX), len(c.Completion), c.Sending, c.Receiving)
	}
	want := handover.Report{Free: testChunks - 2*testRing - 12, Fill: 2 * testRing, TX: 12}
	w2, queues2, report := r.adopt(t)
	if report != want {
		t.Errorf("report %v\n  want %v", report, want)
	}
	// Everything comes back to the new one.
	for i := 0; i < 2; i++ {
		w2.turn()
	}
	waitFor(t, "sending to end", func() bool { w2.turn(); return w2.pool.Count(nic.OwnerTX) == 0 })
	if n := len(r.lab.Sent(1)); n != 10+5+7 {
		t.Errorf("%d frames came out of port 1, want 22", n)
	}
	for _, q := range queues2 {
		if n := q.Counters().Stray; n != 0 {
			t.Errorf("port %d: %d strays", q.Port(), n)
		}
	}
}

// TestOldProcessGoesOnUntilAdopt: a successor that attaches and looks around
// but never adopts disturbs nothing, and one that adopts much later than it
// attached takes over at the right place.
func TestOldProcessGoesOnUntilAdopt(t *testing.T) {
	r := newRig(t, testChunks, testRing)
	w, _, _ := r.adopt(t)
	w.refill()
	f := newTraffic(r)
	for range 300 { // the rings go round several times
		f.send(t, 0, 5)
		f.send(t, 1, 3)
		w.turn()
		f.collect(t)
		r.inspect(t)
	}
	if lost := f.settle(t, w.turn); lost != 0 {
		t.Errorf("%d frames lost", lost)
	}
	pool, report, err := handover.Adopt(r.umem, r.view...) // attached before any frame
	if err != nil {
		t.Fatal(err)
	}
	checkReport(t, report, r.umem)
	w = newWorker(pool, r.view, nic.BatchSize)
	for range 300 {
		f.send(t, 0, 5)
		w.turn()
		f.collect(t)
		if err := pool.Check(); err != nil {
			t.Fatal(err)
		}
	}
	if lost := f.settle(t, w.turn); lost != 0 {
		t.Errorf("%d frames lost", lost)
	}
}

// TestDamagedTableGivesEachChunkOneOwner plays what cannot happen by a crash:
// marks that contradict the rings, and the same chunk in two rings.
func TestDamagedTableGivesEachChunkOneOwner(t *testing.T) {
	r := newRig(t, testChunks, testRing)
	w, queues, _ := r.adopt(t)
	w.refill()
	holders := r.umem.Custody().Holders()
	fill := queues[0].Contents().Fill

	// Chunk A: offered for receiving at port 0, and marked as the worker's.
	holders[fill[0]/2048] = xdp.HeldByWorker
	// Chunk B: offered at port 0 and, by mistake, sent at port 1 too.
	queues[1].Transmit([]nic.Frame{{Addr: fill[1] + 256, Len: 60}})
	// Chunk C: free, and marked as being sent at port 1.
	var free uint64
	for i, h := range holders {
		if h == xdp.HeldByWorker && uint64(i) != fill[0]/2048 {
			free = uint64(i)
		}
	}
	holders[free] = xdp.HeldForSend(1)

	w2, queues2, report := r.adopt(t)
	// A: an entry without mark. B: one too few marked for receiving. C: one
	// too many for sending.
	if report.Conflicts != 3 {
		t.Errorf("%d conflicts, want 3: %v", report.Conflicts, report)
	}
	if sum := report.Free + report.Fill + report.TX; sum != testChunks {
		t.Errorf("owners of %d chunks of %d: %v", sum, testChunks, report)
	}
	if o := w2.pool.Owner(fill[0]); o != nic.OwnerFill {
		t.Errorf("chunk in the fill ring is %s", o)
	}
	if o := w2.pool.Owner(fill[1]); o != nic.OwnerTX {
		t.Errorf("chunk in a fill and a TX ring is %s, its mark says tx", o)
	}

	// Frames pass, the books stay right, and the entry that returns a chunk
	// which is somebody else's is counted and ignored.
	f := newTraffic(r)
	for range 60 {
		f.send(t, 0, 4)
		w2.turn()
		r.lab.Sent(1)
		f.out[0] = map[uint32]bool{}
		if err := w2.pool.Check(); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the stray entry", func() bool {
		f.send(t, 0, 1)
		f.out[0] = map[uint32]bool{}
		w2.turn()
		return queues2[0].Counters().Stray+queues2[1].Counters().Stray > 0
	})
	if err := w2.pool.Check(); err != nil {
		t.Fatal(err)
	}
}

func TestAdoptRefusesWhatDoesNotBelongTogether(t *testing.T) {
	r := newRig(t, testChunks, testRing)
	other, err := xdp.NewUMEM(xdp.UMEMConfig{Chunks: testChunks})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, c := range []struct {
		u      *xdp.UMEM
		queues []*xdp.Queue
		want   string
	}{
		{other, r.view, "handover: the queue of port 0 lies in another UMEM"},
		{r.umem, []*xdp.Queue{r.view[1], r.view[1]}, "handover: two queues have port 1"},
	} {
		if _, _, err := handover.Adopt(c.u, c.queues...); err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %q", err, c.want)
		}
		if _, err := handover.Inspect(c.u, c.queues...); err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !done(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, deadline)
		}
	}
}

// BenchmarkAdopt is how long a full-size worker is without frames: two ports,
// rings of 2,048, 8,192 chunks.
func BenchmarkAdopt(b *testing.B) {
	r := newRig(b, xdp.DefaultChunks, xdp.DefaultRingSize)
	w, queues, _ := r.adopt(b)
	w.refill()
	for b.Loop() {
		if _, report, err := handover.Adopt(r.umem, queues...); err != nil || report.Fill != 2*xdp.DefaultRingSize {
			b.Fatal(report, err)
		}
	}
}
