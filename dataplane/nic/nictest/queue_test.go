package nictest_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"fairlead/dataplane/nic"
	"fairlead/dataplane/nic/nictest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// refill offers n chunks.
func refill(pool *nic.Pool, q nic.Queue, n int) int {
	addrs := make([]uint64, n)
	taken := pool.TakeForFill(addrs)
	accepted := q.Refill(addrs[:taken])
	pool.Filled(accepted)
	return accepted
}

// bounce receives up to a batch and sends it back out of the same port; what
// is not accepted is freed.
func bounce(pool *nic.Pool, q nic.Queue) (received, accepted int) {
	frames := make([]nic.Frame, nic.BatchSize)
	n := q.Receive(frames)
	pool.Received(frames[:n])
	k := q.Transmit(frames[:n])
	pool.Sent(frames[:k])
	for _, f := range frames[k:n] {
		pool.Put(f.Addr)
	}
	q.Kick()
	addrs := make([]uint64, nic.BatchSize)
	done := q.Complete(addrs)
	pool.Completed(addrs[:done])
	return n, k
}

func TestDropsOnReceiveAreCounted(t *testing.T) {
	pool := newPool(t)
	q := nictest.New(pool, nictest.Config{RXSize: 2})
	small, large := make([]byte, 60), make([]byte, chunkSize-headroom+1)
	if q.Inject(small) {
		t.Error("a frame was received into no chunk")
	}
	refill(pool, q, 8)
	if !q.Inject(small) || !q.Inject(large[1:]) {
		t.Error("a frame that fits was dropped")
	}
	if q.Inject(small) {
		t.Error("a third frame in a ring of two")
	}
	if q.Inject(large) {
		t.Error("a frame longer than a chunk")
	}
	q.SetDown(true)
	if q.Inject(small) {
		t.Error("a frame over a link that is down")
	}
	want := nictest.Stats{Injected: 2, NoBuffer: 1, RXFull: 1, Oversize: 1, ReceiveDown: 1, Refilled: 8}
	if got := q.Stats(); got != want {
		t.Errorf("stats %+v\n want %+v", got, want)
	}
}

// TestFaultsRepeatBySeed: the same seed, the same faults; another, others; and
// whatever they are, no chunk is lost.
func TestFaultsRepeatBySeed(t *testing.T) {
	run := func(seed uint64) string {
		pool := newPool(t)
		q := nictest.New(pool, nictest.Config{Seed: seed, TXSize: 128, CompletionSize: 64, Faults: nictest.Faults{
			ShortReceive: 0.3, TransmitFull: 0.3, RefillFull: 0.3, KickIdle: 0.3, CompletionDelay: 2,
		}})
		var log strings.Builder
		for i := range 300 {
			accepted := refill(pool, q, 40)
			for range 20 {
				q.Inject([]byte{byte(i), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13})
			}
			received, sent := bounce(pool, q)
			fmt.Fprintln(&log, accepted, received, sent, len(q.Sent()))
			if err := pool.Check(); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.Err(); err != nil {
			t.Fatal(err)
		}
		s := q.Stats()
		if s.Refused == 0 || s.Sent == 0 || s.Completed == 0 {
			t.Errorf("stats %+v", s)
		}
		if s.Injected != s.Received+uint64(q.Pending()) || s.Accepted+s.Refused != s.Received || s.Sent > s.Accepted || s.Completed > s.Sent {
			t.Errorf("stats do not add up: %+v", s)
		}
		if tx := int(s.Accepted - s.Completed); pool.Count(nic.OwnerTX) != tx || pool.Count(nic.OwnerUser) != 0 {
			t.Errorf("pool has %d in tx, the queue %d", pool.Count(nic.OwnerTX), tx)
		}
		return log.String()
	}
	first, again := run(1), run(1)
	if first != again {
		t.Error("two runs with one seed differ")
	}
	if first == run(2) {
		t.Error("runs with two seeds are the same")
	}
}

func TestRefuseTransmit(t *testing.T) {
	pool := newPool(t)
	q := nictest.New(pool, nictest.Config{})
	addr, _ := pool.Get()
	f := []nic.Frame{{Addr: addr, Len: 60}}
	q.RefuseTransmit(2)
	for i, want := range []int{0, 0, 1} {
		if n := q.Transmit(f); n != want {
			t.Errorf("call %d accepted %d, want %d", i, n, want)
		}
	}
}

// TestMisuseIsReported: a queue notices when a chunk is used by somebody who
// does not own it.
func TestMisuseIsReported(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(pool *nic.Pool, q *nictest.Queue)
		want string
	}{
		{"send a free chunk", func(pool *nic.Pool, q *nictest.Queue) {
			q.Transmit([]nic.Frame{{Addr: 4096 + 7, Len: 60}})
		}, "port 5: chunk at 0x1000 is transmitted and was owned by free, want user"},
		{"offer a chunk in use", func(pool *nic.Pool, q *nictest.Queue) {
			addr, _ := pool.Get()
			q.Refill([]uint64{addr})
		}, "port 5: chunk at 0x0 is offered for receiving and was owned by user, want free"},
		{"forget to tell the pool of a fill", func(pool *nic.Pool, q *nictest.Queue) {
			q.Refill([]uint64{2048})
			q.Inject(make([]byte, 60))
			q.Receive(make([]nic.Frame, 1))
		}, "port 5: chunk at 0x800 is received and was owned by free, want fill"},
		{"forget to tell the pool of a frame sent", func(pool *nic.Pool, q *nictest.Queue) {
			addr, _ := pool.Get()
			q.Transmit([]nic.Frame{{Addr: addr, Len: 60}})
			q.Kick()
			q.Complete(make([]uint64, 1))
		}, "port 5: chunk at 0x0 is completed and was owned by user, want tx"},
		{"send across chunks", func(pool *nic.Pool, q *nictest.Queue) {
			addr, _ := pool.Get()
			q.Transmit([]nic.Frame{{Addr: addr + 2000, Len: 60}})
		}, "frame at 0x7d0 of 60 bytes does not lie in one chunk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pool := newPool(t)
			q := nictest.New(pool, nictest.Config{Port: 5})
			if err := q.Err(); err != nil {
				t.Fatal(err)
			}
			c.do(pool, q)
			if err := q.Err(); err == nil || err.Error() != c.want {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestCloseGivesEverythingBack(t *testing.T) {
	pool := newPool(t)
	q := nictest.New(pool, nictest.Config{Faults: nictest.Faults{CompletionDelay: 1 << 30}})
	refill(pool, q, 30)
	for range 20 {
		q.Inject(make([]byte, 60))
	}
	frames := make([]nic.Frame, 10)
	pool.Received(frames[:q.Receive(frames)])
	pool.Sent(frames[:q.Transmit(frames[:5])])
	if err := q.Kick(); err != nil { // five in the completion ring
		t.Fatal(err)
	}
	pool.Sent(frames[5:][:q.Transmit(frames[5:])]) // five in the TX ring
	held := q.Close()
	if len(held) != 30 {
		t.Errorf("%d chunks held, want 30", len(held))
	}
	for _, addr := range held {
		if err := pool.Reclaim(addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := pool.Check(); err != nil {
		t.Error(err)
	}
	if pool.Count(nic.OwnerFree) != chunks {
		t.Errorf("%d chunks are free, want all %d", pool.Count(nic.OwnerFree), chunks)
	}
}

// TestWorkersInParallel runs 16 workers, each with a pool and two queues whose
// wires lead to the next worker's, so that frames go round in a circle; it is
// also what the race detector looks at.
func TestWorkersInParallel(t *testing.T) {
	const workers, rounds = 16, 300
	type worker struct {
		pool   *nic.Pool
		queues [2]*nictest.Queue
	}
	ring := make([]worker, workers)
	for i := range ring {
		ring[i].pool = newPool(t)
		for port := range 2 {
			ring[i].queues[port] = nictest.New(ring[i].pool, nictest.Config{
				Port: uint16(port), Seed: uint64(i), KickBudget: 50, Faults: nictest.Faults{ShortReceive: 0.1, KickIdle: 0.1},
				Wire: func(frame []byte) { ring[(i+1)%workers].queues[port].Inject(frame) },
			})
		}
	}
	want := bytes.Repeat([]byte("fairlead"), 10)
	var running sync.WaitGroup
	errs := make(chan error, workers)
	for i := range ring {
		w := &ring[i]
		running.Go(func() {
			frames := make([]nic.Frame, nic.BatchSize)
			addrs := make([]uint64, nic.BatchSize)
			for round := range rounds {
				for port, q := range w.queues {
					refill(w.pool, q, nic.BatchSize)
					if round%10 == 0 {
						q.Inject(want)
					}
					n := q.Receive(frames)
					w.pool.Received(frames[:n])
					for _, f := range frames[:n] {
						if !bytes.Equal(w.pool.Bytes(f), want) {
							errs <- fmt.Errorf("worker %d received %q", i, w.pool.Bytes(f))
							return
						}
					}
					out := w.queues[1-port]
					k := out.Transmit(frames[:n])
					w.pool.Sent(frames[:k])
					for _, f := range frames[k:n] {
						w.pool.Put(f.Addr)
					}
					out.Kick()
					done := out.Complete(addrs)
					w.pool.Completed(addrs[:done])
				}
			}
		})
	}
	running.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	var total nictest.Stats
	for i := range ring {
		if err := ring[i].pool.Check(); err != nil {
			t.Error(err)
		}
		for _, q := range ring[i].queues {
			if err := q.Err(); err != nil {
				t.Error(err)
			}
			s := q.Stats()
			total.Sent += s.Sent
			total.Received += s.Received
		}
	}
	if total.Sent == 0 || total.Received == 0 {
		t.Errorf("nothing went round: %+v", total)
	}
}

func BenchmarkForward(b *testing.B) {
	pool := newPool(b)
	q := nictest.New(pool, nictest.Config{Wire: func([]byte) {}})
	refill(pool, q, 1024)
	frame := make([]byte, 60)
	frames := make([]nic.Frame, nic.BatchSize)
	addrs := make([]uint64, nic.BatchSize)
	b.ReportAllocs()
	for i := 0; i < b.N; i += nic.BatchSize {
		for range nic.BatchSize {
			q.Inject(frame)
		}
		n := q.Receive(frames)
		pool.Received(frames[:n])
		pool.Sent(frames[:q.Transmit(frames[:n])])
		q.Kick()
		n = q.Complete(addrs)
		pool.Completed(addrs[:n])
		n = pool.TakeForFill(addrs)
		pool.Filled(q.Refill(addrs[:n]))
	}
}
