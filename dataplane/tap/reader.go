package tap

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// Reader is the control process's side. It believes nothing of what is in a
// ring before it has looked. Its methods are for one goroutine at a time.
type Reader struct{ memory }

// NewReader lays the reader's side over memory of Size bytes, and ends all taps
// that an earlier reader has left there. The error is ErrLayout when that one was
// of another version.
func NewReader(mem []byte, workers int) (*Reader, error) {
	m, err := lay(mem, workers)
	if err != nil {
		return nil, err
	}
	if have := atomic.LoadUint64(&m.control.magic); have != 0 && have != magic {
		return nil, fmt.Errorf("%w: %#x", ErrLayout, have)
	}
	r := &Reader{m}
	r.change(func() { atomic.StoreUint64(&m.control.active, 0) })
	atomic.StoreUint64(&m.control.magic, magic)
	for i := range m.parts {
		r.skip(i)
	}
	return r, nil
}

// skip gives up what is in a worker's ring.
func (r *Reader) skip(worker int) {
	p := r.parts[worker]
	atomic.StoreUint64(&p.tail, atomic.LoadUint64(&p.head))
}

func (r *Reader) change(f func()) {
	epoch := atomic.LoadUint64(&r.control.epoch) | 1
	atomic.StoreUint64(&r.control.epoch, epoch)
	f()
	atomic.StoreUint64(&r.control.epoch, epoch+1)
}

// ErrBusy says that there are as many taps as there can be.
var ErrBusy = errors.New("too many taps are open")

// Open puts a filter in force and returns its number and the epoch from which
// on it is.
func (r *Reader) Open(f *Filter) (slot int, epoch uint64, err error) {
	active := atomic.LoadUint64(&r.control.active)
	for slot = range MaxTaps {
		if active>>slot&1 != 0 {
			continue
		}
		r.Beat()
		r.change(func() {
			r.control.storeFilter(slot, f)
			atomic.StoreUint64(&r.control.active, active|1<<slot)
		})
		return slot, atomic.LoadUint64(&r.control.epoch), nil
	}
	return 0, 0, ErrBusy
}

// Close takes a filter out of force.
func (r *Reader) Close(slot int) {
	active := atomic.LoadUint64(&r.control.active)
	r.change(func() { atomic.StoreUint64(&r.control.active, active&^(1<<slot)) })
}

// Beat says that the reader lives. It is called at least once a second while
// there are taps.
func (r *Reader) Beat() { r.BeatAt(monotonic()) }

// BeatAt is Beat for workers that have another clock.
func (r *Reader) BeatAt(now uint32) { atomic.StoreUint64(&r.control.beat, uint64(now)) }

// InForce reports whether all workers use the filters of an epoch, or of a
// later one.
func (r *Reader) InForce(epoch uint64) bool {
	for _, p := range r.parts {
		if atomic.LoadUint64(&p.seen) < epoch {
			return false
		}
	}
	return true
}

// Swept reports whether no flow that a filter of the epoch selects is forwarded
// without a worker; see Sweeper.
func (r *Reader) Swept(epoch uint64) bool { return atomic.LoadUint64(&r.control.swept) >= epoch }

// Counts are what workers say of a filter, since the memory was made.
type Counts struct {
	Matched uint64 // packets that it selected, before sampling
	Lost    uint64 // packets left out because a ring was full
}

// Counts adds up what all workers say of a filter.
func (r *Reader) Counts(slot int) Counts {
	var c Counts
	for _, p := range r.parts {
		c.Matched += atomic.LoadUint64(&p.matched[slot])
		c.Lost += atomic.LoadUint64(&p.lost[slot])
	}
	return c
}

// Record is a packet that a worker shows.
type Record struct {
	Taps    uint8 // a bit for each filter that wants it
	Worker  int
	Time    time.Time
	Reason  reason.Reason
	Op      uint8
	Service uint32 // fib.ID, 0: none
	Backend uint32 // fib.ID, 0: none
	Port    uint16 // interface it came in by or leaves by
	Queue   uint16 // of the worker
	Sent    bool   // the frame is as it leaves, else as it came in
	Altered bool   // it came in otherwise, and was not sent
	Length  uint32 // of the frame
	Frame   []byte // what is kept of it; valid during the call only
}

// ErrGarbage says that a ring held something that no worker writes.
var ErrGarbage = errors.New("tap: a worker's ring holds garbage; it is skipped")

// Read calls f with what the workers have shown since it was called last, at
// most as much as was there when it began. It returns how many there were.
func (r *Reader) Read(f func(*Record)) (n int, err error) {
	for worker := range r.parts {
		m, e := r.readWorker(worker, f)
		n, err = n+m, errors.Join(err, e)
	}
	return n, err
}

func (r *Reader) readWorker(worker int, f func(*Record)) (n int, err error) {
	p, ring := r.parts[worker], r.rings[worker]
	tail, head := atomic.LoadUint64(&p.tail), atomic.LoadUint64(&p.head)
	if head-tail > RingSize || (head|tail)%uint64(recordSize) != 0 {
		r.skip(worker)
		return 0, ErrGarbage
	}
	for tail != head {
		c := *at(ring, tail)
		room := min(head-tail, RingSize-tail%RingSize)
		if uint64(c.size) > room || int(c.size) < recordSize || int(c.size)%recordSize != 0 ||
			int(c.kept) > int(c.size)-recordSize || c.taps != 0 && !c.reason.Valid() {
			r.skip(worker)
			return n, ErrGarbage
		}
		if c.taps != 0 {
			from := int(tail%RingSize) + recordSize
			f(&Record{
				Taps: c.taps, Worker: worker, Time: time.Unix(0, c.time), Reason: c.reason, Op: c.op, Service: c.service, Backend: c.backend,
				Port: c.port, Queue: c.queue, Sent: c.flags&flagSent != 0, Altered: c.flags&flagAltered != 0,
				Length: c.length, Frame: ring[from : from+int(c.kept) : from+int(c.kept)],
			})
			n++
		}
		tail += uint64(c.size)
		atomic.StoreUint64(&p.tail, tail)
	}
	return n, nil
}

// Sweeper is the data process's side: it sees to it that no memo stands between
// a filter and the packets it selects.
type Sweeper struct {
	memory
	filters [MaxTaps]Filter
	active  uint8
	epoch   uint64
}

// NewSweeper makes the data process's side over the memory.
func NewSweeper(mem []byte, workers int) (*Sweeper, error) {
	m, err := lay(mem, workers)
	if err != nil {
		return nil, err
	}
	return &Sweeper{memory: m}, nil
}

// Due reports whether the filters have changed and every worker uses the new
// ones, so that none grants a memo against them. wanted is whether there is a
// filter that memos are to be withheld for.
func (s *Sweeper) Due() (wanted, due bool) {
	if atomic.LoadUint64(&s.control.epoch) == s.epoch {
		return false, false
	}
	epoch, active, ok := s.control.load(&s.filters)
	if !ok {
		return false, false
	}
	for _, p := range s.parts {
		if atomic.LoadUint64(&p.seen) != epoch {
			return false, false
		}
	}
	s.epoch, s.active = epoch, active
	for slot := range s.filters {
		wanted = wanted || active>>slot&1 != 0 && s.filters[slot].withholds()
	}
	return wanted, true
}

// Wants reports whether a flow's memos are to go.
func (s *Sweeper) Wants(service, backend uint32, client packet.Addr) bool {
	return withholds(&s.filters, s.active, service, backend, client)
}

// Done says that all memos that had to go are gone.
func (s *Sweeper) Done() { atomic.StoreUint64(&s.control.swept, s.epoch) }
