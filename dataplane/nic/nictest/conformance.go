package nictest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"fairlead/dataplane/nic"
)

// Conformance is what every implementation of nic.Queue and nic.Waiter must
// do. open makes a fresh one for each part.
func Conformance(t *testing.T, open func(t *testing.T) *Harness) {
	parts := []struct {
		name string
		test func(t *testing.T, h *Harness)
	}{
		{"ReceivesBytesBehindHeadroom", receivesBytesBehindHeadroom},
		{"ForwardsBetweenPortsWithoutCopy", forwardsBetweenPortsWithoutCopy},
		{"SendsFromHeadroom", sendsFromHeadroom},
		{"ReceivesNothingWithoutChunks", receivesNothingWithoutChunks},
		{"RefillStopsAtRingSize", refillStopsAtRingSize},
		{"TransmitStopsAtRingSize", transmitStopsAtRingSize},
		{"TransmitRefusesFrameOutsideChunk", transmitRefusesFrameOutsideChunk},
		{"EmptyCallsDoNothing", emptyCallsDoNothing},
		{"WaitEndsOnFrameWakeAndTimeout", waitEndsOnFrameWakeAndTimeout},
		{"LinkDownAndUp", linkDownAndUp},
		{"ConservesChunks", conservesChunks},
		{"AllocatesNothing", allocatesNothing},
	}
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) {
			h := open(t)
			p.test(t, h)
			h.check(t)
		})
	}
}

func receivesBytesBehindHeadroom(t *testing.T, h *Harness) {
	h.refill(t, 0, 16)
	for i, length := range []int{18, 60, 61, 64, 577, 1499, 1514} {
		want := frame(i, length)
		h.inject(t, 0, want)
		f := h.receive(t, 0, 1)[0]
		if f.Port != 0 {
			t.Errorf("port %d, want 0", f.Port)
		}
		if off := f.Addr - h.Pool.Base(f.Addr); off != uint64(h.Pool.Headroom()) {
			t.Errorf("frame begins %d bytes into its chunk, want %d", off, h.Pool.Headroom())
		}
		if got := h.Pool.Bytes(f); !bytes.Equal(got, want) {
			t.Errorf("received %x\nwant %x", got, want)
		}
		if o := h.Pool.Owner(f.Addr); o != nic.OwnerUser {
			t.Errorf("a received chunk is owned by %s", o)
		}
		h.free([]nic.Frame{f})
	}
}

func forwardsBetweenPortsWithoutCopy(t *testing.T, h *Harness) {
	for _, dir := range []struct{ from, to int }{{0, 1}, {1, 0}, {0, 0}} {
		const n = nic.BatchSize
		h.refill(t, dir.from, n)
		var want [][]byte
		for i := range n {
			want = append(want, frame(i, 60+i))
			h.inject(t, dir.from, want[i])
		}
		frames := h.receive(t, dir.from, n)
		for _, f := range frames {
			if int(f.Port) != dir.from {
				t.Fatalf("port %d, want %d", f.Port, dir.from)
			}
		}
		if k := h.transmit(t, dir.to, frames); k != n {
			t.Fatalf("%d of %d frames accepted", k, n)
		}
		h.drain(t, dir.to)
		h.expectSent(t, dir.to, want)
	}
}

func sendsFromHeadroom(t *testing.T, h *Harness) {
	h.refill(t, 0, 4)
	inner := frame(1, 100)
	h.inject(t, 0, inner)
	f := h.receive(t, 0, 1)[0]
	outer := frame(2, 54)
	f.Addr -= uint64(len(outer))
	f.Len += uint32(len(outer))
	copy(h.Pool.Bytes(f), outer)
	h.transmit(t, 1, []nic.Frame{f})
	h.drain(t, 1)
	h.expectSent(t, 1, [][]byte{append(append([]byte(nil), outer...), inner...)})
}

func receivesNothingWithoutChunks(t *testing.T, h *Harness) {
	frames := make([]nic.Frame, 8)
	for i := range 4 {
		h.inject(t, 0, frame(i, 60))
	}
	if n := h.Queues[0].Receive(frames); n != 0 {
		t.Fatalf("received %d frames into no chunk", n)
	}
	h.refill(t, 0, 8)
	want := frame(9, 60)
	h.inject(t, 0, want)
	if got := h.Pool.Bytes(h.receive(t, 0, 1)[0]); !bytes.Equal(got, want) {
		t.Errorf("received %x\nwant %x", got, want)
	}
}

func refillStopsAtRingSize(t *testing.T, h *Harness) {
	if n := h.refill(t, 0, h.RingSize+10); n != h.RingSize {
		t.Fatalf("an empty fill ring of %d accepted %d chunks", h.RingSize, n)
	}
	if n := h.refill(t, 0, 10); n != 0 {
		t.Fatalf("a full fill ring accepted %d chunks", n)
	}
	h.inject(t, 0, frame(1, 60))
	h.receive(t, 0, 1)
	h.until(t, "room for one", func() bool { return h.refill(t, 0, 10) == 1 })
	if n := h.refill(t, 0, 10); n != 0 {
		t.Fatalf("a full fill ring accepted %d chunks", n)
	}
}

func transmitStopsAtRingSize(t *testing.T, h *Harness) {
	for round := range 3 {
		frames := h.make(t, round*10000, h.RingSize+10, 60)
		var want [][]byte
		for i := range h.RingSize {
			want = append(want, frame(round*10000+i, 60))
		}
		if n := h.transmit(t, 1, frames); n != h.RingSize {
			t.Fatalf("an empty TX ring of %d accepted %d frames", h.RingSize, n)
		}
		if n := h.transmit(t, 1, frames[h.RingSize:]); n != 0 {
			t.Fatalf("a full TX ring accepted %d frames", n)
		}
		h.free(frames[h.RingSize:])
		h.drain(t, 1)
		h.expectSent(t, 1, want)
	}
}

func transmitRefusesFrameOutsideChunk(t *testing.T, h *Harness) {
	good := h.make(t, 1, 2, 60)
	for _, bad := range []nic.Frame{
		{Addr: good[1].Addr, Len: 0},
		{Addr: good[1].Addr, Len: uint32(h.Pool.ChunkSize())},
		{Addr: uint64(len(h.Pool.Mem)) + 100, Len: 60},
	} {
		// No check of the harness here: nictest reports this as misuse.
		if n := h.Queues[0].Transmit([]nic.Frame{bad, good[0]}); n != 0 {
			t.Fatalf("%d frames accepted, the first of which is %+v", n, bad)
		}
	}
	h.Err = nil
	if n := h.transmit(t, 0, good); n != 2 {
		t.Fatalf("%d of 2 frames accepted", n)
	}
	h.drain(t, 0)
	h.expectSent(t, 0, [][]byte{frame(1, 60), frame(2, 60)})
}

func emptyCallsDoNothing(t *testing.T, h *Harness) {
	for _, q := range h.Queues {
		if n := q.Receive(nil); n != 0 {
			t.Errorf("Receive(nil) = %d", n)
		}
		if n := q.Receive(make([]nic.Frame, 4)); n != 0 {
			t.Errorf("Receive = %d with nothing there", n)
		}
		if n := q.Transmit(nil); n != 0 {
			t.Errorf("Transmit(nil) = %d", n)
		}
		if err := q.Kick(); err != nil {
			t.Errorf("Kick = %v with nothing to send", err)
		}
		if n := q.Complete(make([]uint64, 4)); n != 0 {
			t.Errorf("Complete = %d with nothing sent", n)
		}
		if n := q.Refill(nil); n != 0 {
			t.Errorf("Refill(nil) = %d", n)
		}
	}
}

func waitEndsOnFrameWakeAndTimeout(t *testing.T, h *Harness) {
	h.Waiter.Wait(0)
	h.Waiter.Wait(time.Millisecond)

	// A Wait of an hour ends by Wake, whether it comes before or meanwhile.
	h.Waiter.Wake()
	h.Waiter.Wait(time.Hour)
	for range 50 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.Waiter.Wake()
		}()
		h.Waiter.Wait(time.Hour)
		<-done
	}
	h.Waiter.Wait(0) // takes a wake-up left over

	// And by a frame at either port.
	for port := range h.Queues {
		h.refill(t, port, 8)
		failed := make(chan error, 1)
		go func() { failed <- h.Inject(port, frame(port, 60)) }()
		frames := make([]nic.Frame, 1)
		for h.Queues[port].Receive(frames) == 0 {
			h.Waiter.Wait(time.Hour)
		}
		h.Pool.Received(frames)
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
		h.free(frames)
	}
}

func linkDownAndUp(t *testing.T, h *Harness) {
	h.refill(t, 1, 8)
	frames := h.make(t, 1, 3, 60)
	for range 3 {
		h.SetDown(t, 1, true)
		if n := h.transmit(t, 1, frames); n != len(frames) {
			t.Fatalf("%d of %d frames accepted", n, len(frames))
		}
		for range 2 {
			if err := h.Queues[1].Kick(); !errors.Is(err, nic.ErrDown) {
				t.Fatalf("Kick = %v with the link down, want %v", err, nic.ErrDown)
			}
		}
		// The other port is not concerned.
		other := h.make(t, 7, 1, 60)
		h.transmit(t, 0, other)
		if err := h.Queues[0].Kick(); err != nil {
			t.Fatalf("Kick = %v at the port that is up", err)
		}
		h.expectSent(t, 0, [][]byte{frame(7, 60)})

		h.SetDown(t, 1, false)
		addrs := make([]uint64, nic.BatchSize)
		h.until(t, "completions of both ports", func() bool {
			for _, q := range h.Queues {
				if err := q.Kick(); err != nil {
					t.Fatalf("Kick = %v with the link up", err)
				}
				n := q.Complete(addrs)
				h.Pool.Completed(addrs[:n])
			}
			return h.Pool.Count(nic.OwnerTX) == 0
		})
		// What waited may have been sent or thrown away by the device; from
		// now on frames pass.
		h.until(t, "a frame out", func() bool {
			probe := h.make(t, 5, 1, 60)
			h.transmit(t, 1, probe)
			h.drain(t, 1)
			return len(h.Sent(1)) > 0
		})
		h.until(t, "a frame in", func() bool {
			h.inject(t, 1, frame(8, 60))
			in := make([]nic.Frame, 8)
			n := h.Queues[1].Receive(in)
			h.Pool.Received(in[:n])
			h.free(in[:n])
			h.refill(t, 1, n)
			return n > 0
		})
		h.Sent(1)
		frames = h.make(t, 1, 3, 60)
	}
	h.free(frames)
}

// conservesChunks forwards many frames both ways in batches of random size
// and checks the books after every step.
func conservesChunks(t *testing.T, h *Harness) {
	const total = 4000
	rng := rand.New(rand.NewPCG(3, 4))
	addrs := make([]uint64, nic.BatchSize)
	var sent, received [2]int
	var out [2]int
	h.until(t, "all frames forwarded", func() bool {
		for from := range h.Queues {
			to := 1 - from
			h.refill(t, from, rng.IntN(nic.BatchSize)+1)
			// No more under way than the fill ring surely has chunks for.
			for range rng.IntN(nic.BatchSize) {
				if sent[from] == total || sent[from]-received[from] >= nic.BatchSize/2 || h.Pool.Count(nic.OwnerFill) < h.RingSize {
					break
				}
				h.inject(t, from, frame(sent[from], 60))
				sent[from]++
			}
			frames := make([]nic.Frame, rng.IntN(nic.BatchSize)+1)
			n := h.Queues[from].Receive(frames)
			h.Pool.Received(frames[:n])
			for i, f := range frames[:n] {
				if !bytes.Equal(h.Pool.Bytes(f), frame(received[from]+i, 60)) {
					t.Fatalf("frame %d at port %d is not the one sent", received[from]+i, from)
				}
			}
			received[from] += n
			// A slow device's TX ring may be full for a while.
			accepted := 0
			h.until(t, "room in the TX ring", func() bool {
				accepted += h.transmit(t, to, frames[accepted:n])
				if err := h.Queues[to].Kick(); err != nil {
					t.Fatal(err)
				}
				done := h.Queues[to].Complete(addrs[:rng.IntN(len(addrs))+1])
				h.Pool.Completed(addrs[:done])
				return accepted == n
			})
			h.check(t)
			out[to] += len(h.Sent(to))
		}
		return out == [2]int{total, total}
	})
	h.drainBoth(t)
	for port := range h.Queues {
		if late := len(h.Sent(port)); late != 0 {
			t.Errorf("port %d: %d frames more than were sent", port, late)
		}
	}
	if n := h.Pool.Count(nic.OwnerUser); n != 0 {
		t.Errorf("%d chunks are in nobody's ring and not free", n)
	}
	if h.Pool.Strays() != 0 {
		t.Errorf("%d stray completions", h.Pool.Strays())
	}
}

// drainBoth completes what either port has sent.
func (h *Harness) drainBoth(t *testing.T) {
	t.Helper()
	addrs := make([]uint64, nic.BatchSize)
	h.until(t, "complete both ports", func() bool {
		for _, q := range h.Queues {
			if err := q.Kick(); err != nil {
				t.Fatal(err)
			}
			n := q.Complete(addrs)
			h.Pool.Completed(addrs[:n])
		}
		return h.Pool.Count(nic.OwnerTX) == 0
	})
}

// allocatesNothing runs every call of a worker's loop, with frames passing.
func allocatesNothing(t *testing.T, h *Harness) {
	const runs = 20
	h.refill(t, 0, h.RingSize)
	for i := range 2 * runs {
		h.inject(t, 0, frame(i, 60))
	}
	frames := make([]nic.Frame, 4)
	addrs := make([]uint64, nic.BatchSize)
	passed := 0
	loop := func() {
		n := h.Queues[0].Receive(frames)
		h.Pool.Received(frames[:n])
		k := h.Queues[1].Transmit(frames[:n])
		h.Pool.Sent(frames[:k])
		for _, f := range frames[k:n] {
			h.Pool.Put(f.Addr)
		}
		n = h.Queues[1].Complete(addrs)
		h.Pool.Completed(addrs[:n])
		n = h.Pool.TakeForFill(addrs)
		h.Pool.Filled(h.Queues[0].Refill(addrs[:n]))
		passed += k
	}
	if n := testing.AllocsPerRun(runs, loop); n != 0 {
		t.Errorf("%v allocations a loop, want 0", n)
	}
	if passed == 0 {
		t.Error("no frame passed")
	}
	// A kick and a wait, which the memory of in-memory frames on the wire must
	// not be counted with.
	h.drain(t, 1)
	h.Waiter.Wake()
	if n := testing.AllocsPerRun(runs, func() {
		if err := h.Queues[1].Kick(); err != nil {
			t.Fatal(err)
		}
		h.Waiter.Wait(0)
	}); n != 0 {
		t.Errorf("%v allocations a kick and a wait, want 0", n)
	}
}
