// Package tell is how the data process and the control process tell each other
// of flows that peers have to know of, or have told of: a ring each way for
// every worker, in memory that both map.
//
// Whoever writes to a ring that is full loses what it had to say and counts it:
// a worker never waits.
package tell

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"fairlead/dataplane/flow"
	"fairlead/dataplane/packet"
)

// Record is one flow. Identities are those of the node.
type Record struct {
	Client     packet.Addr
	ServiceID  uint32 // fib.ID
	BackendID  uint32 // fib.ID
	ClientPort uint16
	VIPPort    uint16
	VIP        uint16 // fib.Local.ID
	Proto      uint8
	State      flow.State // StateClosed: it has ended
	Remaining  uint32     // milliseconds after which it is forgotten if nothing comes
	Slack      uint32     // milliseconds for which those keep it longer who have only been told of it
	_          [6]uint32
}

// The shared memory: a page of its own, and for each worker a page of positions
// and two rings.
const (
	page = 4096

	// Told is how many records a worker can be ahead of the control process.
	Told = 1 << 13
	// Given is how many the control process can be ahead of a worker.
	Given = 1 << 14

	recordSize = int(unsafe.Sizeof(Record{}))
	partSize   = page + (Told+Given)*recordSize
	magic      = 0x7465_6c6c_0000_0001
)

// A record is one cache line.
var _ = [1]struct{}{}[recordSize-64]

// part is a worker's page. Each line has one writer.
type part struct {
	told uint64 // records that the worker has ever written
	lost uint64 // and those that found the ring full
	_    [6]uint64

	heard uint64 // told records that the control process has taken
	given uint64 // records that it has ever written
	_     [6]uint64

	taken   uint64 // given records that the worker has taken
	refused uint64 // of those, how many it could not use
	_       [6]uint64
}

// Size is how many bytes the rings of so many workers take. The memory is sparse:
// what is never used costs nothing.
func Size(workers int) int { return page + workers*partSize }

// ErrLayout says that the memory was made by a version that lays it out
// differently.
var ErrLayout = errors.New("the memory by which flows are told has another layout")

type lane struct {
	part  *part
	told  []Record
	given []Record
}

func lay(mem []byte, workers int) ([]lane, error) {
	if want := Size(workers); len(mem) < want {
		return nil, fmt.Errorf("tell: %d workers take %d bytes, the memory has %d", workers, want, len(mem))
	}
	lanes := make([]lane, workers)
	for i := range lanes {
		at := mem[page+i*partSize:]
		rings := unsafe.Slice((*Record)(unsafe.Pointer(&at[page])), Told+Given)
		lanes[i] = lane{(*part)(unsafe.Pointer(&at[0])), rings[:Told:Told], rings[Told:]}
	}
	return lanes, nil
}

func head(mem []byte) *uint64 { return (*uint64)(unsafe.Pointer(&mem[0])) }

// Worker is a worker's side. It belongs to the worker. Positions are read from
// the memory each time: another process may have gone on from here since.
type Worker struct{ lane }

// NewWorkers makes the sides of all workers over memory of Size bytes that a
// Control has prepared.
func NewWorkers(mem []byte, workers int) ([]*Worker, error) {
	lanes, err := lay(mem, workers)
	if err != nil {
		return nil, err
	}
	if have := atomic.LoadUint64(head(mem)); have != magic {
		return nil, fmt.Errorf("%w: %#x", ErrLayout, have)
	}
	list := make([]*Worker, workers)
	for i := range list {
		list[i] = &Worker{lanes[i]}
	}
	return list, nil
}

// Tell tells the control process of a flow.
func (w *Worker) Tell(r *Record) {
	told := atomic.LoadUint64(&w.part.told)
	if told-atomic.LoadUint64(&w.part.heard) >= Told {
		atomic.AddUint64(&w.part.lost, 1)
		return
	}
	w.told[told%Told] = *r
	atomic.StoreUint64(&w.part.told, told+1)
}

// Next is the oldest record that was given and not taken, nil when there is none.
func (w *Worker) Next() *Record {
	taken := atomic.LoadUint64(&w.part.taken)
	if atomic.LoadUint64(&w.part.given) == taken {
		return nil
	}
	return &w.given[taken%Given]
}

// Take goes on to the next record; used says whether this one was of use.
func (w *Worker) Take(used bool) {
	if !used {
		atomic.AddUint64(&w.part.refused, 1)
	}
	atomic.AddUint64(&w.part.taken, 1)
}

// Control is the control process's side. Each method may be called from one
// goroutine at a time.
type Control struct{ lanes []lane }

// NewControl lays the control process's side over memory of Size bytes, which is
// all zero or was used by a Control before.
func NewControl(mem []byte, workers int) (*Control, error) {
	lanes, err := lay(mem, workers)
	if err != nil {
		return nil, err
	}
	switch have := atomic.LoadUint64(head(mem)); have {
	case 0:
		atomic.StoreUint64(head(mem), magic)
	case magic:
	default:
		return nil, fmt.Errorf("%w: %#x", ErrLayout, have)
	}
	return &Control{lanes}, nil
}

// Hear takes what workers have told, those of one worker in order, at most some
// thousands; f is not to keep the record. It returns how many there were.
func (c *Control) Hear(f func(*Record)) (n int) {
	for i := range c.lanes {
		l := &c.lanes[i]
		heard, told := atomic.LoadUint64(&l.part.heard), atomic.LoadUint64(&l.part.told)
		if told-heard > Told { // no worker writes so; begin anew
			heard = told
		}
		for ; heard != told; heard++ {
			r := l.told[heard%Told]
			f(&r)
			n++
		}
		atomic.StoreUint64(&l.part.heard, heard)
	}
	return n
}

// Give gives a record to a worker, the same one for all records of a client. It
// is not ok when that worker is too far behind.
func (c *Control) Give(r *Record) bool {
	spread := (r.Client.Lo ^ uint64(r.ClientPort)) * 0x9e3779b97f4a7c15 >> 32
	l := &c.lanes[spread%uint64(len(c.lanes))]
	given, taken := atomic.LoadUint64(&l.part.given), atomic.LoadUint64(&l.part.taken)
	if given-taken >= Given {
		return false
	}
	l.given[given%Given] = *r
	atomic.StoreUint64(&l.part.given, given+1)
	return true
}

// Stats are what has passed so far, of all workers.
type Stats struct {
	Told    uint64 // records that workers wrote
	Lost    uint64 // records that they could not write: everything has to be looked through
	Given   uint64 // records given to workers
	Taken   uint64 // of those, how many they have taken
	Refused uint64 // of those, how many they could not use: no such service or backend, or no room
}

// Stats sums up.
func (c *Control) Stats() (s Stats) {
	for i := range c.lanes {
		p := c.lanes[i].part
		s.Told += atomic.LoadUint64(&p.told)
		s.Lost += atomic.LoadUint64(&p.lost)
		s.Given += atomic.LoadUint64(&p.given)
		s.Taken += atomic.LoadUint64(&p.taken)
		s.Refused += atomic.LoadUint64(&p.refused)
	}
	return s
}
