package xdp

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// desc is an entry of the RX and TX rings (struct xdp_desc).
type desc struct {
	addr uint64
	len  uint32
	_    uint32 // options: nothing is asked for
}

// ring is one of a socket's four rings, mapped. This process produces into the
// fill and TX rings and consumes the RX and completion rings; the kernel is at
// the other end. Indices run freely modulo 2^32, entries lie at index modulo
// size.
//
// An index of one's own is stored with release and the other side's loaded
// with acquire ordering; sync/atomic gives more than that: sequential
// consistency, which the wake-up flag needs (publish, then read the flag).
type ring[T any] struct {
	producer *uint32
	consumer *uint32
	flags    *uint32
	entries  []T
	mask     uint32

	// next is this side's index as last published. limit is how far this side
	// may go by what it last saw of the other side's index: producing, the
	// index at which the ring is full; consuming, the producer's index.
	next  uint32
	limit uint32

	mem []byte
}

// mapRing maps the ring of size entries that begins at pgoff of the socket.
func mapRing[T any](fd int, name string, pgoff int64, size int, off unix.XDPRingOffset) (ring[T], error) {
	var entry T
	mem, err := unix.Mmap(fd, pgoff, int(off.Desc)+size*int(unsafe.Sizeof(entry)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return ring[T]{}, fmt.Errorf("map %s ring of %d entries: %w", name, size, err)
	}
	return ring[T]{
		producer: (*uint32)(unsafe.Pointer(&mem[off.Producer])),
		consumer: (*uint32)(unsafe.Pointer(&mem[off.Consumer])),
		flags:    (*uint32)(unsafe.Pointer(&mem[off.Flags])),
		entries:  unsafe.Slice((*T)(unsafe.Pointer(&mem[off.Desc])), size),
		mask:     uint32(size - 1),
		mem:      mem,
	}, nil
}

func (r *ring[T]) unmap() error {
	if r.mem == nil {
		return nil
	}
	mem := r.mem
	*r = ring[T]{}
	return unix.Munmap(mem)
}

// startProducing takes over where the last process stopped producing.
func (r *ring[T]) startProducing() {
	r.next = atomic.LoadUint32(r.producer)
	r.limit = atomic.LoadUint32(r.consumer) + uint32(len(r.entries))
}

// startConsuming takes over where the last process stopped consuming.
func (r *ring[T]) startConsuming() {
	r.next = atomic.LoadUint32(r.consumer)
	r.limit = atomic.LoadUint32(r.producer)
}

// room is how many entries, want at most, can be produced.
func (r *ring[T]) room(want int) uint32 {
	if int(r.limit-r.next) < want {
		r.limit = atomic.LoadUint32(r.consumer) + uint32(len(r.entries))
	}
	return uint32(min(want, int(r.limit-r.next)))
}

// waiting is how many entries, want at most, can be consumed.
func (r *ring[T]) waiting(want int) uint32 {
	if int(r.limit-r.next) < want {
		r.limit = atomic.LoadUint32(r.producer)
	}
	return uint32(min(want, int(r.limit-r.next)))
}

// publish gives the kernel the next n entries, already written.
func (r *ring[T]) publish(n uint32) {
	r.next += n
	atomic.StoreUint32(r.producer, r.next)
}

// release gives the kernel back the room of the next n entries, already read.
func (r *ring[T]) release(n uint32) {
	r.next += n
	atomic.StoreUint32(r.consumer, r.next)
}

// needsWakeup reports whether the kernel waits for a system call before it
// looks at the ring.
func (r *ring[T]) needsWakeup() bool {
	return atomic.LoadUint32(r.flags)&unix.XDP_RING_NEED_WAKEUP != 0
}

// between copies the entries from index from up to index to, at most one
// ring's worth.
func (r *ring[T]) between(from, to uint32) []T {
	n := to - from
	if n > uint32(len(r.entries)) {
		return nil
	}
	out := make([]T, n)
	for i := range out {
		out[i] = r.entries[(from+uint32(i))&r.mask]
	}
	return out
}
