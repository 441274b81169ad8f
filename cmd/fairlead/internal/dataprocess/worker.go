package dataprocess

import (
	"fmt"

	"golang.org/x/sys/unix"

	"fairlead/dataplane"
	"fairlead/dataplane/ipc"
	"fairlead/xdp"
	"fairlead/xdp/handover"
)

// worker is a worker with the sockets it is made of.
type worker struct {
	*dataplane.Worker
	setup     ipc.WorkerSetup
	umem      *xdp.UMEM
	queues    []*xdp.Queue
	waiter    *xdp.Waiter
	recovered int
	lost      int
}

// newWorker maps a worker's memory and rings, takes over what a process before
// left in them, and makes the worker.
func (p *process) newWorker(m *ipc.Message) (*worker, error) {
	w := &worker{}
	if err := m.Decode(ipc.KindWorker, &w.setup, -1); err != nil {
		return nil, err
	}
	if want := 1 + len(w.setup.Queues); len(m.FDs) != want {
		return nil, fmt.Errorf("worker %d came with %d descriptors instead of %d", w.setup.Index, len(m.FDs), want)
	}
	var err error
	s := &w.setup
	if w.umem, err = xdp.MapUMEM(m.FDs[0], xdp.UMEMConfig{Chunks: s.Chunks, ChunkSize: s.ChunkSize, Headroom: s.Headroom, HugePages: s.HugePages}); err != nil {
		return nil, fmt.Errorf("worker %d: %w", s.Index, err)
	}
	fds := m.FDs[1:]
	for i := range s.Queues {
		q, err := attach(fds[i], w.umem, i, &s.Queues[i])
		if err != nil {
			return nil, fmt.Errorf("worker %d: %w", s.Index, err)
		}
		w.queues = append(w.queues, q)
	}
	pool, report, err := handover.Adopt(w.umem, w.queues)
	if err != nil {
		return nil, fmt.Errorf("worker %d: %w", s.Index, err)
	}
	counters := p.counters.Workers[s.Index]
	if p.setup.Resume {
		consumed := make([]uint32, len(w.queues))
		for i, q := range w.queues {
			consumed[i] = q.Taken()
		}
		before := counters.Ledger.Received
		counters.Ledger.Recover(consumed)
		w.lost = int(counters.Ledger.Received - before)
		w.recovered = report.Recovered()
	}
	if w.waiter, err = xdp.NewWaiter(socketsOf(w.queues)); err != nil {
		return nil, fmt.Errorf("worker %d: %w", s.Index, err)
	}
	clock, err := dataplane.MonotonicClock()
	if err != nil {
		return nil, err
	}
	queues := make([]dataplane.PortQueue, len(w.queues))
	for i := range queues {
		queues[i] = dataplane.PortQueue{Port: s.Queues[i].Port, Queue: w.queues[i]}
	}
	w.Worker, err = dataplane.NewWorker(dataplane.Config{
		Pool: pool, Queues: queues, Waiter: w.waiter, Flows: p.flows, Index: s.Index,
		Snapshots: &p.snapshots, Counters: counters, Clock: clock, HoldMost: p.setup.HoldMost,
	})
	return w, err
}

// attach maps the rings of a worker's i-th queue. The queue's number in the
// worker, not its interface's, marks the chunks it holds: a worker may have
// several queues of one interface.
func attach(fd int, umem *xdp.UMEM, i int, q *ipc.Queue) (*xdp.Queue, error) {
	return xdp.Attach(fd, umem, xdp.Geometry{
		Port: uint16(i), IfIndex: q.IfIndex, Queue: q.Queue,
		RXSize: q.RXSize, TXSize: q.TXSize, FillSize: q.FillSize, CompletionSize: q.CompSize,
	})
}

// replace puts a new socket in the place of one whose interface went away, and
// takes back the chunks that the old one held.
func (p *process) replace(m *ipc.Message) error {
	var body ipc.Replace
	if err := m.Decode(ipc.KindReplace, &body, 1); err != nil {
		return err
	}
	if body.Worker < 0 || body.Worker >= len(p.workers) || body.Index < 0 || body.Index >= len(p.workers[body.Worker].queues) {
		unix.Close(m.FDs[0])
		return p.event("error", fmt.Sprintf("there is no queue %d of worker %d to replace", body.Index, body.Worker))
	}
	w := p.workers[body.Worker]
	q, err := attach(m.FDs[0], w.umem, body.Index, &body.Queue)
	if err != nil {
		return p.event("error", fmt.Sprintf("replace queue %s: %v", body.Queue.Name, err))
	}
	w.Do(func(dw *dataplane.Worker) {
		old := w.queues[body.Index]
		handover.Replace(dw.Pool, w.umem, old, q)
		w.queues[body.Index] = q
		dw.Replace(body.Index, q)
		err = w.waiter.Replace(socketsOf(w.queues))
		old.Close()
	})
	if err != nil {
		return p.event("error", fmt.Sprintf("replace queue %s: %v", body.Queue.Name, err))
	}
	return p.event("info", fmt.Sprintf("queue %s is bound again", body.Queue.Name))
}

func (p *process) event(level, message string) error {
	return p.conn.Send(ipc.KindEvent, ipc.Event{Level: level, Message: message})
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
