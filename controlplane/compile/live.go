package compile

import (
	"errors"
	"maps"
	"net/netip"
	"slices"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/maglev"
	"fairlead/dataplane/packet"
)

// Live is a compiled state that can be changed pool by pool: backends come, go,
// drain and change, health verdicts turn, ways to backends are other ones. What
// a change costs follows from the pools that it touches, not from the state.
// After any changes it stands for the same image, up to where records lie, as
// Compile makes of the changed state with the same history of identities.
//
// Anything else (services, addresses, settings, pools that are new or in
// another order, and a change too large for its room) is ErrFull: compile anew.
//
//	Change     the patch from what is in force to what shall be
//	Commit     it is in force
//	Rollback   it is not; everything is as before Change
type Live struct {
	state   *model.State // with defaults; the list of pools is its own
	obs     *model.Observations
	checker *model.PoolChecker
	ways    ways
	tables  *maglev.Cache
	ids     *IDs

	records   *fib.Builder // as in force: pools, members, backends, next hops, interfaces, names
	pools     []livePool   // by index in records.Pools
	poolIndex map[string]uint32
	placed    map[*maglev.Table]*placedTable
	hops      hopRecords
	byAddr    addressIndex
	total     int // backends that the state has

	members, entries, names space
	backendLimit            int // slots that there is room for

	interfaceWarnings []string
	poolWarnings      []string

	scratch prepared
	pending *transaction
}

// livePool is what is known of a pool beside its record.
type livePool struct {
	name     string
	state    int             // its index in the state, -1 when it has backends that drain and no others
	draining []model.Backend // of those that the state no longer has
	room     uint32          // members that fit where they lie
	table    *placedTable    // nil: no member may be chosen
	base     *placedTable    // nil: there is none
	also     *placedTable    // likewise
	touched  bool            // by the present change
}

// NewLive begins from a compilation, whose builder, no longer needed by anyone
// else, becomes its own. The state and the observations must not change.
func NewLive(r *Result, tables *maglev.Cache) *Live {
	c := r.compiler
	l := &Live{
		state: c.state, obs: c.obs, checker: model.NewPoolChecker(c.state),
		ways: c.ways, tables: tables, records: c.out, poolIndex: c.poolIndex, placed: c.placed,
		interfaceWarnings: c.interfaceWarnings, poolWarnings: c.poolWarnings,
		members: newSpace(len(c.out.Members), c.out.Spare.Members),
		entries: newSpace(c.tableEntries, c.out.Spare.Tables),
		names:   newSpace(len(c.out.Names), c.out.Spare.Names),

		backendLimit: len(c.out.Backends) + c.out.Spare.Backends,
	}
	l.state.Pools = slices.Clone(l.state.Pools)
	l.ids = &IDs{
		services: r.IDs.services, locals: r.IDs.locals, snats: r.IDs.snats,
		backends: owners{pools: maps.Clone(r.IDs.backends.pools), epochs: slices.Clone(r.IDs.backends.epochs), free: slices.Clone(r.IDs.backends.free)},
	}
	l.ways.index, l.ways.resolved = nil, nil
	l.ways.changed = make(map[netip.Addr]changedWay)
	l.pools = make([]livePool, len(c.lists))
	for i := range c.lists {
		list, record := &c.lists[i], &c.out.Pools[i]
		p := livePool{name: list.name, state: -1, draining: list.draining, room: record.MemberCount}
		if list.stated {
			p.state = i
			l.total += len(list.backends)
		}
		l.pools[i] = p
	}
	byFirst := make(map[uint32]*placedTable, len(l.placed))
	for _, t := range l.placed {
		byFirst[t.first] = t
	}
	for i := range l.pools {
		if l.records.Pools[i].TableSize != 0 {
			l.pools[i].table = byFirst[l.records.Pools[i].Table]
		}
		if l.records.Pools[i].BaseSize != 0 {
			l.pools[i].base = byFirst[l.records.Pools[i].Base]
		}
		if l.records.Pools[i].AlsoSize != 0 {
			l.pools[i].also = byFirst[l.records.Pools[i].Also]
		}
	}
	l.records.Tables, l.records.TableList = nil, nil // they are in the image, and in the cache
	l.hops = newHopRecords(l.records, c.hops.index)
	l.byAddr = newAddressIndex(l.records.Backends)
	return l
}

// IDs are the identities given out so far, for the next compilation. They must
// not be used once Change was called again.
func (l *Live) IDs() *IDs { return l.ids }

// Observations are what is observed now. They must not be used once Change was
// called again.
func (l *Live) Observations() *model.Observations {
	return &model.Observations{Interfaces: l.obs.Interfaces, NextHops: l.ways.merged()}
}

// Difference is how other observations differ from those now. It is not ok when
// they have other interfaces: that is no change but another node.
func (l *Live) Difference(obs *model.Observations) (change model.ObservationChange, ok bool) {
	if !slices.Equal(obs.Interfaces, l.obs.Interfaces) {
		return change, false
	}
	change = model.ObservationChange{NextHops: make(map[netip.Addr]model.NextHop)}
	for a, way := range obs.NextHops {
		if now, has := l.ways.observedWay(a); !has || now != way {
			change.NextHops[a] = way
		}
	}
	lost := func(a netip.Addr) {
		if _, has := obs.NextHops[a]; !has {
			change.Lost = append(change.Lost, a)
		}
	}
	for a := range l.ways.observed {
		if _, changed := l.ways.changed[a]; !changed {
			lost(a)
		}
	}
	for a, c := range l.ways.changed {
		if !c.lost {
			lost(a)
		}
	}
	return change, true
}

// Rebase says that these observations are what is observed now, in all, so that
// what they were put together from may be forgotten.
func (l *Live) Rebase(obs *model.Observations) {
	l.ways.observed = obs.NextHops
	clear(l.ways.changed)
}

// Warnings are those that Compile would give.
func (l *Live) Warnings() []string {
	return warnings(l.interfaceWarnings, l.poolWarnings, l.state.Services, l.records.Pools, l.poolIndex)
}

// Change is what is to become different.
type Change struct {
	Pools []PoolChange
	model.ObservationChange
}

// PoolChange is a pool as it is to be: its backends, and those that it no
// longer has and whose flows may go on. A pool that the state does not have
// only drains.
type PoolChange struct {
	Pool     model.Pool
	Draining []model.Backend
}

// errBusy is a mistake of the caller.
var errBusy = errors.New("compile: a change is neither committed nor rolled back")

// Change makes the change and returns the patch that brings an image from what
// was to what is now. It is an *InvalidError when a pool would not be valid,
// ErrFull when it cannot be done that way; then nothing has changed.
func (l *Live) Change(change *Change) (*fib.Patch, error) {
	if l.pending != nil {
		return nil, errBusy
	}
	t := &transaction{patch: &fib.Patch{}}
	var touched []uint32
	err := l.observe(t, change, &touched)
	if err == nil {
		err = l.restate(t, change.Pools, &touched)
	}
	if err == nil {
		slices.Sort(touched) // the order in which Compile gives identities
		err = l.rebuild(t, touched)
	}
	for _, i := range touched {
		l.pools[i].touched = false
	}
	if err != nil {
		l.end(t, false)
		return nil, err
	}
	l.pending = t
	return t.patch, nil
}

// Commit says that the patch is in force.
func (l *Live) Commit() { l.end(l.pending, true) }

// Rollback says that the patch never came into force.
func (l *Live) Rollback() { l.end(l.pending, false) }

func (l *Live) end(t *transaction, keep bool) {
	if t == nil {
		return
	}
	if !keep {
		t.rollback()
	}
	l.forgetTables(t)
	l.pending = nil
}

// touch notes that a pool has to be built again.
func (l *Live) touch(i uint32, touched *[]uint32) {
	if p := &l.pools[i]; !p.touched {
		p.touched = true
		*touched = append(*touched, i)
	}
}

// mostTouched is how many pools a change may touch. Beyond that a full
// compilation, which works on all CPUs, is not slower.
func (l *Live) mostTouched() int { return 64 + len(l.pools)/4 }

// observe takes over ways, and finds the pools they matter to.
func (l *Live) observe(t *transaction, change *Change, touched *[]uint32) error {
	for a, way := range change.NextHops {
		setKey(t, l.ways.changed, a, changedWay{NextHop: way})
	}
	for _, a := range change.Lost {
		setKey(t, l.ways.changed, a, changedWay{lost: true})
	}
	seen := func(a packet.Addr) error {
		for slot := l.byAddr.first(a); slot != fib.NoIndex; slot = l.byAddr.next[slot] {
			if l.records.Backends[slot].Addr == a {
				l.touch(l.records.Backends[slot].Pool, touched)
			}
		}
		if len(*touched) > l.mostTouched() {
			return ErrFull
		}
		return nil
	}
	for a := range change.NextHops {
		if err := seen(addr(a)); err != nil {
			return err
		}
	}
	for _, a := range change.Lost {
		if err := seen(addr(a)); err != nil {
			return err
		}
	}
	if len(change.NextHops)+len(change.Lost) > 0 {
		return l.gateways(t, change)
	}
	return nil
}

// gateways writes the interfaces again whose gateway is reached in another way.
func (l *Live) gateways(t *transaction, change *Change) error {
	for i := range l.obs.Interfaces {
		in := &l.obs.Interfaces[i]
		if !in.Gateway.IsValid() {
			continue
		}
		if _, changed := change.NextHops[in.Gateway]; !changed && !slices.Contains(change.Lost, in.Gateway) {
			continue
		}
		record := l.records.Interfaces[i]
		way := l.ways.nextHop(in.Gateway)
		var err error
		if record.Gateway, err = l.hops.exchange(t, l.records, record.Gateway, &way.hop, way.exists); err != nil {
			return err
		}
		if record != l.records.Interfaces[i] {
			set(t, &l.records.Interfaces[i], record)
			t.patch.SetInterface(uint32(i), record)
		}
		set(t, &l.interfaceWarnings[l.gatewaysBefore(i)], gatewayWarning(in, way.problem))
	}
	return nil
}

// gatewaysBefore is the index of an interface among those with a gateway.
func (l *Live) gatewaysBefore(interfaces int) (n int) {
	for i := range interfaces {
		if l.obs.Interfaces[i].Gateway.IsValid() {
			n++
		}
	}
	return n
}

// restate takes over what pools shall have.
func (l *Live) restate(t *transaction, pools []PoolChange, touched *[]uint32) error {
	for n := range pools {
		change := &pools[n]
		i, known := l.poolIndex[change.Pool.Name]
		if !known {
			return ErrFull
		}
		p := &l.pools[i]
		if p.touched && slices.ContainsFunc(pools[:n], func(c PoolChange) bool { return c.Pool.Name == change.Pool.Name }) {
			return ErrFull // twice in one change
		}
		switch {
		case p.state >= 0:
			if errs := l.checker.Check(p.state, &change.Pool); len(errs) > 0 {
				return &InvalidError{Errors: errs}
			}
			before := &l.state.Pools[p.state]
			if total := l.total + len(change.Pool.Backends) - len(before.Backends); total > model.MaxBackends {
				return ErrFull // which says what is wrong
			}
			set(t, &l.total, l.total+len(change.Pool.Backends)-len(before.Backends))
			set(t, &before.Backends, change.Pool.Backends)
			set(t, &before.Refused, change.Pool.Refused)
			set(t, &before.Base, change.Pool.Base)
			set(t, &before.Also, change.Pool.Also)
		case len(change.Pool.Backends) > 0:
			return ErrFull
		}
		set(t, &p.draining, change.Draining)
		if l.touch(i, touched); len(*touched) > l.mostTouched() {
			return ErrFull
		}
	}
	return nil
}
