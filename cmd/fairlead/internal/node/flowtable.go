package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/controlplane/api"
	"fairlead/dataplane"
	"fairlead/dataplane/flow"
)

// How the flow table is looked through: so many records at a time while no
// change of the image may come in between, and so many times as long a pause as
// the work has taken, so that the CPU and the memory's bandwidth are left to
// those who forward.
const (
	recordsAtOnce = 2048
	pauseFactor   = 2
	workAtOnce    = time.Millisecond
	pauseMost     = 5 * time.Millisecond

	// listsAtOnce is how many may look through it at a time.
	listsAtOnce = 4
)

// flowTable is the control process's look at the flow table, through a mapping
// that cannot be written to.
type flowTable struct {
	clock   func() flow.Time
	looking chan struct{} // one in it for each who looks through the table

	mu     sync.RWMutex // held while records are read
	reader *flow.Reader // nil when the node is closed
	mem    []byte

	counting sync.Mutex // held while flows are counted; guards what follows
	counted  *FlowCounts
}

// openFlowTable maps the flow table of so many flows.
func openFlowTable(fd, flows int) (*flowTable, error) {
	clock, err := dataplane.MonotonicClock()
	if err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(fd, 0, flow.Size(flows), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the flow table: %w", err)
	}
	reader, err := flow.NewReader(mem, flows)
	if err != nil {
		return nil, errors.Join(err, unix.Munmap(mem))
	}
	return &flowTable{clock: clock, looking: make(chan struct{}, listsAtOnce), reader: reader, mem: mem}, nil
}

func (t *flowTable) close() error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reader == nil {
		return nil
	}
	t.reader = nil
	return unix.Munmap(t.mem)
}

// take takes one of the places for those who look through the table.
func (t *flowTable) take() (give func(), err error) {
	select {
	case t.looking <- struct{}{}:
		return func() { <-t.looking }, nil
	default:
		return nil, api.Errorf(api.TooMany, "the flow table is being looked through by %d already", listsAtOnce)
	}
}

// scan calls visit for every live flow, and after for every so many records; it
// ends with the error of either. visit gets the record's number and the time.
// It must not wait for anybody.
func (n *Node) scan(ctx context.Context, visit func(v *view, record int, now flow.Time, f *flow.Flow) error, after func() error) error {
	p := pacer{}
	for first := 0; ; first += recordsAtOnce {
		begin := time.Now()
		more, err := n.scanSome(first, visit)
		if err != nil || !more {
			return err
		}
		if err := after(); err != nil {
			return err
		}
		if err := p.pause(ctx, time.Since(begin)); err != nil {
			return err
		}
	}
}

func (n *Node) scanSome(first int, visit func(v *view, record int, now flow.Time, f *flow.Flow) error) (more bool, err error) {
	v := n.view()
	if v == nil {
		return false, api.Errorf(api.Unavailable, "the node does not forward yet")
	}
	defer v.close()
	t := n.flowTable
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.reader == nil {
		return false, api.Errorf(api.Unavailable, "the node stops")
	}
	if first == 0 {
		if err := t.reader.Check(); err != nil {
			return false, err
		}
	}
	now := t.clock()
	last := min(first+recordsAtOnce, t.reader.Len())
	var f flow.Flow
	for i := first; i < last; i++ {
		if !t.reader.Read(i, now, &f) {
			continue
		}
		if err := visit(v, i, now, &f); err != nil {
			return false, err
		}
	}
	return last < t.reader.Len(), nil
}

// pacer makes pauses in long work.
type pacer struct{ worked time.Duration }

// pause notes work that was done, and makes a pause when there was enough of it.
func (p *pacer) pause(ctx context.Context, worked time.Duration) error {
	p.worked += worked
	if p.worked < workAtOnce {
		return ctx.Err()
	}
	timer := time.NewTimer(min(pauseFactor*p.worked, pauseMost))
	defer timer.Stop()
	p.worked = 0
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
