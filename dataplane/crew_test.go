package dataplane_test

import (
	"testing"

	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/ipc"
	"fairlead/dataplane/memo"
	"fairlead/dataplane/nic"
)

// crew is what the workers of one data process share: a flow table, memos, the
// snapshots, and the memory of their counters.
type crew struct {
	t         testing.TB
	now       flow.Time
	flows     *flow.Table
	memos     *memo.Table
	snapshots *dataplane.Publisher
	counters  *ipc.Counters
	mapped    [][]byte // memory that is no Go object
}

// memoKind is where a crew keeps memos.
type memoKind string

const (
	memoOff     memoKind = "no memos"
	memoPrivate memoKind = "memos in user space"
	memoShared  memoKind = "memos shared with the XDP program"
)

// memoRoutes is how many routes a crew's memos have.
const memoRoutes = 1024

func newCrew(t testing.TB, workers, flows int, kind memoKind, b *fib.Builder) *crew {
	t.Helper()
	c := &crew{t: t, now: 1000, snapshots: new(dataplane.Publisher)}
	image, err := b.Encode(1)
	if err != nil {
		t.Fatal(err)
	}
	s, err := fib.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	if c.flows, err = flow.New(c.memory(flow.Size(flows)), flow.Config{Flows: flows, Workers: workers}); err != nil {
		t.Fatal(err)
	}
	const slots = 256
	if c.counters, err = ipc.MapCounters(c.memory(ipc.CountersSize(workers, slots, slots)), workers, slots, slots); err != nil {
		t.Fatal(err)
	}
	if kind != memoOff {
		cfg := memo.Config{Entries: c.memory(memo.Bytes(memo.EntriesFor(2 * flows))), Routes: c.memory(memoRoutes * memo.RouteSize), Seed: memo.Seed{5, 6}}
		if kind == memoShared {
			cfg.Counts = c.memory(memoRoutes * memo.CountSize)
		}
		if c.memos, err = memo.New(cfg); err != nil {
			t.Fatal(err)
		}
		c.snapshots.Memos = c.memos
	}
	c.snapshots.Publish(s)
	return c
}

// memory is what a data process would have mapped.
func (c *crew) memory(size int) []byte {
	mem := make([]byte, size)
	c.mapped = append(c.mapped, mem)
	return mem
}

// worker makes the crew's i-th worker.
func (c *crew) worker(i int, pool *nic.Pool, queues ...dataplane.PortQueue) *dataplane.Worker {
	c.t.Helper()
	w, err := dataplane.NewWorker(dataplane.Config{
		Pool: pool, Queues: queues, Flows: c.flows, Index: i, Snapshots: c.snapshots, Memos: c.memos,
		Counters: c.counters.Workers[i], Clock: func() flow.Time { return c.now }, HoldMost: 64,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return w
}
