package dataprocess

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/dataplane"
	"fairlead/dataplane/ipc"
	"fairlead/xdp"
	"fairlead/xdp/handover"
)

// worker is a worker with the sockets it is made of.
type worker struct {
	*dataplane.Worker // nil until it takes over
	setup             ipc.WorkerSetup
	fds               []int // as they were received: its memory and its sockets
	umem              *xdp.UMEM
	queues            []*xdp.Queue
	waiter            *xdp.Waiter
	recovered         int
	lost              int
}

// newWorker maps a worker's memory and rings. It changes nothing that is
// shared: another process may use them.
func (p *process) newWorker(m *ipc.Message) (*worker, error) {
	w := &worker{}
	if err := m.Decode(ipc.KindWorker, &w.setup, -1); err != nil {
		return nil, err
	}
	if want := 1 + len(w.setup.Queues); len(m.FDs) != want {
		return nil, fmt.Errorf("worker %d came with %d descriptors instead of %d", w.setup.Index, len(m.FDs), want)
	}
	w.fds = m.FDs // which the memory and the queues own from now on
	var err error
	s := &w.setup
	if w.umem, err = xdp.MapUMEM(m.FDs[0], xdp.UMEMConfig{Chunks: s.Chunks, ChunkSize: s.ChunkSize, Headroom: s.Headroom, HugePages: s.HugePages}); err != nil {
		return nil, fmt.Errorf("worker %d: %w", s.Index, err)
	}
	fds := m.FDs[1:]
	for i := range s.Queues {
		q, err := p.attach(fds[i], w.umem, i, &s.Queues[i])
		if err != nil {
			return nil, fmt.Errorf("worker %d: %w", s.Index, err)
		}
		w.queues = append(w.queues, q)
	}
	if w.waiter, err = xdp.NewWaiter(socketsOf(w.queues)); err != nil {
		return nil, fmt.Errorf("worker %d: %w", s.Index, err)
	}
	return w, nil
}

// take takes over what a process before left in the rings, and makes the worker.
func (p *process) take(w *worker) error {
	s := &w.setup
	pool, report, err := handover.Adopt(w.umem, w.queues...)
	if err != nil {
		return fmt.Errorf("worker %d: %w", s.Index, err)
	}
	counters := p.counters.Workers[s.Index]
	if p.setup.Resume {
		taken := make([]uint32, len(w.queues))
		for i, q := range w.queues {
			taken[i] = q.Taken()
		}
		w.lost = int(counters.Ledger.Recover(taken))
		w.recovered = report.Fill + report.TX
	} else {
		counters.Ledger.Rebound()
	}
	clock, err := dataplane.MonotonicClock()
	if err != nil {
		return err
	}
	queues := make([]dataplane.PortQueue, len(w.queues))
	for i := range queues {
		queues[i] = dataplane.PortQueue{Port: s.Queues[i].Port, Queue: w.queues[i]}
	}
	w.Worker, err = dataplane.NewWorker(dataplane.Config{
		Pool: pool, Queues: queues, Waiter: w.waiter, Flows: p.flows, Index: s.Index,
		Snapshots: p.snapshots, Memos: p.memos, Counters: counters, Clock: clock, HoldMost: p.setup.HoldMost,
		Spin: time.Duration(p.setup.SpinUS) * time.Microsecond, Taps: p.taps.writers[s.Index], Tells: p.tells[s.Index],
	})
	return err
}

// attach maps the rings of a worker's i-th queue. The queue's number in the
// worker, not its interface's, marks the chunks it holds: a worker may have
// several queues of one interface.
func (p *process) attach(fd int, umem *xdp.UMEM, i int, q *ipc.Queue) (*xdp.Queue, error) {
	var account *xdp.Admission
	if q.Account >= 0 && q.Account < len(p.accounts) {
		account = &p.accounts[q.Account]
	}
	return xdp.Attach(fd, umem, xdp.Geometry{
		Admission: account,
		Port:      uint16(i), IfIndex: q.IfIndex, Queue: q.Queue,
		RXSize: q.RXSize, TXSize: q.TXSize, FillSize: q.FillSize, CompletionSize: q.CompSize,
	})
}

func socketsOf(queues []*xdp.Queue) []int {
	fds := make([]int, len(queues))
	for i, q := range queues {
		fds[i] = q.FD()
	}
	return fds
}

// pin ties the worker's thread to its CPU; a CPU that is not there is the
// control process's mistake and costs only speed.
func (w *worker) pin() {
	if w.setup.CPU < 0 {
		return
	}
	var set unix.CPUSet
	set.Set(w.setup.CPU)
	unix.SchedSetaffinity(0, &set)
}
