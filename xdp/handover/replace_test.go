package handover_test

import (
	"errors"
	"testing"

	"fairlead/dataplane/nic"
	"fairlead/xdp"
	"fairlead/xdp/handover"
)

// TestInterfaceComesBack removes an interface under a running worker, goes on
// with the other, and puts a new socket in the old one's place when it is back.
func TestInterfaceComesBack(t *testing.T) {
	r := newRig(t, testChunks, testRing)
	w, queues, _ := r.adopt(t)
	w.refill()
	r.lab.Inject(t, 0, frame(1))
	waitFor(t, "a frame through", func() bool { w.turn(); return len(r.lab.Sent(1)) == 1 })

	r.lab.Remove(t, 1)
	stuck := takeFrame(w.pool, 2)
	waitFor(t, "Kick to notice", func() bool {
		if queues[1].Transmit([]nic.Frame{stuck}) == 1 {
			w.pool.Sent([]nic.Frame{stuck})
			stuck = takeFrame(w.pool, 2)
		}
		return errors.Is(queues[1].Kick(), nic.ErrDown)
	})
	w.pool.Put(stuck.Addr)
	if queues[1].Counters().Down == 0 {
		t.Error("nothing was counted")
	}

	// The socket is closed everywhere; its chunks are the worker's again.
	sending := w.pool.Count(nic.OwnerTX)
	r.closePort(t, 1)
	if err := queues[1].Close(); err != nil {
		t.Fatal(err)
	}
	r.lab.Add(t, 1)
	r.sockets[1] = r.open(t, 1, testRing)
	r.view[1] = r.attach(t, r.sockets[1])
	q := r.attach(t, r.sockets[1])
	defer q.Close()
	if !q.Fresh() {
		t.Error("the custody table speaks of a socket that is new")
	}
	got, err := handover.Replace(w.pool, q)
	if err != nil {
		t.Fatal(err)
	}
	if want := (handover.Reclaimed{Receive: testRing, Send: sending}); got != want {
		t.Errorf("reclaimed %+v, want %+v", got, want)
	}
	if _, err := handover.Replace(w.pool, q); err == nil || err.Error() != "handover: the queue of port 1 is in use already" {
		t.Errorf("a second time: %v", err)
	}
	r.inspect(t)

	w = newWorker(w.pool, []*xdp.Queue{queues[0], q}, nic.BatchSize)
	w.refill()
	f := newTraffic(r)
	for range 100 {
		f.send(t, 0, 4)
		f.send(t, 1, 4)
		w.turn()
		f.collect(t)
		r.inspect(t)
	}
	if lost := f.settle(t, w.turn); lost != 0 {
		t.Errorf("%d frames lost", lost)
	}
	if err := w.pool.Check(); err != nil {
		t.Error(err)
	}
}

// TestDiesWhileRebinding: the control process has replaced a socket, and the
// data process died before it could take the new one.
func TestDiesWhileRebinding(t *testing.T) {
	r := newRig(t, testChunks, testRing)
	w, queues, _ := r.adopt(t)
	w.refill()
	queues[1].Transmit([]nic.Frame{takeFrame(w.pool, 1)})
	r.closePort(t, 1)
	queues[1].Close()
	r.sockets[1] = r.open(t, 1, testRing) // waits until the queue is let go of
	r.view[1] = r.attach(t, r.sockets[1])
	_, _, report := r.adopt(t)
	if want := (handover.Report{Free: testChunks - testRing, Fill: testRing, Released: testRing + 1}); report != want {
		t.Errorf("report %v\n  want %v", report, want)
	}
}

// TestPortIsNotHandedOver: what a port without a queue held is free.
func TestPortIsNotHandedOver(t *testing.T) {
	r := newRig(t, testChunks, testRing)
	w, queues, _ := r.adopt(t)
	w.refill()
	r.closePort(t, 1)
	queues[1].Close()
	if got, err := handover.Release(w.pool, r.umem, 1); err != nil || got != (handover.Reclaimed{Receive: testRing}) {
		t.Errorf("released %+v, %v", got, err)
	}
	if err := w.pool.Check(); err != nil {
		t.Error(err)
	}
	if n := w.pool.Count(nic.OwnerFill); n != testRing {
		t.Errorf("%d chunks wait to be received into, want %d", n, testRing)
	}
	if got, err := handover.Release(w.pool, r.umem, 1); err != nil || got != (handover.Reclaimed{}) {
		t.Errorf("a second time: released %+v, %v", got, err)
	}
}

// closePort closes the control process's half of a port.
func (r *rig) closePort(t *testing.T, port int) {
	t.Helper()
	if err := errors.Join(r.view[port].Close(), r.sockets[port].Close()); err != nil {
		t.Fatal(err)
	}
}

func takeFrame(pool *nic.Pool, serial uint32) nic.Frame {
	addr, _ := pool.Get()
	b := frame(serial)
	f := nic.Frame{Addr: addr + uint64(pool.Headroom()), Len: uint32(len(b))}
	copy(pool.Bytes(f), b)
	return f
}
