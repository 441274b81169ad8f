// Package handover finds out who owns every frame when a data process takes
// over sockets: from a process that was killed at any instant, from one that
// stopped in good order, or from none (the first start is the same thing).
//
// What there is to go by, and why it is exact, is in the documentation of
// package xdp: the custody table in shared memory and the four rings of each
// socket. Nothing is waited for, and frames that the kernel or the driver
// holds in no ring keep their owner: they come back through the RX and
// completion rings as if nothing had happened.
package handover

import (
	"fmt"
	"math/bits"

	"fairlead/dataplane/nic"
	"fairlead/xdp"
)

// Report says what was found. A start in good order has zeros but for the
// owners.
type Report struct {
	Free int // chunks nobody held: free before, or lost with the process that held them
	Fill int // chunks the sockets' receive sides hold
	TX   int // chunks the sockets' send sides hold

	UnpublishedFill int // chunks about to be offered for receiving when the process died; free now
	UnpublishedTX   int // frames about to be sent when the process died; lost, their chunks free now
	Reread          int // received frames read but not taken out of their ring; they are received again
	Recompleted     int // completions read but not taken out of their ring; they are read again
	Released        int // chunks that sockets held which are no more; free now

	// Conflicts counts entries of rings that the custody table does not
	// account for, and chunks it credits a socket with beyond what the
	// socket's indices say. Nothing but damaged memory makes one. The chunk
	// has one owner all the same, and whatever else returns it is ignored.
	Conflicts int
}

// String gives the report in one line.
func (r Report) String() string {
	return fmt.Sprintf("free %d fill %d tx %d, unpublished fill %d tx %d, reread %d, recompleted %d, released %d, conflicts %d",
		r.Free, r.Fill, r.TX, r.UnpublishedFill, r.UnpublishedTX, r.Reread, r.Recompleted, r.Released, r.Conflicts)
}

// Adopt makes the pool of a data process that takes over u with the sockets
// behind queues: all of the worker's. Sockets of other ports must be closed;
// what they held is free. The process before must be dead, or have stopped
// using the queues for good: until Adopt is called it may still go on.
func Adopt(u *xdp.UMEM, queues ...*xdp.Queue) (*nic.Pool, Report, error) {
	holders, report, err := inspect(u, queues)
	if err != nil {
		return nil, Report{}, err
	}
	pool, err := u.NewPool()
	if err != nil {
		return nil, Report{}, fmt.Errorf("handover: %w", err)
	}
	owners := make([]nic.Owner, len(holders))
	for i, h := range holders {
		owners[i] = h.Owner()
	}
	if err := pool.Restore(owners); err != nil {
		return nil, Report{}, fmt.Errorf("handover: %w", err)
	}
	// Marks before intents: dying in between leaves something to repair again.
	copy(u.Custody().Holders(), holders)
	for _, q := range queues {
		q.Settle()
	}
	report.Free, report.Fill, report.TX = pool.Count(nic.OwnerFree), pool.Count(nic.OwnerFill), pool.Count(nic.OwnerTX)
	return pool, report, nil
}

// Inspect reports what Adopt would find, and changes nothing.
func Inspect(u *xdp.UMEM, queues ...*xdp.Queue) (Report, error) {
	holders, report, err := inspect(u, queues)
	for _, h := range holders {
		switch h.Owner() {
		case nic.OwnerFree:
			report.Free++
		case nic.OwnerFill:
			report.Fill++
		case nic.OwnerTX:
			report.TX++
		}
	}
	return report, err
}

// inspect works out the holder of every chunk.
func inspect(u *xdp.UMEM, queues []*xdp.Queue) ([]xdp.Holder, Report, error) {
	s, err := newSurvey(u, queues)
	if err != nil {
		return nil, Report{}, err
	}
	s.releaseDead(queues)
	for _, q := range queues {
		s.settle(q)
	}
	return s.holders, s.report, nil
}

// survey is the work on one UMEM: a copy of its marks, put right step by step.
type survey struct {
	holders []xdp.Holder
	shift   int // log2 of the chunk size
	report  Report
}

func newSurvey(u *xdp.UMEM, queues []*xdp.Queue) (*survey, error) {
	var seen [nic.MaxPorts]bool
	for _, q := range queues {
		if q.UMEM() != u {
			return nil, fmt.Errorf("handover: the queue of port %d lies in another UMEM", q.Port())
		}
		if seen[q.Port()] {
			return nil, fmt.Errorf("handover: two queues have port %d", q.Port())
		}
		seen[q.Port()] = true
	}
	return &survey{
		holders: append([]xdp.Holder(nil), u.Custody().Holders()...),
		shift:   bits.TrailingZeros(uint(u.Config().ChunkSize)),
	}, nil
}

// releaseDead frees what sockets held that are no more: those of ports without
// a queue, and the predecessors of fresh sockets.
func (s *survey) releaseDead(queues []*xdp.Queue) {
	var live [256]bool
	live[xdp.HeldByWorker] = true
	for _, q := range queues {
		if !q.Fresh() {
			live[xdp.HeldForReceive(q.Port())] = true
			live[xdp.HeldForSend(q.Port())] = true
		}
	}
	for i, h := range s.holders {
		if !live[h] {
			s.holders[i] = xdp.HeldByWorker
			s.report.Released++
		}
	}
}

// settle puts the marks of one socket right.
func (s *survey) settle(q *xdp.Queue) {
	c := q.Contents()
	receive, send := xdp.HeldForReceive(q.Port()), xdp.HeldForSend(q.Port())

	// Written, never published: the worker's, whatever the marks say.
	s.takeBack(c.UnpublishedFill, receive)
	s.takeBack(c.UnpublishedTX, send)
	s.report.UnpublishedFill += len(c.UnpublishedFill)
	s.report.UnpublishedTX += len(c.UnpublishedTX)

	// Marked as the worker's, still in the ring: they come back once more.
	s.report.Reread += s.giveBack(c.RX, receive)
	s.report.Recompleted += s.giveBack(c.Completion, send)

	// Published entries are marked before; anything else is damage.
	s.report.Conflicts += s.giveBack(c.Fill, receive)
	s.report.Conflicts += s.giveBack(c.TX, send)

	s.report.Conflicts += difference(s.count(receive), c.Receiving) + difference(s.count(send), c.Sending)
}

// takeBack marks the chunks that h holds as the worker's.
func (s *survey) takeBack(addrs []uint64, h xdp.Holder) {
	for _, addr := range addrs {
		if i := addr >> s.shift; i < uint64(len(s.holders)) && s.holders[i] == h {
			s.holders[i] = xdp.HeldByWorker
		}
	}
}

// giveBack marks the worker's chunks as h's and returns how many they were.
// A chunk that another socket holds stays with it.
func (s *survey) giveBack(addrs []uint64, h xdp.Holder) int {
	n := 0
	for _, addr := range addrs {
		if i := addr >> s.shift; i < uint64(len(s.holders)) && s.holders[i] == xdp.HeldByWorker {
			s.holders[i] = h
			n++
		}
	}
	return n
}

func (s *survey) count(h xdp.Holder) int {
	n := 0
	for _, have := range s.holders {
		if have == h {
			n++
		}
	}
	return n
}

func difference(a, b int) int {
	if a > b {
		return a - b
	}
	return b - a
}
