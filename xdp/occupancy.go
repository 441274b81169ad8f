package xdp

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Occupancy is how many entries of a socket's rings are in use at one moment.
type Occupancy struct {
	RX         int // frames that wait for the worker
	TX         int // frames that wait for the kernel to send them
	Fill       int // chunks that the kernel may receive into
	Completion int // chunks that are sent and not taken back
}

// Occupancy looks at the rings. It changes nothing, whoever uses them.
func (s *Socket) Occupancy() (Occupancy, error) {
	var off unix.XDPMmapOffsets
	if err := getsockopt(s.fd, unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&off), unsafe.Sizeof(off)); err != nil {
		return Occupancy{}, fmt.Errorf("xdp: read ring offsets: %w", err)
	}
	var o Occupancy
	var errs []error
	for _, r := range []struct {
		name string
		at   int64
		off  *unix.XDPRingOffset
		to   *int
		size int
	}{
		{"RX", unix.XDP_PGOFF_RX_RING, &off.Rx, &o.RX, s.geometry.RXSize},
		{"TX", unix.XDP_PGOFF_TX_RING, &off.Tx, &o.TX, s.geometry.TXSize},
		{"fill", unix.XDP_UMEM_PGOFF_FILL_RING, &off.Fr, &o.Fill, s.geometry.FillSize},
		{"completion", unix.XDP_UMEM_PGOFF_COMPLETION_RING, &off.Cr, &o.Completion, s.geometry.CompletionSize},
	} {
		used, err := s.used(r.at, r.off)
		if err != nil {
			errs = append(errs, fmt.Errorf("xdp: look at the %s ring: %w", r.name, err))
		}
		// The two indices are read one after the other, while others go on.
		*r.to = min(used, r.size)
	}
	return o, errors.Join(errs...)
}

// used is how far a ring's producer is ahead of its consumer. The indices are in
// the first page of the ring.
func (s *Socket) used(at int64, off *unix.XDPRingOffset) (int, error) {
	page := os.Getpagesize()
	if off.Producer+4 > uint64(page) || off.Consumer+4 > uint64(page) {
		return 0, fmt.Errorf("indices at %d and %d are beyond the first page", off.Producer, off.Consumer)
	}
	mem, err := unix.Mmap(s.fd, at, page, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	consumer := atomic.LoadUint32((*uint32)(unsafe.Pointer(&mem[off.Consumer])))
	producer := atomic.LoadUint32((*uint32)(unsafe.Pointer(&mem[off.Producer])))
	return int(producer - consumer), unix.Munmap(mem)
}

// Holding is who has the chunks of a UMEM at one moment.
type Holding struct {
	Worker  int // the worker: those that are free, and those in its hands
	Receive int // receiving sides of sockets: fill ring, driver, RX ring
	Send    int // sending sides: TX ring, driver, completion ring
}

// Holding counts the chunks by holder. It may be called in any process that has
// the memory mapped, while others go on; so the numbers may be off by what moved
// meanwhile.
func (u *UMEM) Holding() Holding {
	var h Holding
	for _, holder := range u.custody.holders {
		switch {
		case holder == HeldByWorker:
			h.Worker++
		case holder&1 == 1:
			h.Receive++
		default:
			h.Send++
		}
	}
	return h
}
