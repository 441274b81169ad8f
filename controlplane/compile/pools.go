package compile

import (
	"errors"
	"math"
	"net/netip"
	"slices"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/maglev"
)

// pools lays out the pools of the state in their order, then the pools that
// are no more and whose backends drain.
func (c *compiler) pools() error {
	draining := make(map[string][]model.Backend)
	var order []string // of the pools with draining backends, as first named
	for _, d := range c.draining {
		if _, named := draining[d.Pool]; !named {
			order = append(order, d.Pool)
		}
		draining[d.Pool] = append(draining[d.Pool], d.Backend)
	}
	backends := len(c.draining)
	for i := range c.state.Pools {
		backends += len(c.state.Pools[i].Backends)
	}
	c.out.Pools = make([]fib.Pool, 0, len(c.state.Pools)+len(order))
	c.out.Members = make([]uint32, 0, backends)
	c.out.Backends = make([]fib.Backend, 0, backends)

	shared := &tableLayout{first: make(map[*maglev.Table]uint32)}
	for i := range c.state.Pools {
		p := &c.state.Pools[i]
		if err := c.pool(p.Name, p.Backends, draining[p.Name], shared); err != nil {
			return err
		}
	}
	for _, name := range order {
		if _, there := c.poolIndex[name]; there {
			continue
		}
		if err := c.pool(name, nil, draining[name], shared); err != nil {
			return err
		}
	}
	c.out.Tables = shared.entries()
	return nil
}

// tableLayout puts tables one after the other, each once. The entries are
// copied when their number is known.
type tableLayout struct {
	first  map[*maglev.Table]uint32 // where a table begins
	tables []*maglev.Table          // in order
	size   int                      // entries of all of them
}

func (l *tableLayout) place(t *maglev.Table) (first uint32, err error) {
	first, ok := l.first[t]
	if ok {
		return first, nil
	}
	if uint64(l.size+t.Size()) > math.MaxUint32 {
		return 0, errors.New("the Maglev tables of all pools together are too large for an image")
	}
	first = uint32(l.size)
	l.first[t] = first
	l.tables = append(l.tables, t)
	l.size += t.Size()
	return first, nil
}

func (l *tableLayout) entries() []uint16 {
	out := make([]uint16, 0, l.size)
	for _, t := range l.tables {
		out = append(out, t.Entries()...)
	}
	return out
}

// member is one backend on its way into a pool's record.
type member struct {
	*model.Backend
	end      netip.AddrPort
	draining bool
}

// chosen reports whether the member's weight counts in the Maglev table.
func (m *member) chosen() bool { return !m.draining && m.Weight > 0 }

// members brings a pool's backends into an order that does not depend on the
// configuration's: those that count in the table first, each part by address
// and port. So pools that are equal have equal tables.
func members(backends, draining []model.Backend) []member {
	out := make([]member, 0, len(backends)+len(draining))
	for i := range backends {
		b := &backends[i]
		out = append(out, member{Backend: b, end: netip.AddrPortFrom(b.Address, b.Port)})
	}
	byEnd := func(a, b member) int {
		if a.chosen() != b.chosen() {
			if a.chosen() {
				return -1
			}
			return 1
		}
		return a.end.Compare(b.end)
	}
	if len(draining) > 0 {
		serving := make(map[netip.AddrPort]bool, len(out))
		for i := range out {
			serving[out[i].end] = true
		}
		for i := range draining {
			b := &draining[i]
			if end := netip.AddrPortFrom(b.Address, b.Port); !serving[end] {
				serving[end] = true
				out = append(out, member{Backend: b, end: end, draining: true})
			}
		}
	}
	slices.SortFunc(out, byEnd)
	return out
}

func (c *compiler) pool(name string, backends, draining []model.Backend, shared *tableLayout) error {
	index := uint32(len(c.out.Pools))
	c.poolIndex[name] = index
	all := members(backends, draining)
	p := fib.Pool{Members: uint32(len(c.out.Members)), MemberCount: uint32(len(all)), Name: c.out.Name(name)}

	table := make([]maglev.Member, 0, len(all))
	unreachable, first, why := 0, "", ""
	for i := range all {
		m := &all[i]
		slot, problem, err := c.backend(name, index, m)
		if err != nil {
			return err
		}
		if problem != "" {
			if unreachable == 0 {
				first, why = m.Label(), problem
			}
			unreachable++
		}
		c.out.Members = append(c.out.Members, slot)
		if m.chosen() {
			table = append(table, maglev.Member{Name: m.end.String(), Weight: m.Weight, Down: c.obs.Down[m.end]})
		}
	}
	switch {
	case unreachable == 1:
		c.warn("pool %q: backend %s %s", name, first, why)
	case unreachable > 1:
		c.warn("pool %q: backend %s %s (and %d more cannot be reached)", name, first, why, unreachable-1)
	}

	t, err := c.tables.Table(table, c.state.HashSeed)
	if err != nil {
		return err
	}
	if t != nil {
		if p.Table, err = shared.place(t); err != nil {
			return err
		}
		p.TableSize, p.Checksum = uint32(t.Size()), t.Checksum()
	}
	c.out.Pools = append(c.out.Pools, p)
	return nil
}

// backend writes a backend's record and returns its slot, and what keeps
// packets from reaching it.
func (c *compiler) backend(pool string, index uint32, m *member) (slot uint32, problem string, err error) {
	slot, epoch, err := c.ids.backends.slot(backendKey{pool, m.end})
	if err != nil {
		return 0, "", err
	}
	b := fib.Backend{
		Addr:   addr(m.Address),
		ID:     fib.MakeID(slot, epoch),
		Pool:   index,
		Weight: uint32(m.Weight),
		Port:   m.Port,
		MTU:    uint32(m.MTU),
		Name:   c.out.Name(m.Label()),
	}
	b.NextHop, problem = c.nextHop(m.Address)
	if m.draining {
		b.Weight = 0
		b.Flags |= fib.BackendDraining
	}
	if c.obs.Down[m.end] {
		b.Flags |= fib.BackendDown
	}
	c.out.Backends = grow(c.out.Backends, slot)
	c.out.Backends[slot] = b
	return slot, problem, nil
}
