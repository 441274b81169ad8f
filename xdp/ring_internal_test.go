package xdp

import (
	"math/rand/v2"
	"testing"

	"fairlead/dataplane/nic"
)

// memoryRing is a ring in plain memory, for want of a kernel.
func memoryRing[T any](size int, start uint32) *ring[T] {
	producer, consumer, flags := new(uint32), new(uint32), new(uint32)
	*producer, *consumer = start, start
	return &ring[T]{producer: producer, consumer: consumer, flags: flags, entries: make([]T, size), mask: uint32(size - 1)}
}

// TestRingAgainstQueue drives a ring, both ends, against a slice that does the
// same, across the point where the indices overflow.
func TestRingAgainstQueue(t *testing.T) {
	const size = 16
	rng := rand.New(rand.NewPCG(7, 8))
	for _, start := range []uint32{0, 5, 1<<32 - 1, 1<<32 - 40} {
		p := memoryRing[uint64](size, start)
		c := &ring[uint64]{producer: p.producer, consumer: p.consumer, flags: p.flags, entries: p.entries, mask: p.mask}
		p.startProducing()
		c.startConsuming()
		var oracle []uint64
		next := uint64(1)
		for range 2000 {
			want := rng.IntN(size + 4)
			// What is cached may be behind, but never wrong when asked for
			// more than it says.
			if n := p.room(want); int(n) != min(want, size-len(oracle)) {
				t.Fatalf("room for %d of %d with %d in the ring", n, want, len(oracle))
			} else {
				for i := range n {
					p.entries[(p.next+i)&p.mask] = next
					oracle = append(oracle, next)
					next++
				}
				p.publish(n)
			}
			want = rng.IntN(size + 4)
			n := c.waiting(want)
			if int(n) != min(want, len(oracle)) {
				t.Fatalf("%d of %d waiting with %d in the ring", n, want, len(oracle))
			}
			for i := range n {
				if got := c.entries[(c.next+i)&c.mask]; got != oracle[i] {
					t.Fatalf("entry %d, want %d", got, oracle[i])
				}
			}
			c.release(n)
			oracle = oracle[n:]
			if got := c.between(*c.consumer, *c.producer); len(got) != len(oracle) || len(got) > 0 && got[0] != oracle[0] {
				t.Fatalf("ring has %v, want %v", got, oracle)
			}
		}
	}
}

func TestBetweenRefusesMoreThanARing(t *testing.T) {
	r := memoryRing[uint64](16, 0)
	if got := r.between(10, 9); got != nil {
		t.Errorf("%d entries from index 10 to 9", len(got))
	}
	if got := r.between(0, 17); got != nil {
		t.Errorf("%d entries of a ring of 16", len(got))
	}
}

// BenchmarkQueue is the cost of the rings alone, a frame: received, handed
// over, completed and refilled in batches, with a kernel that only moves
// indices. It includes the custody table and the counters, and of the pool
// nothing.
func BenchmarkQueue(b *testing.B) {
	const size = 2048
	u, err := NewUMEM(UMEMConfig{Chunks: size})
	if err != nil {
		b.Fatal(err)
	}
	defer u.Close()
	q := &Queue{
		holders: u.custody.holders, record: &u.custody.ports[0], shift: 11, chunkMask: 2047,
		forReceive: HeldForReceive(0), forSend: HeldForSend(0),
		fill: *memoryRing[uint64](size, 0), rx: *memoryRing[desc](size, 0),
		tx: *memoryRing[desc](size, 0), completion: *memoryRing[uint64](size, 0),
	}
	q.resume()
	// Every chunk goes through every ring in the same order, so the kernel's
	// entries stay as they are.
	addrs := make([]uint64, size)
	for i := range addrs {
		addrs[i] = uint64(i) * 2048
		q.rx.entries[i] = desc{addr: addrs[i] + KernelHeadroom, len: 60}
		q.completion.entries[i] = addrs[i] + KernelHeadroom
	}
	if n := q.Refill(addrs); n != size {
		b.Fatalf("%d chunks accepted", n)
	}
	frames := make([]nic.Frame, nic.BatchSize)
	done := make([]uint64, nic.BatchSize)
	b.ReportAllocs()
	for i := 0; i < b.N; i += nic.BatchSize {
		*q.rx.producer = *q.fill.producer
		*q.fill.consumer = *q.fill.producer
		n := q.Receive(frames)
		q.Transmit(frames[:n])
		*q.tx.consumer = *q.tx.producer
		*q.completion.producer = *q.tx.producer
		n = q.Complete(done)
		if n = q.Refill(done[:n]); n != nic.BatchSize {
			b.Fatalf("%d chunks went round", n)
		}
	}
}
