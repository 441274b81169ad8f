package compile

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

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
		p := &c.state.Pools[i]
		backends += len(p.Backends)
		c.lists = append(c.lists, poolList{name: p.Name, backends: p.Backends, draining: draining[p.Name], base: p.Base, also: p.Also, refused: p.Refused, stated: true})
		c.poolIndex[p.Name] = uint32(i)
	}
	for _, name := range order {
		if _, there := c.poolIndex[name]; !there {
			c.poolIndex[name] = uint32(len(c.lists))
			c.lists = append(c.lists, poolList{name: name, draining: draining[name]})
		}
	}
	c.out.Pools = make([]fib.Pool, 0, len(c.lists))
	c.out.Members = make([]uint32, 0, backends)
	c.out.Backends = make([]fib.Backend, 0, backends)
	c.poolWarnings = make([]string, len(c.lists))

	return c.layOut()
}

// poolsAtOnce is how many pools are prepared before they are laid out.
const poolsAtOnce = 256

// layOut has the pools prepared on all CPUs and lays them out in order. It goes
// by batches, two of which take turns, so that what is prepared does not take
// more memory than what comes of it.
func (c *compiler) layOut() error {
	idle, ready := make(chan []prepared, 2), make(chan []prepared, 2)
	for range 2 {
		idle <- make([]prepared, min(len(c.lists), poolsAtOnce))
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for first := 0; first < len(c.lists); {
			select {
			case batch := <-idle:
				batch = batch[:min(len(batch), len(c.lists)-first)]
				c.prepare(batch, c.lists[first:])
				first += len(batch)
				ready <- batch
			case <-stop:
				return
			}
		}
	})
	defer running.Wait()
	defer close(stop)
	for next := 0; next < len(c.lists); {
		batch := <-ready
		for i := range batch {
			if err := c.pool(next, &batch[i]); err != nil {
				return err
			}
			next++
		}
		idle <- batch
	}
	return nil
}

// poolList is one pool's backends.
type poolList struct {
	name               string
	backends, draining []model.Backend
	base, also         []model.Share
	refused            int  // the weight of nobody
	stated             bool // the state has the pool; otherwise its backends only drain
}

// prepared is what can be found out about a pool without knowing of any other.
type prepared struct {
	members []member
	hops    []preparedHop // by member
	table   *maglev.Table // nil: no member may be chosen
	base    *maglev.Table // nil: there is none
	also    *maglev.Table // likewise
	err     error
	warning string

	input []maglev.Member
	text  []byte
}

// preparedHop is the way to a member.
type preparedHop struct {
	hop    fib.NextHop
	exists bool
}

// prepare finds out about the first pools of lists, on all CPUs.
func (c *compiler) prepare(batch []prepared, lists []poolList) {
	var next atomic.Int64
	var running sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(batch)) {
		running.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(batch)); i = next.Add(1) - 1 {
				batch[i].prepare(&lists[i], &c.ways, c.tables, c.state.HashSeed)
			}
		})
	}
	running.Wait()
}

// prepare finds out about one pool. What the same prepared was used for before
// is overwritten.
func (p *prepared) prepare(list *poolList, w *ways, tables *maglev.Cache, seed [2]uint64) {
	p.members = appendMembers(p.members[:0], list.backends, list.draining)
	p.hops, p.input, p.text, p.warning = p.hops[:0], p.input[:0], p.text[:0], ""
	unreachable, first, why := 0, "", ""
	for i := range p.members {
		m := &p.members[i]
		way := w.nextHop(m.Address)
		if way.problem != "" {
			if unreachable == 0 {
				first, why = m.Label(), way.problem
			}
			unreachable++
		}
		p.hops = append(p.hops, preparedHop{way.hop, way.exists})
	}
	switch {
	case unreachable == 1:
		p.warning = fmt.Sprintf("pool %q: backend %s %s", list.name, first, why)
	case unreachable > 1:
		p.warning = fmt.Sprintf("pool %q: backend %s %s (and %d more cannot be reached)", list.name, first, why, unreachable-1)
	}
	p.table, p.err = nil, nil
	if slices.ContainsFunc(p.members, func(m member) bool { return m.chosen() }) {
		p.table, p.err = p.ownTable(list.refused, tables, seed)
	}
	if p.base = nil; p.err == nil {
		p.base, p.err = p.baseTable(list.base, list.refused > 0, tables, seed)
	}
	if p.also = nil; p.err == nil {
		p.also, p.err = p.baseTable(list.also, list.refused > 0, tables, seed)
	}
}

// refusedName is what the share that is refused is called in a table: as no endpoint
// is.
const refusedName = "refused"

// ownTable makes the pool's table. What is refused has a part in it like a backend,
// with entries that are no member.
func (p *prepared) ownTable(refused int, tables *maglev.Cache, seed [2]uint64) (*maglev.Table, error) {
	input := p.tableInput()
	if refused == 0 {
		return tables.Table(input, seed)
	}
	mapping := make([]uint16, len(input), len(input)+1)
	for i := range mapping {
		mapping[i] = uint16(i)
	}
	input = append(slices.Clip(input), maglev.Member{Name: refusedName, Weight: refused})
	return tables.Mapped(input, append(mapping, fib.NoMember), seed)
}

// tableInput is what the pool's Maglev table is made of: the names of the
// members are their addresses and ports, which every node knows. Those that drain
// are none of it.
func (p *prepared) tableInput() []maglev.Member {
	var ends []int // of the names in text
	for i := range p.members {
		m := &p.members[i]
		if m.draining {
			break // they come last
		}
		p.text = m.Endpoint().AppendTo(p.text)
		ends = append(ends, len(p.text))
	}
	text, from := string(p.text), 0
	for i, to := range ends {
		p.input = append(p.input, maglev.Member{
			Name: text[from:to], Weight: p.members[i].Weight, Withheld: p.members[i].Serving.Withheld, Down: p.members[i].Serving.Down,
		})
		from = to
	}
	return p.input
}

// pool writes a pool's records.
func (c *compiler) pool(index int, p *prepared) error {
	if p.err != nil {
		return p.err
	}
	list := &c.lists[index]
	c.poolWarnings[index] = p.warning
	record := fib.Pool{Members: uint32(len(c.out.Members)), MemberCount: uint32(len(p.members)), Name: c.out.Name(list.name)}
	var err error
	if c.out.Members, err = c.ids.backends.assign(list.name, p.members, c.out.Members); err != nil {
		return err
	}
	for i, slot := range c.out.Members[record.Members:] {
		m := &p.members[i]
		b := m.record(uint32(index), fib.MakeID(slot, c.ids.backends.next.epochs[slot]))
		if p.hops[i].exists {
			b.NextHop = c.hops.intern(c.out, &p.hops[i].hop)
		}
		if m.Name != "" {
			b.Name = c.out.OwnName(m.Name)
		}
		c.out.Backends = grow(c.out.Backends, slot)
		c.out.Backends[slot] = b
	}
	if p.table != nil {
		placed, err := c.place(p.table)
		if err != nil {
			return err
		}
		record.Table, record.TableSize, record.Checksum = placed.first, uint32(p.table.Size()), p.table.Checksum()
	}
	if p.base != nil {
		placed, err := c.place(p.base)
		if err != nil {
			return err
		}
		record.Base, record.BaseSize = placed.first, uint32(p.base.Size())
	}
	if p.also != nil {
		placed, err := c.place(p.also)
		if err != nil {
			return err
		}
		record.Also, record.AlsoSize = placed.first, uint32(p.also.Size())
	}
	c.out.Pools = append(c.out.Pools, record)
	return nil
}

// record is the member's record without what other records have to be known
// for.
func (m *member) record(pool uint32, id fib.ID) fib.Backend {
	b := fib.Backend{
		Addr: m.end.addr, ID: id, NextHop: fib.NoIndex, Pool: pool,
		Weight: uint32(m.Weight), Port: m.Port, MTU: uint32(m.MTU),
	}
	if m.draining {
		b.Weight = 0
	}
	if m.draining || m.Serving.Withheld >= maglev.FullShare {
		b.Flags |= fib.BackendDraining
	}
	if m.Serving.Down {
		b.Flags |= fib.BackendDown
	}
	return b
}

// placedTable is where a Maglev table lies, and how many pools use it.
type placedTable struct {
	table *maglev.Table
	first uint32
	users int
}

// place puts tables one after the other, each once.
func (c *compiler) place(t *maglev.Table) (*placedTable, error) {
	p, ok := c.placed[t]
	if !ok {
		if uint64(c.tableEntries+t.Size()) > math.MaxUint32 {
			return nil, errors.New("the Maglev tables of all pools together are too large for an image")
		}
		p = &placedTable{table: t, first: uint32(c.tableEntries)}
		c.placed[t] = p
		c.out.TableList = append(c.out.TableList, t.Entries())
		c.tableEntries += t.Size()
	}
	p.users++
	return p, nil
}
