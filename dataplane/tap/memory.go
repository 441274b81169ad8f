package tap

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"fairlead/dataplane/reason"
)

// The shared memory: a page that the control process writes, and for each
// worker a page of counters and a ring. Everything but what is in a ring is
// 64-bit words that are read and written atomically.
//
//	page 0    magic | epoch | beat | active | swept | filters
//	a worker  head, seen | tail | matched | lost     one page
//	          ring                                   RingSize bytes
const (
	page = 4096

	// RingSize is how many bytes of packets a worker's ring holds.
	RingSize = 4 << 20

	magic = 0x7461_7000_0000_0001 + uint64(reason.Count)<<16 // the version, and what reasons it knows
)

// control is page 0.
type control struct {
	magic  uint64
	epoch  uint64 // of the filters: odd while they are written; it only ever rises
	beat   uint64 // the reader's last sign of life: milliseconds on the monotonic clock
	active uint64 // a bit for each filter that is there
	swept  uint64 // epoch whose filters memos were withheld for, written by the data process
	_      [3]uint64
	filter [MaxTaps][filterWords]uint64
}

const filterWords = int(unsafe.Sizeof(Filter{})) / 8

// part is a worker's page.
type part struct {
	head uint64 // bytes ever written to the ring; the worker's
	seen uint64 // epoch of the filters in use; the worker's
	_    [6]uint64
	tail uint64 // bytes ever taken from it; the reader's
	_    [7]uint64

	matched [MaxTaps]uint64 // packets that a filter selected, before sampling; the worker's
	lost    [MaxTaps]uint64 // of those to be taken, how many found the ring full; the worker's
}

// Size is how many bytes taps of so many workers take. The memory is sparse:
// rings that are never used cost nothing.
func Size(workers int) int { return page + workers*(page+RingSize) }

// memory is the shared memory as each side sees it.
type memory struct {
	control *control
	parts   []*part
	rings   [][]byte
}

// ErrLayout says that the memory was made by a version that lays it out
// differently.
var ErrLayout = errors.New("the memory of taps has another layout")

func lay(mem []byte, workers int) (memory, error) {
	if want := Size(workers); len(mem) < want {
		return memory{}, fmt.Errorf("tap: %d workers take %d bytes, the memory has %d", workers, want, len(mem))
	}
	m := memory{control: (*control)(unsafe.Pointer(&mem[0]))}
	for w := range workers {
		at := mem[page+w*(page+RingSize):]
		m.parts = append(m.parts, (*part)(unsafe.Pointer(&at[0])))
		m.rings = append(m.rings, at[page:page+RingSize:page+RingSize])
	}
	return m, nil
}

// loadFilter copies a filter.
func (c *control) loadFilter(slot int, f *Filter) {
	to := (*[filterWords]uint64)(unsafe.Pointer(f))
	for i := range to {
		to[i] = atomic.LoadUint64(&c.filter[slot][i])
	}
}

func (c *control) storeFilter(slot int, f *Filter) {
	from := (*[filterWords]uint64)(unsafe.Pointer(f))
	for i := range from {
		atomic.StoreUint64(&c.filter[slot][i], from[i])
	}
}

// load copies all filters that are there, and is false while they are being
// written.
func (c *control) load(filters *[MaxTaps]Filter) (epoch uint64, active uint8, ok bool) {
	epoch = atomic.LoadUint64(&c.epoch)
	if epoch%2 != 0 {
		return 0, 0, false
	}
	active = uint8(atomic.LoadUint64(&c.active))
	for slot := range filters {
		if active>>slot&1 != 0 {
			c.loadFilter(slot, &filters[slot])
		}
	}
	return epoch, active, atomic.LoadUint64(&c.epoch) == epoch
}

// aliveFor is how many milliseconds after the reader's last sign of life nobody
// looks any more: a control process that has died leaves no capture running.
const aliveFor = 5000

// record is the head of what a ring holds; the kept bytes follow, and the next
// one begins at a multiple of recordSize bytes after it.
type record struct {
	size    uint32 // of the record with everything, a multiple of recordSize; with taps 0 it only fills the ring's end
	kept    uint32 // bytes of the frame that follow
	time    int64  // nanoseconds since 1970
	length  uint32 // of the frame
	service uint32 // fib.ID, 0: none
	backend uint32 // fib.ID, 0: none
	port    uint16 // interface: index in the FIB's table
	queue   uint16 // of the worker
	taps    uint8  // a bit for each filter that wants it
	reason  reason.Reason
	op      uint8
	flags   uint8
	_       [28]byte
}

const recordSize = int(unsafe.Sizeof(record{}))

// A record is one cache line.
var _ = [1]struct{}{}[recordSize-64]

func sizeOf(kept int) int { return (recordSize + kept + recordSize - 1) &^ (recordSize - 1) }

func at(ring []byte, position uint64) *record {
	return (*record)(unsafe.Pointer(&ring[position%RingSize]))
}
