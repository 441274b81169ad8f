// Package controlplane reconciles: what operators want and what the node
// observes is compiled to a forwarding image, published, and acknowledged by
// the workers before it counts.
package controlplane

import (
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"fairlead/controlplane/compile"
	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/maglev"
)

// Publisher puts an image in force. When it returns an error, the image before
// stays in force.
type Publisher interface {
	Publish(generation uint64, image *fib.Builder) error
}

// Reconciler holds the desired state and the observations, and publishes a new
// generation whenever either changes what the data path does. Its methods may
// be called from any goroutine; changes are made one at a time.
type Reconciler struct {
	mu         sync.Mutex
	publisher  Publisher
	now        func() time.Time
	desired    *model.State
	observed   *model.Observations
	draining   []draining
	ids        *compile.IDs
	tables     maglev.Cache
	generation uint64
	warnings   []string
}

// draining is a backend that was removed from its pool and whose flows live on
// until the deadline.
type draining struct {
	compile.DrainingBackend
	deadline time.Time
}

// New makes a reconciler that has published nothing yet.
func New(publisher Publisher) *Reconciler {
	return &Reconciler{publisher: publisher, now: time.Now, desired: &model.State{}, observed: &model.Observations{}}
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
	return r.apply(state, r.observed)
}

// ApplyObserved is Apply together with what the node sees now: there is no
// generation that has the new backends and not the ways to them.
func (r *Reconciler) ApplyObserved(state *model.State, observed *model.Observations) (changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if changed, err = r.apply(state, observed); changed || err != nil {
		return changed, err
	}
	return false, r.observe(observed)
}

func (r *Reconciler) apply(state *model.State, observed *model.Observations) (changed bool, err error) {
	if reflect.DeepEqual(state, r.desired) {
		return false, nil
	}
	return true, r.publish(state, observed, r.stillDraining(append(r.draining, removed(r.desired, state, r.now())...)))
}

// Observe takes over what the node sees now.
func (r *Reconciler) Observe(observed *model.Observations) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.observe(observed)
}

func (r *Reconciler) observe(observed *model.Observations) error {
	if reflect.DeepEqual(observed, r.observed) {
		return nil
	}
	return r.publish(r.desired, observed, r.stillDraining(r.draining))
}

// Expire ends the draining of backends whose deadline has passed.
func (r *Reconciler) Expire() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.stillDraining(r.draining)
	if len(left) == len(r.draining) {
		return nil
	}
	return r.publish(r.desired, r.observed, left)
}

// Republish publishes the present state again under a new generation, for a
// publisher that has lost what it had.
func (r *Reconciler) Republish() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.publish(r.desired, r.observed, r.stillDraining(r.draining))
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
	for i := range r.draining {
		addrs = append(addrs, r.draining[i].Backend.Address)
	}
	return addrs
}

// Status is what a reconciler has done.
type Status struct {
	Generation uint64   // last published
	Draining   int      // removed backends whose flows live on
	Warnings   []string // what is not wrong and keeps traffic from flowing
}

// Status tells the present state of affairs.
func (r *Reconciler) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Status{Generation: r.generation, Draining: len(r.draining), Warnings: r.warnings}
}

// publish compiles and publishes; only when all of it has succeeded does
// anything of the reconciler's own change.
func (r *Reconciler) publish(state *model.State, observed *model.Observations, leaving []draining) error {
	options := compile.Options{Tables: &r.tables}
	for _, d := range leaving {
		options.Draining = append(options.Draining, d.DrainingBackend)
	}
	result, err := compile.Compile(state, observed, r.ids, options)
	if err != nil {
		return err
	}
	if err := r.publisher.Publish(r.generation+1, result.Builder); err != nil {
		return fmt.Errorf("publish generation %d: %w", r.generation+1, err)
	}
	r.generation++
	r.desired, r.observed, r.draining, r.ids, r.warnings = state, observed, leaving, result.IDs, result.Warnings
	return nil
}

// stillDraining leaves out those whose deadline has passed.
func (r *Reconciler) stillDraining(all []draining) []draining {
	var left []draining
	at := make(map[string]int) // of the same backend, removed more than once, the last deadline holds
	now := r.now()
	for _, d := range all {
		if !d.deadline.After(now) {
			continue
		}
		id := fmt.Sprint(d.Pool, d.Backend.Address, d.Backend.Port)
		if i, known := at[id]; known {
			left[i] = d
			continue
		}
		at[id] = len(left)
		left = append(left, d)
	}
	return left
}

// removed lists the backends that before has and after has not, each with the
// longest drain timeout among the services that used its pool.
func removed(before, after *model.State, now time.Time) []draining {
	type key struct {
		pool string
		addr string
	}
	kept := make(map[key]bool)
	for i := range after.Pools {
		for _, b := range after.Pools[i].Backends {
			kept[key{after.Pools[i].Name, fmt.Sprint(b.Address, b.Port)}] = true
		}
	}
	timeout := make(map[string]time.Duration)
	for i := range before.Services {
		s := &before.Services[i]
		d := s.DrainTimeout
		if d == 0 {
			d = model.DefaultDrainTimeout
		}
		timeout[s.Pool] = max(timeout[s.Pool], d)
	}
	var gone []draining
	for i := range before.Pools {
		p := &before.Pools[i]
		for _, b := range p.Backends {
			if t := timeout[p.Name]; t > 0 && !kept[key{p.Name, fmt.Sprint(b.Address, b.Port)}] {
				gone = append(gone, draining{compile.DrainingBackend{Pool: p.Name, Backend: b}, now.Add(t)})
			}
		}
	}
	return gone
}
