package dataplane

import (
	"sync/atomic"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/memo"
)

// Publisher hands snapshots to workers: one atomic pointer, which each worker
// reads once per batch.
type Publisher struct {
	current atomic.Pointer[fib.Snapshot]

	// Memos, if not nil, are made to agree with a snapshot before it is in
	// force. It is set before the first Publish.
	Memos *memo.Table
}

// Publish makes s what every batch from now on is decided by. The previous
// snapshot may be unmapped once each worker's ledger shows the new generation.
// Generations only ever rise.
func (p *Publisher) Publish(s *fib.Snapshot) {
	if p.Memos != nil {
		p.Memos.Adopt(p.current.Load(), s)
	}
	p.current.Store(s)
}

// Current is the snapshot in force, nil before the first Publish.
func (p *Publisher) Current() *fib.Snapshot { return p.current.Load() }
