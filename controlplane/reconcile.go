// Package controlplane reconciles: what operators want and what the node
// observes is compiled to a forwarding image, published, and acknowledged by
// the workers before it counts.
package controlplane

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"fairlead/controlplane/compile"
	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/maglev"
)

// Publisher puts generations in force. When it returns an error, the one
// before stays in force.
type Publisher interface {
	// Publish puts an image in force. The builder is the caller's again when it
	// returns.
	Publish(generation uint64, image *fib.Builder) error
	// Patch puts what is in force, changed by the patch, in force. The error
	// wraps fib.ErrNoRoom when only a full image can do that.
	Patch(generation uint64, patch *fib.Patch) error
}

// Reconciler holds the desired state and the observations, and publishes a new
// generation whenever either changes what the data path does. Where only
// backends of pools or observations of them change, it publishes a patch, at a
// cost that follows from the pools concerned; everything else is compiled
// anew. Its methods may be called from any goroutine; changes are made one at
// a time.
//
// States and observations that it was given belong to it from then on: nobody
// changes them.
type Reconciler struct {
	mu         sync.Mutex
	publisher  Publisher
	now        func() time.Time
	desired    *model.State             // its list of pools is the reconciler's own
	pools      map[string]int           // by name: index in desired
	timeouts   map[string]time.Duration // by pool: how long its backends drain
	draining   leavers
	expiry     time.Time // none of them is to go earlier; zero: there is none
	live       *compile.Live
	tables     maglev.Cache
	generation uint64
	took       time.Duration
	full       Builds
	patches    Builds
	patched    bool
	resumed    *Resumed // what another process's reconciler has left, until the first of this one's is published
}

// New makes a reconciler that has published nothing yet.
func New(publisher Publisher) *Reconciler {
	return &Reconciler{publisher: publisher, now: time.Now, desired: &model.State{}, draining: leavers{}}
}

// Start publishes the first generation.
func (r *Reconciler) Start(state *model.State, observed *model.Observations) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.publish(state, observed, nil)
}

// Apply makes state the desired state. It is all or nothing: on an error
// nothing changes. Backends that state no longer has keep their flows until
// the drain timeout of the services that used them is over. A state equal to
// the present one changes nothing and is no new generation; changed says
// which it was.
func (r *Reconciler) Apply(state *model.State) (changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.apply(state, nil)
}

// ApplyObserved is Apply together with what the node sees now: there is no
// generation that has the new backends and not the ways to them. changed does
// not say whether the node sees anything else than before.
func (r *Reconciler) ApplyObserved(state *model.State, observed *model.Observations) (changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.apply(state, observed)
}

// ApplyPools replaces pools of the desired state, or adds them. What holds for
// Apply holds here; what it costs follows from these pools alone, unless one
// of them is new.
func (r *Reconciler) ApplyPools(pools ...model.Pool) (changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var other []model.Pool
	whole := r.live == nil
	for _, p := range pools {
		i, known := r.pools[p.Name]
		whole = whole || !known
		if !known || !p.Serves(&r.desired.Pools[i]) {
			other = append(other, p)
		}
	}
	if len(other) == 0 {
		return false, nil
	}
	if whole {
		return true, r.publish(r.with(other), r.seen(), r.draining)
	}
	return true, r.change(other, model.ObservationChange{})
}

// Observe takes over what the node sees now.
func (r *Reconciler) Observe(observed *model.Observations) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live == nil {
		return r.publish(r.desired, observed, r.draining)
	}
	return r.observe(nil, observed)
}

// ObserveChange takes over what the node sees otherwise than before. What it
// costs follows from the pools that it matters to.
func (r *Reconciler) ObserveChange(change model.ObservationChange) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live == nil {
		return errors.New("nothing is published that observations could change")
	}
	return r.change(nil, change)
}

// Expire ends the draining of backends whose deadline has passed.
func (r *Reconciler) Expire() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.expired()) == 0 {
		return nil
	}
	return r.change(nil, model.ObservationChange{}) // which lets them go
}

// Republish publishes the present state again under a new generation, for a
// publisher that has lost what it had.
func (r *Reconciler) Republish() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.publish(r.desired, r.seen(), r.draining)
}

// Backends lists the addresses of all backends, those that drain too.
func (r *Reconciler) Backends() []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	var addrs []netip.Addr
	for i := range r.desired.Pools {
		for _, b := range r.desired.Pools[i].Backends {
			addrs = append(addrs, b.Address)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.draining)) {
		for i := range r.draining[name] {
			addrs = append(addrs, r.draining[name][i].Address)
		}
	}
	return addrs
}

// Status is what a reconciler has done.
type Status struct {
	Generation uint64        // last published
	Took       time.Duration // to work it out and put it in force
	Patched    bool          // it was a patch and not a full image
	Full       Builds        // generations that were published as a full image
	Patches    Builds        // and as a patch
	Draining   int           // removed backends whose flows live on
	Warnings   []string      // what is not wrong and keeps traffic from flowing
}

// Status tells the present state of affairs.
func (r *Reconciler) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{Generation: r.generation, Took: r.took, Patched: r.patched, Full: r.full, Patches: r.patches}
	for _, list := range r.draining {
		s.Draining += len(list)
	}
	if r.live != nil {
		s.Warnings = r.live.Warnings()
	}
	return s
}

// apply makes state the desired state, together with what is observed unless
// that is nil.
func (r *Reconciler) apply(state *model.State, observed *model.Observations) (changed bool, err error) {
	pools, comparable := r.otherPools(state)
	switch {
	case r.live == nil || !comparable:
		if observed == nil {
			observed = r.seen()
		}
		return true, r.publish(state, observed, r.draining)
	case observed != nil:
		return len(pools) > 0, r.observe(pools, observed)
	case len(pools) > 0:
		return true, r.change(pools, model.ObservationChange{})
	}
	return false, nil
}

// otherPools are the pools of a state that are other ones than those desired.
// The state is not comparable when more than the backends of pools is another.
func (r *Reconciler) otherPools(state *model.State) (pools []model.Pool, comparable bool) {
	if len(state.Pools) != len(r.desired.Pools) || !state.EqualButPools(r.desired) {
		return nil, false
	}
	ordered := true
	for i := range state.Pools {
		p := &state.Pools[i]
		at := i
		if p.Name != r.desired.Pools[i].Name {
			var known bool
			if at, known = r.pools[p.Name]; !known {
				return nil, false
			}
			ordered = false
		}
		if !p.Serves(&r.desired.Pools[at]) {
			pools = append(pools, *p)
		}
	}
	return pools, ordered || distinct(state.Pools)
}

// distinct reports whether no two pools have one name.
func distinct(pools []model.Pool) bool {
	names := make(map[string]bool, len(pools))
	for i := range pools {
		names[pools[i].Name] = true
	}
	return len(names) == len(pools)
}

// observe changes pools together with what is observed.
func (r *Reconciler) observe(pools []model.Pool, observed *model.Observations) error {
	change, same := r.live.Difference(observed)
	if !same {
		return r.publish(r.with(pools), observed, r.draining)
	}
	if len(pools) == 0 && change.Empty() {
		return nil
	}
	if err := r.change(pools, change); err != nil {
		return err
	}
	r.live.Rebase(observed)
	return nil
}

// pool is a pool of the desired state, or one without backends.
func (r *Reconciler) pool(name string) model.Pool {
	if i, ok := r.pools[name]; ok {
		return r.desired.Pools[i]
	}
	return model.Pool{Name: name}
}

// with is the desired state with other pools.
func (r *Reconciler) with(pools []model.Pool) *model.State {
	state := *r.desired
	state.Pools = slices.Clone(state.Pools)
	for _, p := range pools {
		if i, known := r.pools[p.Name]; known {
			state.Pools[i] = p
		} else {
			state.Pools = append(state.Pools, p)
		}
	}
	return &state
}

// seen is what is observed now.
func (r *Reconciler) seen() *model.Observations {
	if r.live == nil {
		return &model.Observations{}
	}
	return r.live.Observations()
}
