package flows

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// path is a data path in memory for tests of the room: a flow table, and no
// packets.
type path struct {
	mu      sync.Mutex
	own     map[Key]Flow // what a scan finds
	events  []Flow
	lost    bool
	got     map[Key]Flow // what was imported
	unknown map[string]bool
	full    bool
	stuck   bool // what is given to it does not get into its flow table
	given   uint64
	bases   map[string]Base
	adopted []PoolBase
	pools   []Pool
	gen     uint64
	scans   int
}

func newPath(pools ...Pool) *path {
	return &path{own: map[Key]Flow{}, got: map[Key]Flow{}, unknown: map[string]bool{}, bases: map[string]Base{}, pools: pools, gen: 1}
}

func (p *path) do(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// happens has the data path notice something of a flow.
func (p *path) happens(flows ...Flow) {
	p.do(func() {
		for _, f := range flows {
			if f.Kind == Ended {
				delete(p.own, f.Key())
			} else {
				p.own[f.Key()] = f
			}
			p.events = append(p.events, f)
		}
	})
}

func (p *path) Events(to []Flow) ([]Flow, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	to, lost := append(to, p.events...), p.lost
	p.events, p.lost = nil, false
	return to, lost
}

func (p *path) Import(f *Flow) Outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.full:
		return Full
	case p.unknown[f.Backend.String()]:
		return Unresolved
	case f.Proto != 6:
		return Refused
	case f.Kind == Ended:
		delete(p.got, f.Key())
	default:
		p.got[f.Key()] = *f
	}
	p.given++
	return Taken
}

func (p *path) Progress() (given, taken uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stuck {
		return p.given, 0
	}
	return p.given, p.given
}

func (p *path) Scan(_ context.Context, visit func([]Flow)) error {
	p.mu.Lock()
	flows := slices.Collect(maps.Values(p.own))
	p.scans++
	p.mu.Unlock()
	visit(flows)
	return nil
}

func (p *path) Adopt(_ context.Context, bases []PoolBase) error {
	p.do(func() {
		for _, b := range bases {
			p.bases[b.Pool] = b.Base
			p.adopted = append(p.adopted, b)
		}
	})
	return nil
}

func (p *path) Pools() ([]Pool, uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.pools), p.gen
}

func (p *path) Generation() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gen
}

// change makes these the pool's current shares.
func (p *path) change(shares ...Share) {
	p.do(func() {
		p.pools = slices.Clone(p.pools)
		p.pools[0].Current = shares
		p.gen++
	})
}

func (p *path) base() (b Base) {
	p.do(func() { b = p.bases["web"] })
	return b
}
