package dataplane

import (
	"sync/atomic"

	"fairlead/dataplane/fib"
)

// Publisher hands snapshots to workers: one atomic pointer, which each worker
// reads once per batch.
type Publisher struct {
	current atomic.Pointer[fib.Snapshot]
}

// Publish makes s what every batch from now on is decided by. The previous
// snapshot may be unmapped once each worker's ledger shows the new generation.
func (p *Publisher) Publish(s *fib.Snapshot) { p.current.Store(s) }

// Current is the snapshot in force, nil before the first Publish.
func (p *Publisher) Current() *fib.Snapshot { return p.current.Load() }
