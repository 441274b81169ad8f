package k8ssync

import "fairlead/k8ssync/ledger"

// Writing is what the node that writes to Kubernetes has to tell of that. On another
// node all but Failures is empty.
type Writing struct {
	// Failures is how often something could not be written since this process began.
	// That somebody else has written an object at the same time is none.
	Failures uint64
	// Unserved are Services that have not got all of the addresses that they ask for,
	// and Unprogrammed those that have some and are not in force on all nodes.
	Unserved, Unprogrammed int
	Pools                  []ledger.PoolStatus // by name
}

// Writing is how the writing goes.
func (s *Sync) Writing() Writing {
	w := Writing{Failures: s.failures.Load()}
	if l := s.leader.Load(); l != nil {
		w.Unserved, w.Unprogrammed = l.writer.Behind()
		w.Pools = l.addresses.Statuses()
	}
	return w
}

// writeFailed counts something that could not be written.
func (s *Sync) writeFailed() { s.failures.Add(1) }
