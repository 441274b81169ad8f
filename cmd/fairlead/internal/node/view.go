package node

import (
	"sync"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/ipc"
)

// view is a look at the image that was in force when it began, and at the
// counters, for as long as it takes: neither is changed or unmapped before it
// is closed. Changes may have to wait for that, so it is short. Whoever has one
// does not take the node's lock.
type view struct {
	snapshot *fib.Snapshot
	counters *ipc.Counters
	gate     *sync.RWMutex
}

// view begins a view, nil when there is nothing to look at.
func (n *Node) view() *view {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.counters == nil || n.image.snapshot == nil {
		return nil
	}
	gate := &n.image.viewed[n.image.turn]
	gate.RLock()
	return &view{n.image.snapshot, n.counters, gate}
}

func (v *view) close() { v.gate.RUnlock() }

// unviewed returns when nobody looks at either image or at the counters. The
// node's lock is held, so that nobody begins to.
func (i *image) unviewed() {
	if i.viewed == nil {
		return
	}
	for at := range i.viewed {
		i.viewed[at].Lock()
		i.viewed[at].Unlock() //lint:ignore SA2001 waiting is all there is to do
	}
}
