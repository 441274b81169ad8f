package node

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"fairlead/dataplane"
	"fairlead/dataplane/reason"
	"fairlead/dataplane/tap"
)

// tapWorkers are workers' sides of the present memory of taps.
func tapWorkers(t *testing.T, taps *taps, workers int) []*tap.Writer {
	t.Helper()
	mem, err := mapMemfd(taps.fd, tap.Size(workers))
	if err != nil {
		t.Fatal(err)
	}
	writers, err := tap.NewWriters(mem, workers)
	if err != nil {
		t.Fatal(err)
	}
	return writers
}

func monotonicMS(t *testing.T) uint32 {
	t.Helper()
	clock, err := dataplane.MonotonicClock()
	if err != nil {
		t.Fatal(err)
	}
	return uint32(clock())
}

func newTestTaps(t *testing.T, workers int) *taps {
	t.Helper()
	taps := newTaps(slog.New(slog.DiscardHandler))
	if err := taps.make(workers); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := taps.close(); err != nil {
			t.Error(err)
		}
	})
	return taps
}

var anyDrop = tap.Filter{Reasons: tap.Ending(reason.Drop), Snap: 64, Flags: tap.Received}

func notePackets(w *tap.Writer, n int) {
	for range n {
		w.Note(&tap.Packet{Came: []byte("frame"), CameLen: 5, Reason: reason.TooBig})
	}
}

// collect waits for n packets of a tap.
func collect(t *testing.T, p *packetTap, n int) []shown {
	t.Helper()
	var all []shown
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(all) < n {
		select {
		case <-p.some:
		case <-ctx.Done():
			t.Fatalf("%d packets have come, want %d", len(all), n)
		}
		got, err := p.take()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, got...)
	}
	return all
}

// TestTapsGoOnWithNewMemory has somebody look while the workers become more: what
// the first ones have shown is not lost, what the others show is seen, and it
// all adds up.
func TestTapsGoOnWithNewMemory(t *testing.T) {
	taps := newTestTaps(t, 1)
	p, err := taps.openTap(anyDrop)
	if err != nil {
		t.Fatal(err)
	}
	now := monotonicMS(t)
	w := tapWorkers(t, taps, 1)[0]
	if !w.Refresh(now) {
		t.Fatal("the worker sees no tap")
	}
	if err := p.inForce(t.Context()); err != nil {
		t.Error(err)
	}
	notePackets(w, 5)
	if err := taps.make(3); err != nil {
		t.Fatal(err)
	}
	for _, w := range tapWorkers(t, taps, 3) {
		if !w.Refresh(now) {
			t.Error("a new worker sees no tap")
		}
		notePackets(w, 2)
	}
	if err := p.inForce(t.Context()); err != nil {
		t.Error(err)
	}
	for _, s := range collect(t, p, 11) {
		if string(s.frame) != "frame" || s.Reason != reason.TooBig {
			t.Errorf("shown: %+v", s)
		}
	}
	if c := p.total(); c != (tap.Counts{Matched: 11}) {
		t.Errorf("%+v", c)
	}
	p.close()
	if c := p.total(); c != (tap.Counts{Matched: 11}) {
		t.Errorf("after the end: %+v", c)
	}
	if _, err := p.take(); !errors.Is(err, errTapsClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// TestTapsLagBehind has somebody look who does not read: memory is bounded, what
// does not fit is counted, and others are not held up.
func TestTapsLagBehind(t *testing.T) {
	taps := newTestTaps(t, 1)
	f := anyDrop
	f.Snap = tap.MaxSnap
	lazy, err := taps.openTap(f)
	if err != nil {
		t.Fatal(err)
	}
	eager, err := taps.openTap(anyDrop)
	if err != nil {
		t.Fatal(err)
	}
	w := tapWorkers(t, taps, 1)[0]
	w.Refresh(monotonicMS(t))
	const rounds, each = 30, 500
	frame := make([]byte, tap.MaxSnap)
	for range rounds {
		for range each {
			w.Note(&tap.Packet{Came: frame, CameLen: tap.MaxSnap, Reason: reason.TooBig})
		}
		if got := collect(t, eager, each); len(got[0].frame) != 64 {
			t.Fatalf("%d bytes are shown, 64 were wanted", len(got[0].frame))
		}
	}
	got, err := lazy.take()
	if err != nil {
		t.Fatal(err)
	}
	c := lazy.total()
	if c.Matched != rounds*each || uint64(len(got))+c.Lost != rounds*each || len(got) < tapBehind/(2*tap.MaxSnap) || len(got) > tapBehind/tap.MaxSnap+1 {
		t.Errorf("%d are there, %+v", len(got), c)
	}
	if c := eager.total(); c.Lost != 0 {
		t.Errorf("who reads has lost %d", c.Lost)
	}
}

// TestTapsEnd asserts that those who look are told when the node stops, and that
// the goroutine lives only while somebody looks.
func TestTapsEnd(t *testing.T) {
	taps := newTestTaps(t, 1)
	for range 3 {
		p, err := taps.openTap(anyDrop)
		if err != nil {
			t.Fatal(err)
		}
		stopped := taps.stopped
		p.close()
		p.close()
		<-stopped
	}
	p, err := taps.openTap(anyDrop)
	if err != nil {
		t.Fatal(err)
	}
	if err := taps.close(); err != nil {
		t.Error(err)
	}
	<-p.some
	if _, err := p.take(); !errors.Is(err, errTapsClosed) {
		t.Errorf("%v", err)
	}
	if _, err := taps.openTap(anyDrop); err == nil || err.Error() != "there are no workers at the moment" {
		t.Errorf("a tap of a node that has stopped: %v", err)
	}
}

// TestTapsNobodyTakesOver asserts what is said when workers do not take a filter
// over.
func TestTapsNobodyTakesOver(t *testing.T) {
	taps := newTestTaps(t, 1)
	p, err := taps.openTap(anyDrop)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.inForce(t.Context()); err == nil || err.Error() != "the workers did not take the filter over within 3s" {
		t.Errorf("%v", err)
	}
}
