package xdp_test

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/nic"
	"fairlead/xdp"
	"fairlead/xdp/ethtool"
	"fairlead/xdp/xdptest"
)

// udp makes an Ethernet frame with a UDP packet from the given port: what the
// far end's queue selection hashes.
func udp(sport uint16) []byte {
	f := make([]byte, 60)
	copy(f, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0,
		0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 19, 0, 1})
	binary.BigEndian.PutUint16(f[34:], sport)
	binary.BigEndian.PutUint16(f[36:], 53)
	binary.BigEndian.PutUint16(f[38:], 26)
	return f
}

// TestEveryQueueHasItsWorker runs one UMEM for each of four queues of two
// interfaces; each frame comes to exactly one of them.
func TestEveryQueueHasItsWorker(t *testing.T) {
	const queues, frames = 4, 256
	lab := xdptest.New(t, 2, queues)
	var rigs [queues]*rig
	for q := range rigs {
		rigs[q] = newRig(t, lab, 2, q, xdp.UMEMConfig{Chunks: 1024}, xdp.SocketConfig{NeedWakeup: true, RXSize: 256, FillSize: 512})
		addrs := make([]uint64, 512)
		n := rigs[q].pool.TakeForFill(addrs)
		rigs[q].pool.Filled(rigs[q].queues[0].Refill(addrs[:n]))
	}
	seen := map[uint16]int{}
	var perQueue [queues]int
	for i := range frames {
		lab.Inject(t, 0, udp(uint16(i)))
	}
	batch := make([]nic.Frame, nic.BatchSize)
	poll(t, "all frames", func() bool {
		for q, r := range rigs {
			n := r.queues[0].Receive(batch)
			r.pool.Received(batch[:n])
			for _, f := range batch[:n] {
				seen[binary.BigEndian.Uint16(r.pool.Bytes(f)[34:])]++
				r.pool.Put(f.Addr)
			}
			perQueue[q] += n
		}
		return len(seen) == frames
	})
	for port, n := range seen {
		if n != 1 {
			t.Errorf("the frame from port %d came %d times", port, n)
		}
	}
	for q, n := range perQueue {
		if n == 0 {
			t.Errorf("queue %d received nothing: %v", q, perQueue)
		}
	}
}

// TestQueueCountChanges: the kernel takes no queue away that a socket has; when
// the socket is closed the count may change, and change back.
func TestQueueCountChanges(t *testing.T) {
	lab := xdptest.New(t, 1, 2)
	u := newUMEM(t, xdp.UMEMConfig{Chunks: 64})
	cfg := xdp.SocketConfig{IfIndex: lab.Link(0).Index, IfName: "near0", UMEM: u, Queue: 1, BindWait: 10 * time.Second}
	for range 3 {
		s, err := tryOpen(t, lab, cfg)
		if err != nil {
			t.Fatal(err)
		}
		var refused error
		lab.Do(t, func() error {
			if err := ethtool.SetChannels("far0", 1, 1); err != nil {
				return err
			}
			refused = ethtool.SetChannels("near0", 1, 1)
			return nil
		})
		if !errors.Is(refused, unix.EINVAL) {
			t.Errorf("a queue with a socket was taken away: %v", refused)
		}
		s.Close()
		// The kernel lets go of the queue a while after that.
		poll(t, "fewer queues", func() bool {
			var err error
			lab.Do(t, func() error {
				err = ethtool.SetChannels("near0", 1, 1)
				return nil
			})
			return err == nil
		})
		_, err = tryOpen(t, lab, cfg)
		wantError(t, err, "xdp: socket on near0 queue 1: bind in copy mode: invalid argument: the interface has no such queue, or the driver does not take this configuration: compare ethtool -l")
		lab.SetQueues(t, 0, 2)
	}
}

// TestInterfaceGone uses every call of a queue whose interface was removed.
func TestInterfaceGone(t *testing.T) {
	lab := xdptest.New(t, 2, 1)
	r := newRig(t, lab, 2, 0, xdp.UMEMConfig{Chunks: 512}, xdp.SocketConfig{NeedWakeup: true, RXSize: 64, TXSize: 64, FillSize: 64})
	forward(t, r, 0, 1)
	lab.Remove(t, 1)
	q := r.queues[1]
	addrs := make([]uint64, 64)
	for i := range 100 {
		addr, ok := r.pool.Get()
		if !ok {
			t.Fatal("the pool is empty")
		}
		f := []nic.Frame{{Addr: addr, Len: 60}}
		n := q.Transmit(f)
		r.pool.Sent(f[:n])
		if n == 0 {
			r.pool.Put(addr)
		}
		if want := i < 64; (n == 1) != want {
			t.Fatalf("frame %d accepted: %v, the ring has 64 entries", i, n == 1)
		}
		if err := q.Kick(); !errors.Is(err, nic.ErrDown) {
			t.Fatalf("Kick = %v, want %v", err, nic.ErrDown)
		}
		if n := q.Receive(make([]nic.Frame, 4)) + q.Complete(addrs); n != 0 {
			t.Fatalf("%d frames from an interface that is gone", n)
		}
		n = r.pool.TakeForFill(addrs)
		r.pool.Filled(q.Refill(addrs[:n]))
		r.waiter.Wait(0)
		if err := r.pool.Check(); err != nil {
			t.Fatal(err)
		}
	}
	if c := q.Counters(); c.Down != 100 || c.Kicks < 100 || c.Refused != 36 || c.OtherErrors != 0 {
		t.Errorf("counters %+v", c)
	}
	if _, err := q.Statistics(); err != nil {
		t.Error(err)
	}
	forward(t, r, 0, 0)
}

// TestCountersAndStatistics drives a queue and the kernel into each of the
// counts that can be had exactly.
func TestCountersAndStatistics(t *testing.T) {
	lab := xdptest.New(t, 1, 1)
	r := newRig(t, lab, 1, 0, xdp.UMEMConfig{Chunks: 1024, Headroom: 1024},
		xdp.SocketConfig{NeedWakeup: true, RXSize: 16, TXSize: 512, FillSize: 32})
	q := r.queues[0]
	statistics := func() xdp.Statistics {
		s, err := q.Statistics()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := statistics(); s != (xdp.Statistics{}) {
		t.Errorf("statistics of a new socket %+v", s)
	}
	// Too long for what the headroom leaves of a chunk.
	addrs := make([]uint64, 32)
	n := r.pool.TakeForFill(addrs)
	r.pool.Filled(q.Refill(addrs[:n]))
	lab.Inject(t, 0, append(udp(1), make([]byte, 1000)...))
	poll(t, "a frame too long to be dropped", func() bool { return statistics().RXDropped == 1 })
	// One more than the RX ring holds.
	for range 17 {
		lab.Inject(t, 0, udp(1))
	}
	poll(t, "the RX ring to be full", func() bool { return statistics().RXRingFull == 1 })
	frames := make([]nic.Frame, 64)
	n = q.Receive(frames)
	r.pool.Received(frames[:n])
	for range 20 { // 16 chunks are left, of which the kernel keeps the one it could not deliver
		lab.Inject(t, 0, udp(1))
		k := q.Receive(frames[n:])
		r.pool.Received(frames[n : n+k])
		n += k
	}
	poll(t, "the fill ring to be empty", func() bool { return statistics().FillRingEmpty > 0 })
	if n != 32 {
		t.Errorf("%d frames received into 32 chunks", n)
	}

	// A full TX ring goes out in few system calls.
	for range 512 {
		addr, _ := r.pool.Get()
		f := []nic.Frame{{Addr: addr, Len: 60}}
		q.Transmit(f)
		r.pool.Sent(f)
	}
	if err := q.Kick(); err != nil {
		t.Fatal(err)
	}
	budget := uint64(r.sockets[0].Facts().KickBudget)
	c := q.Counters()
	if c.Transmitted != 512 || c.Kicks < 512/budget || c.Kicks > 512/budget+1 || c.Stalled != 0 {
		t.Errorf("%d frames in %d kicks of %d, %d stalled", c.Transmitted, c.Kicks, budget, c.Stalled)
	}
	done := make([]uint64, 512)
	poll(t, "completions", func() bool {
		n := q.Complete(done)
		r.pool.Completed(done[:n])
		return r.pool.Count(nic.OwnerTX) == 0
	})
	if c := q.Counters(); c.Completed != 512 || c.Received != 32 || c.Refilled != 32 || c.Stray != 0 {
		t.Errorf("counters %+v", c)
	}
}

// TestCompletionRingFull: with nobody taking completions, Kick gives up and
// says so, and goes on when there is room again.
func TestCompletionRingFull(t *testing.T) {
	lab := xdptest.New(t, 1, 1)
	r := newRig(t, lab, 1, 0, xdp.UMEMConfig{Chunks: 1024}, xdp.SocketConfig{NeedWakeup: true, TXSize: 256, CompletionSize: 64})
	q := r.queues[0]
	for range 256 {
		addr, _ := r.pool.Get()
		f := []nic.Frame{{Addr: addr, Len: 60}}
		q.Transmit(f)
		r.pool.Sent(f)
	}
	if err := q.Kick(); err != nil {
		t.Fatal(err)
	}
	if c := q.Counters(); c.Stalled != 1 || c.Again == 0 {
		t.Errorf("counters %+v, want a stall", c)
	}
	addrs := make([]uint64, 32)
	poll(t, "everything to be sent", func() bool {
		n := q.Complete(addrs)
		r.pool.Completed(addrs[:n])
		if err := q.Kick(); err != nil {
			t.Fatal(err)
		}
		return r.pool.Count(nic.OwnerTX) == 0
	})
}
