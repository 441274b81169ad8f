package controlplane

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"fairlead/controlplane/compile"
	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
)

// change publishes a patch that gives the pools other backends, takes the
// change of what is observed over, and lets go whose time to drain is up. Where there can be no patch it publishes a full image. Only
// when all of it has succeeded does anything of the reconciler's own change.
func (r *Reconciler) change(pools []model.Pool, observed model.ObservationChange) error {
	begin, now := time.Now(), r.now()
	for _, name := range r.expired() {
		if !slices.ContainsFunc(pools, func(p model.Pool) bool { return p.Name == name }) {
			pools = append(pools, r.pool(name))
		}
	}
	change := compile.Change{ObservationChange: observed}
	left := make(map[string][]draining, len(pools))
	for _, p := range pools {
		before := r.pool(p.Name)
		left[p.Name] = leaving(r.draining[p.Name], before.Backends, p.Backends, r.timeouts[p.Name], now)
		change.Pools = append(change.Pools, compile.PoolChange{Pool: p, Draining: backendsOf(left[p.Name])})
	}
	patch, err := r.live.Change(&change)
	if invalid := (*compile.InvalidError)(nil); errors.As(err, &invalid) {
		return err
	}
	if err == nil {
		err = r.patch(patch, begin)
		if !errors.Is(err, fib.ErrNoRoom) && err != nil {
			return err
		}
	}
	if err != nil {
		return r.publish(r.stated(pools), r.changed(observed), r.draining)
	}
	for _, p := range pools {
		if i, known := r.pools[p.Name]; known {
			r.desired.Pools[i] = p
		}
		r.draining.set(p.Name, left[p.Name])
		for i := range left[p.Name] {
			if d := left[p.Name][i].deadline; r.expiry.IsZero() || d.Before(r.expiry) {
				r.expiry = d
			}
		}
	}
	return nil
}

// expired are the pools that have backends whose time to drain is up.
func (r *Reconciler) expired() (pools []string) {
	now := r.now()
	if r.expiry.IsZero() || r.expiry.After(now) {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(r.draining)) {
		if slices.ContainsFunc(r.draining[name], func(d draining) bool { return !d.deadline.After(now) }) {
			pools = append(pools, name)
		}
	}
	if len(pools) == 0 { // who was to go first is back
		r.expiry = r.draining.next()
	}
	return pools
}

// patch publishes a patch; one that writes nothing is no generation.
func (r *Reconciler) patch(patch *fib.Patch, begin time.Time) error {
	if !patch.Empty() {
		if err := r.publisher.Patch(r.generation+1, patch); err != nil {
			r.live.Rollback()
			return fmt.Errorf("publish generation %d: %w", r.generation+1, err)
		}
		r.generation++
		r.built(time.Since(begin), true)
	}
	r.live.Commit()
	return nil
}

// stated is the desired state with other backends in the pools that it has.
func (r *Reconciler) stated(pools []model.Pool) *model.State {
	return r.with(slices.DeleteFunc(slices.Clone(pools), func(p model.Pool) bool {
		_, known := r.pools[p.Name]
		return !known
	}))
}

// changed is what is observed after a change.
func (r *Reconciler) changed(change model.ObservationChange) *model.Observations {
	obs := r.live.Observations()
	if change.Empty() {
		return obs
	}
	obs.NextHops = maps.Clone(obs.NextHops)
	if obs.NextHops == nil {
		obs.NextHops = change.NextHops
	}
	maps.Copy(obs.NextHops, change.NextHops)
	for _, a := range change.Lost {
		delete(obs.NextHops, a)
	}
	return obs
}

// publish compiles and publishes a full image; only when all of it has
// succeeded does anything of the reconciler's own change.
func (r *Reconciler) publish(state *model.State, observed *model.Observations, before leavers) error {
	begin, now := time.Now(), r.now()
	own := *state
	own.Pools = slices.Clone(state.Pools)
	pools := make(map[string]int, len(own.Pools))
	for i := range own.Pools {
		pools[own.Pools[i].Name] = i
	}
	left := leavers{}
	for i := range r.desired.Pools {
		p := &r.desired.Pools[i]
		var after []model.Backend
		if at, stays := pools[p.Name]; stays {
			after = own.Pools[at].Backends
		}
		left.set(p.Name, leaving(before[p.Name], p.Backends, after, r.timeouts[p.Name], now))
	}
	for name, list := range before {
		if _, done := r.pools[name]; !done {
			var after []model.Backend
			if at, back := pools[name]; back {
				after = own.Pools[at].Backends
			}
			left.set(name, leaving(list, nil, after, 0, now))
		}
	}

	var ids *compile.IDs
	switch {
	case r.live != nil:
		ids = r.live.IDs()
	case r.resumed != nil:
		left, ids = r.resume(&own)
	}
	result, err := compile.Compile(&own, observed, ids, compile.Options{Draining: left.forCompile(), Tables: &r.tables})
	if err != nil {
		return err
	}
	if err := r.publisher.Publish(r.generation+1, result.Builder); err != nil {
		return fmt.Errorf("publish generation %d: %w", r.generation+1, err)
	}
	r.generation++
	r.built(time.Since(begin), false)
	r.desired, r.pools, r.timeouts = &own, pools, drainTimeouts(own.Services)
	r.draining, r.expiry, r.resumed = left, left.next(), nil
	r.live = compile.NewLive(result, &r.tables)
	return nil
}
