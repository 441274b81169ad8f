// Package compile turns desired state and observations into a forwarding
// image. It is pure: the same input gives the same image, byte for byte, and
// nothing that is passed in changes, save for the cache of Maglev tables,
// which only remembers.
package compile

import (
	"fmt"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/maglev"
)

// DrainingBackend is a backend that was removed from its pool, or whose pool
// was removed, and whose flows may live on for a while.
type DrainingBackend struct {
	Pool    string
	Backend model.Backend
}

// Options are what a compilation may be told beyond state and observations.
type Options struct {
	// Draining are the backends whose flows go on although the state no
	// longer has them. One that the state has again is left out.
	Draining []DrainingBackend
	// Tables remembers Maglev tables from one compilation to the next. It may
	// be nil; equal pools share a table all the same.
	Tables *maglev.Cache
}

// Result is a compiled state.
type Result struct {
	Builder  *fib.Builder // ready to be encoded with a generation number
	IDs      *IDs         // for the next compilation
	Warnings []string     // what is not wrong and keeps traffic from flowing, such as a backend without a route

	compiler *compiler // what NewLive begins from
}

// InvalidError says that the state is not valid; it has all the reasons.
type InvalidError struct {
	Errors []error // each a *model.Error
}

// Error names the first reason and counts the others.
func (e *InvalidError) Error() string {
	if len(e.Errors) == 1 {
		return "invalid state: " + e.Errors[0].Error()
	}
	return fmt.Sprintf("invalid state: %v (and %d more)", e.Errors[0], len(e.Errors)-1)
}

// Unwrap gives all reasons.
func (e *InvalidError) Unwrap() []error { return e.Errors }

// Compile makes an image of a state and what the node observes. prev are the
// identities of the compilation before, nil for the first: what is still there
// keeps its identity. The error is an *InvalidError, or says that identities
// or records of one kind have run out; the state is then too large, or changes
// too much at once, for an image.
func Compile(state *model.State, obs *model.Observations, prev *IDs, opts Options) (*Result, error) {
	if obs == nil {
		obs = &model.Observations{}
	}
	indexed := make(chan *wayIndex, 1)
	go func() { indexed <- indexWays(obs.NextHops) }()
	errs, index := model.Validate(state), <-indexed
	if len(errs) > 0 {
		return nil, &InvalidError{Errors: errs}
	}
	if prev == nil {
		prev = &IDs{}
	}
	tables := opts.Tables
	if tables == nil {
		tables = &maglev.Cache{}
	}
	c := &compiler{
		state:     state.WithDefaults(),
		obs:       obs,
		draining:  opts.Draining,
		tables:    tables,
		out:       &fib.Builder{},
		ids:       newAssignment(prev),
		ways:      ways{observed: obs.NextHops},
		index:     index,
		poolIndex: make(map[string]uint32, len(state.Pools)),
		placed:    make(map[*maglev.Table]*placedTable),
	}
	tables.BeginRound()
	c.settings()
	for _, stage := range []func() error{c.interfaces, c.locals, c.pools, c.services} {
		if err := stage(); err != nil {
			return nil, fmt.Errorf("compile: %w", err)
		}
	}
	tables.EndRound()
	c.out.Spare = spareFor(c.out, c.tableEntries)
	return &Result{
		Builder: c.out, IDs: c.ids.finish(),
		Warnings: warnings(c.interfaceWarnings, c.poolWarnings, c.state.Services, c.out.Pools, c.poolIndex),
		compiler: c,
	}, nil
}

// compiler carries one compilation from stage to stage.
type compiler struct {
	state    *model.State // with defaults, valid
	obs      *model.Observations
	draining []DrainingBackend
	tables   *maglev.Cache
	out      *fib.Builder
	ids      *assignment

	ways         ways
	index        *wayIndex // of the ways, used once the interfaces are known; nil when there are few
	hops         interner
	lists        []poolList        // by index in out.Pools
	poolIndex    map[string]uint32 // by name: index in out.Pools
	placed       map[*maglev.Table]*placedTable
	tableEntries int // of all tables placed

	interfaceWarnings []string // "" where there is nothing to warn of
	poolWarnings      []string // by pool, likewise
}

// spareFor is how much room an image has to be patched in: records move when
// a pool outgrows its place, and leave that behind for others. Room takes no
// memory before it is used, so there is plenty.
func spareFor(b *fib.Builder, tableEntries int) fib.Spare {
	return fib.Spare{
		Members: 3*len(b.Members) + 4096, Tables: tableEntries + 1<<20, Backends: len(b.Backends) + 4096,
		NextHops: len(b.NextHops) + 4096, Names: len(b.Names) + 1<<18,
	}
}

// warnings puts together what is not wrong and keeps traffic from flowing.
func warnings(interfaces, pools []string, services []model.Service, records []fib.Pool, index map[string]uint32) (all []string) {
	for _, part := range [][]string{interfaces, pools} {
		for _, w := range part {
			if w != "" {
				all = append(all, w)
			}
		}
	}
	for i := range services {
		if svc := &services[i]; records[index[svc.Pool]].TableSize == 0 {
			all = append(all, fmt.Sprintf("service %q: no backend of pool %q may be chosen", svc.Name, svc.Pool))
		}
	}
	return all
}

func (c *compiler) settings() {
	s, l := c.state, c.state.Limits
	c.out.Settings = fib.Settings{
		HashSeed:    s.HashSeed,
		Tunnel4:     addr(s.Tunnel.Source4),
		Tunnel6:     addr(s.Tunnel.Source6),
		GUEPort:     s.Tunnel.GUEPort,
		OuterTTL:    s.Tunnel.TTL,
		FragHold:    uint32(l.FragmentHold),
		FragHoldMS:  milliseconds(l.FragmentHoldTimeout),
		ReplyRate:   uint32(l.ReplyRate),
		ReplyBurst:  uint32(l.ReplyBurst),
		FragTrackMS: milliseconds(l.FragmentTimeout),
	}
}
