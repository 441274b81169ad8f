package tap

import (
	"fmt"
	"sync/atomic"
	"time"

	"fairlead/dataplane/nic"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// Writer is a worker's side. It belongs to the worker.
type Writer struct {
	control *control
	part    *part
	ring    []byte
	seen    uint64
	active  uint8
	snap    int // most that any filter wants of a frame
	filters [MaxTaps]Filter
	buckets [MaxTaps][reason.Count]bucket
	random  uint64
	now     uint32

	wants uint8 // filters that want the packet in hand as it leaves
	last  record

	n      int // frames of the batch that were kept
	chunks [nic.BatchSize]uint64
	sizes  [nic.BatchSize]uint32 // bytes that are kept of each
	lens   [nic.BatchSize]uint32 // and how long it was
	kept   []byte                // MaxSnap bytes for each
}

// Packet is one packet whose journey has ended or that leaves.
type Packet struct {
	Came    []byte // as it came in, as much as is known; nil: not at hand
	CameLen uint32 // its length
	Left    []byte // as it leaves; nil when it does not

	Reason  reason.Reason
	Op      uint8  // how it was rewritten: a dataplane.Op
	Service uint32 // fib.ID, 0: none
	Backend uint32 // fib.ID, 0: none
	Port    uint16 // interface it came in by
	Out     uint16 // interface it leaves by
	Queue   uint16 // of the worker
	Altered bool   // Came was rewritten before the journey ended
}

// NewWriters makes the sides of all workers over memory of Size bytes that a
// Reader has prepared.
func NewWriters(mem []byte, workers int) ([]*Writer, error) {
	m, err := lay(mem, workers)
	if err != nil {
		return nil, err
	}
	if have := atomic.LoadUint64(&m.control.magic); have != magic {
		return nil, fmt.Errorf("%w: %#x", ErrLayout, have)
	}
	list := make([]*Writer, workers)
	for i := range list {
		w := &Writer{control: m.control, part: m.parts[i], ring: m.rings[i], random: uint64(i)*0x9e3779b97f4a7c15 + 1}
		w.kept = make([]byte, nic.BatchSize*MaxSnap)
		list[i] = w
	}
	return list, nil
}

// Refresh takes over the filters in force, once a round; now is in milliseconds
// on the monotonic clock. It reports whether anybody looks.
func (w *Writer) Refresh(now uint32) bool {
	if atomic.LoadUint64(&w.control.epoch) != w.seen {
		w.adopt()
	}
	return w.active != 0 && w.watched(now)
}

// watched reports whether the reader lives.
func (w *Writer) watched(now uint32) bool {
	w.now = now
	if int32(now-uint32(atomic.LoadUint64(&w.control.beat))) < aliveFor {
		return true
	}
	w.n = 0
	return false
}

// adopt copies the filters.
func (w *Writer) adopt() {
	epoch, active, ok := w.control.load(&w.filters)
	if !ok {
		w.active = 0 // until they are written, this round or the next
		return
	}
	w.seen, w.active, w.snap, w.n = epoch, active, 0, 0
	for slot := range w.filters {
		if active>>slot&1 == 0 {
			continue
		}
		w.snap = max(w.snap, min(int(w.filters[slot].Snap), MaxSnap))
		clear(w.buckets[slot][:])
	}
	atomic.StoreUint64(&w.part.seen, epoch)
}

// Withholds reports whether the packets of a flow are wanted on a path of the
// worker's: there must be no memo of it that the XDP program forwards by.
func (w *Writer) Withholds(service, backend uint32, client packet.Addr) bool {
	return withholds(&w.filters, w.active, service, backend, client)
}

func withholds(filters *[MaxTaps]Filter, active uint8, service, backend uint32, client packet.Addr) bool {
	for slot := range filters {
		if f := &filters[slot]; active>>slot&1 != 0 && f.withholds() && f.Flow(service, backend, client) {
			return true
		}
	}
	return false
}

// Keep keeps the i-th frame of a batch as it came in, by the address of its
// chunk, before it is rewritten. It is called for all of them, in order.
func (w *Writer) Keep(i int, chunk uint64, frame []byte) {
	n := copy(w.kept[i*MaxSnap:i*MaxSnap+w.snap], frame)
	w.chunks[i], w.sizes[i], w.lens[i], w.n = chunk, uint32(n), uint32(len(frame)), i+1
}

// Kept is what was kept of the i-th frame of the last batch, nil when that is
// another chunk's.
func (w *Writer) Kept(i int, chunk uint64) (bytes []byte, length uint32) {
	if i >= w.n || w.chunks[i] != chunk {
		return nil, 0
	}
	return w.kept[i*MaxSnap : i*MaxSnap+int(w.sizes[i])], w.lens[i]
}

// Note shows a packet to those whose filters select it.
func (w *Writer) Note(p *Packet) {
	came, left := uint8(0), uint8(0)
	for slot := range w.filters {
		if w.active>>slot&1 == 0 || !w.selects(&w.filters[slot], p) {
			continue
		}
		f := &w.filters[slot]
		atomic.StoreUint64(&w.part.matched[slot], w.part.matched[slot]+1)
		if f.Every > 1 && w.next()%uint64(f.Every) != 0 || f.PerSecond > 0 && !w.buckets[slot][p.Reason].take(w.now, f.PerSecond) {
			continue
		}
		came |= uint8(f.Flags&Received/Received) << slot
		left |= uint8(f.Flags&Sent/Sent) << slot
	}
	w.wants = left
	if came|left == 0 {
		return
	}
	w.last = record{time: time.Now().UnixNano(), service: p.Service, backend: p.Backend, queue: p.Queue, reason: p.Reason, op: p.Op}
	if came != 0 && p.Came != nil {
		flags := uint8(0)
		if p.Altered {
			flags = flagAltered
		}
		w.put(came, flags, p.Port, p.CameLen, p.Came)
	}
	if p.Left != nil {
		w.NoteLeft(p.Left, p.Out)
	}
}

// NoteLeft shows another frame that leaves of the packet that was shown last,
// as its fragments do, to those who want it.
func (w *Writer) NoteLeft(frame []byte, out uint16) {
	if w.wants != 0 {
		w.put(w.wants, flagSent, out, uint32(len(frame)), frame)
	}
}

// Flags of a record.
const (
	flagSent    = 1 << iota // as it leaves
	flagAltered             // rewritten, in part at least, though it did not leave
)

func (w *Writer) selects(f *Filter, p *Packet) bool {
	if !f.Reasons.Has(p.Reason) || !named(&f.Services, p.Service) || !named(&f.Backends, p.Backend) {
		return false
	}
	if f.ClientMask.IsZero() {
		return true
	}
	src, dst, ok := packet.Peek(p.Came)
	if ok && (f.ends(src) || f.ends(dst)) {
		return true
	}
	_, dst, ok = packet.Peek(p.Left)
	return ok && f.ends(dst)
}

// put writes a record, or counts that there is no room.
func (w *Writer) put(taps, flags uint8, port uint16, length uint32, frame []byte) {
	snap := 0
	for slot := range w.filters {
		if taps>>slot&1 != 0 {
			snap = max(snap, min(int(w.filters[slot].Snap), MaxSnap))
		}
	}
	frame = frame[:min(len(frame), snap)]
	size := sizeOf(len(frame))
	// The head is read anew each time: another process may have gone on from
	// here since, and ended.
	head := atomic.LoadUint64(&w.part.head) &^ uint64(recordSize-1)
	rest := int(RingSize - head%RingSize)
	need := size
	if rest < size {
		need += rest
	}
	if used := head - atomic.LoadUint64(&w.part.tail); used > RingSize || RingSize-int(used) < need {
		for slot := range w.part.lost {
			if taps>>slot&1 != 0 {
				atomic.StoreUint64(&w.part.lost[slot], w.part.lost[slot]+1)
			}
		}
		return
	}
	if rest < size {
		*at(w.ring, head) = record{size: uint32(rest)}
		head += uint64(rest)
	}
	r := at(w.ring, head)
	*r = w.last
	r.size, r.kept, r.length, r.port, r.taps, r.flags = uint32(size), uint32(len(frame)), length, port, taps, flags
	copy(w.ring[int(head%RingSize)+recordSize:], frame)
	atomic.StoreUint64(&w.part.head, head+uint64(size))
}

// next is a random number (xorshift).
func (w *Writer) next() uint64 {
	w.random ^= w.random << 13
	w.random ^= w.random >> 7
	w.random ^= w.random << 17
	return w.random
}

// bucket limits how often a reason is shown: a token bucket that holds what one
// second brings.
type bucket struct {
	millitokens uint32
	last        uint32
	begun       bool
}

func (b *bucket) take(now, perSecond uint32) bool {
	full := min(perSecond, 1_000_000) * 1000
	if !b.begun {
		b.begun, b.millitokens, b.last = true, full, now
	}
	gained := uint64(now-b.last) * uint64(perSecond)
	b.last = now
	b.millitokens = uint32(min(uint64(full), uint64(b.millitokens)+gained))
	if b.millitokens < 1000 {
		return false
	}
	b.millitokens -= 1000
	return true
}
