package k8ssync

import (
	"maps"
	"slices"
	"time"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/watch"
)

// Status is how a node is in step with Kubernetes at a moment.
type Status struct {
	Connection watch.Status
	Synced     time.Time          // when everything was in force for the first time; zero: not yet
	Groups     int                // in force, as far as they were not refused
	Pending    int                // objects that have changed and are not in force yet
	Refused    map[string]Refusal // groups that are not in force as they are wanted, by name
	Held       []kube.Key         // that Kubernetes has forgotten, and that stay in force for a while
	HeldUntil  time.Time
	Failing    string    // why nothing can be put in force at present; mostly ""
	Applied    time.Time // when something was put in force last
	Batches    uint64    // how often
	// Services and Gateways are the resource versions up to which everything is in force
	// but for what is refused.
	Services, Gateways string
}

// Status is how it is at the moment.
func (s *Sync) Status() Status {
	connection, waiting := s.conn.Status(), s.dirty.len()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{
		Connection: connection, Synced: s.syncedAt, Groups: len(s.entries), Pending: waiting + s.pending, Refused: s.refused,
		Failing: s.failing, Applied: s.applied, Batches: s.batches, Services: s.through.services, Gateways: s.through.gateways,
	}
	if s.held != nil {
		st.Held, st.HeldUntil = slices.SortedFunc(maps.Keys(s.held.keys), kube.Key.Compare), s.held.since.Add(s.holdFor)
	}
	return st
}

// Refusal is why a group is not in force as it is wanted, and since when.
type Refusal struct {
	Why   error
	Since time.Time
}

// Synced reports whether everything that was there at the start is in force.
func (s *Sync) Synced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.syncedAt.IsZero()
}
