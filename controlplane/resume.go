package controlplane

import (
	"time"

	"fairlead/controlplane/compile"
	"fairlead/controlplane/model"
)

// Resumed is what a reconciler goes on from that has published nothing yet,
// where another process's has put an image in force.
type Resumed struct {
	Generation uint64 // of that image
	Found      compile.Recovered
	// Deadlines are when draining backends are to go. Those that it does not
	// have drain for the whole of their time again.
	Deadlines []Deadline
}

// Deadline is when a backend that drains is to go.
type Deadline struct {
	Pool    string        `json:"pool"`
	Backend model.Backend `json:"backend"`
	At      time.Time     `json:"at"`
}

// Resume has Start go on from what is in force: it publishes the next
// generation, in which all that is the same keeps its identity, and backends
// that are no longer wanted drain.
func (r *Reconciler) Resume(from Resumed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.generation, r.resumed = from.Generation, &from
}

// resume works out what drains once state is desired, and the identities that
// state is compiled with. The lock is held.
func (r *Reconciler) resume(state *model.State) (leavers, *compile.IDs) {
	found := r.resumed
	wanted := make(map[string][]model.Backend, len(state.Pools))
	for i := range state.Pools {
		wanted[state.Pools[i].Name] = state.Pools[i].Backends
	}
	timeouts, now := drainTimeouts(state.Services), r.now()
	known := make(map[string][]draining)
	for _, d := range found.Deadlines {
		known[d.Pool] = append(known[d.Pool], draining{d.Backend, d.At})
	}
	left := leavers{}
	for _, p := range found.Found.Pools {
		timeout, used := timeouts[p.Name]
		if !used {
			timeout = model.DefaultDrainTimeout
		}
		already := known[p.Name]
		for i := range p.Draining {
			if d := (draining{p.Draining[i], now.Add(timeout)}); timeout >= time.Millisecond && !drains(already, &d) {
				already = append(already, d)
			}
		}
		left.set(p.Name, leaving(already, p.Backends, wanted[p.Name], timeout, now))
	}
	return left, found.Found.IDs
}

func drains(list []draining, d *draining) bool {
	for i := range list {
		if list[i].Endpoint() == d.Endpoint() {
			return true
		}
	}
	return false
}

// Deadlines are when the backends that drain now are to go.
func (r *Reconciler) Deadlines() (all []Deadline) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for pool, list := range r.draining {
		for i := range list {
			all = append(all, Deadline{pool, list[i].Backend, list[i].deadline})
		}
	}
	return all
}
