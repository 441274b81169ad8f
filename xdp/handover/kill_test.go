package handover_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"fairlead/dataplane/nic"
	"fairlead/xdp/handover"
)

const (
	killRounds = 30
	inFlight   = 100 // frames on their way in each direction: fewer than any buffer on it
	deadline   = 20 * time.Second
)

// traffic sends numbered frames through both directions and keeps account of
// them.
type traffic struct {
	r    *rig
	next uint32
	out  [2]map[uint32]bool // by port that they go in at: sent, not yet seen
	seen int
	lost int
}

func newTraffic(r *rig) *traffic {
	return &traffic{r: r, out: [2]map[uint32]bool{{}, {}}}
}

// send sends n frames into a port, as long as not too many are on their way.
func (f *traffic) send(t *testing.T, port, n int) {
	t.Helper()
	for range n {
		if len(f.out[port]) >= inFlight {
			return
		}
		f.r.lab.Inject(t, port, frame(f.next))
		f.out[port][f.next] = true
		f.next++
	}
}

// collect takes what came out; a frame that was not on its way was sent twice.
func (f *traffic) collect(t *testing.T) {
	t.Helper()
	for port := range f.out {
		for _, b := range f.r.lab.Sent(1 - port) {
			n := serial(t, b)
			if !f.out[port][n] {
				t.Fatalf("frame %d came out of port %d a second time", n, 1-port)
			}
			delete(f.out[port], n)
			f.seen++
		}
	}
}

// settle sends one more frame each way and waits until it comes out. Frames
// keep their order, so whatever is missing then is lost. turn makes the worker
// go on when it runs in this process.
func (f *traffic) settle(t *testing.T, turn func()) (lost int) {
	t.Helper()
	var marker [2]uint32
	for port := range f.out {
		marker[port] = f.next
		f.r.lab.Inject(t, port, frame(f.next))
		f.out[port][f.next] = true
		f.next++
	}
	for end := time.Now().Add(deadline); f.out[0][marker[0]] || f.out[1][marker[1]]; {
		if time.Now().After(end) {
			t.Fatalf("traffic did not go on within %v", deadline)
		}
		turn()
		f.collect(t)
	}
	for port := range f.out {
		lost += len(f.out[port])
		clear(f.out[port])
	}
	f.lost += lost
	return lost
}

// TestKilledAtRandomMoments kills data processes with SIGKILL under traffic.
// After each, every chunk must have one owner, the next process must go on,
// and nothing but the batch in the dead worker's hands may be lost.
func TestKilledAtRandomMoments(t *testing.T) {
	const chunks, ringSize = 2048, 256
	r := newRig(t, chunks, ringSize)
	f := newTraffic(r)
	rng := rand.New(rand.NewPCG(5, 6))
	var total handover.Report
	nothing := func() {}
	for range killRounds {
		c := start(t, r.umem, r.sockets, nic.BatchSize)
		checkReport(t, c.Report, r.umem)
		if lost := f.settle(t, nothing); lost > nic.BatchSize {
			t.Fatalf("%d frames lost, the dead worker had %d at most", lost, nic.BatchSize)
		}
		for end := time.Now().Add(time.Duration(rng.IntN(3_000_000))); time.Now().Before(end); {
			f.send(t, 0, 16)
			f.send(t, 1, 16)
			f.collect(t)
		}
		// Killed with work in hand.
		f.send(t, rng.IntN(2), inFlight)
		c.kill(t)
		report := r.inspect(t)
		total.UnpublishedFill += report.UnpublishedFill
		total.UnpublishedTX += report.UnpublishedTX
		total.Reread += report.Reread
		total.Recompleted += report.Recompleted
		total.Released += report.Released
	}
	if total.Released != 0 {
		t.Errorf("%d chunks were taken from sockets that live", total.Released)
	}

	// The last one takes over in this process and puts everything back.
	pool, report, err := handover.Adopt(r.umem, r.view...)
	if err != nil {
		t.Fatal(err)
	}
	checkReport(t, report, r.umem)
	w := newWorker(pool, r.view, nic.BatchSize)
	f.settle(t, w.turn)
	for end := time.Now().Add(deadline); pool.Count(nic.OwnerTX) > 0; w.turn() {
		if time.Now().After(end) {
			t.Fatalf("%d chunks are still being sent", pool.Count(nic.OwnerTX))
		}
	}
	if err := pool.Check(); err != nil {
		t.Fatal(err)
	}
	if got := pool.Count(nic.OwnerFree) + pool.Count(nic.OwnerFill); got != chunks {
		t.Errorf("%d chunks are free or waiting to be received into, want all %d", got, chunks)
	}
	if got := pool.Count(nic.OwnerFill); got != r.view[0].Contents().Receiving+r.view[1].Contents().Receiving {
		t.Errorf("%d chunks wait to be received into, the sockets say otherwise", got)
	}
	for _, q := range r.view {
		if c := q.Counters(); c.Stray != 0 {
			t.Errorf("port %d: %d stray entries", q.Port(), c.Stray)
		}
	}
	t.Logf("%d frames through, %d lost in %d kills; repaired: %v", f.seen, f.lost, killRounds, total)
}
