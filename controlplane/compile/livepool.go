package compile

import (
	"slices"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/maglev"
)

// rebuild builds pools again and notes what of them is another record than
// before.
func (l *Live) rebuild(t *transaction, pools []uint32) error {
	owners := &l.ids.backends
	// What is appended to epochs and to free is undone by the slices as they
	// were; slots that get another owner are noted one by one.
	set(t, &owners.epochs, owners.epochs)
	s := supply{rules: backendRules, epochs: &owners.epochs, free: owners.free}
	fresh := func() (uint32, error) {
		if free := s.free[s.taken:]; len(free) > 0 {
			slot := free[0]
			set(t, &owners.epochs[slot], owners.epochs[slot])
		}
		return s.next()
	}
	var freed []uint32
	for _, i := range pools {
		lost, err := l.rebuildPool(t, i, fresh)
		if err != nil {
			return err
		}
		freed = append(freed, lost...)
	}
	if s.taken > 0 || len(freed) > 0 {
		slices.Sort(freed)
		set(t, &owners.free, append(owners.free[s.taken:], freed...))
	}
	return nil
}

func (l *Live) rebuildPool(t *transaction, i uint32, fresh func() (uint32, error)) (freed []uint32, err error) {
	p := &l.pools[i]
	list := poolList{name: p.name, draining: p.draining}
	if p.state >= 0 {
		state := &l.state.Pools[p.state]
		list.backends, list.base, list.also, list.refused = state.Backends, state.Base, state.Also, state.Refused
	}
	l.scratch.prepare(&list, &l.ways, l.tables, l.state.HashSeed)
	if l.scratch.err != nil {
		return nil, l.scratch.err
	}
	for _, table := range []*maglev.Table{l.scratch.table, l.scratch.base, l.scratch.also} {
		if table != nil {
			t.asked = append(t.asked, table)
		}
	}
	slots, next, freed, err := assign(l.ids.backends.pools[p.name], l.scratch.members, nil, fresh)
	if err != nil {
		return nil, ErrFull // which may find that slots have run out, and says so
	}
	if len(next) > 0 {
		setKey(t, l.ids.backends.pools, p.name, next)
	} else {
		dropKey(t, l.ids.backends.pools, p.name)
	}
	for _, slot := range freed {
		if err := l.dropBackend(t, slot); err != nil {
			return nil, err
		}
	}
	for n, slot := range slots {
		if err := l.setBackend(t, i, slot, n); err != nil {
			return nil, err
		}
	}
	record := l.records.Pools[i]
	if err := l.setMembers(t, p, &record, slots); err != nil {
		return nil, err
	}
	if err := l.setTables(t, p, &record); err != nil {
		return nil, err
	}
	switch {
	case p.state < 0 && len(slots) == 0:
		record = fib.Pool{} // its last backend has drained
	case record.Name == (fib.NameRef{}):
		return nil, ErrFull // such a pool is back
	}
	if record != l.records.Pools[i] {
		set(t, &l.records.Pools[i], record)
		t.patch.SetPool(i, record)
	}
	set(t, &l.poolWarnings[i], l.scratch.warning)
	return freed, nil
}

// dropBackend takes the record of a slot that has lost its owner away.
func (l *Live) dropBackend(t *transaction, slot uint32) error {
	b := &l.records.Backends[slot]
	if _, err := l.hops.exchange(t, l.records, b.NextHop, nil, false); err != nil {
		return err
	}
	l.names.give(b.Name.Offset, b.Name.Length, t)
	l.byAddr.remove(t, b.Addr, slot)
	set(t, b, fib.Backend{})
	t.patch.SetBackend(slot, fib.Backend{})
	return nil
}

// setBackend writes the record of the n-th member that was prepared.
func (l *Live) setBackend(t *transaction, pool, slot uint32, n int) error {
	m, hop := &l.scratch.members[n], &l.scratch.hops[n]
	if missing := int(slot) + 1 - len(l.records.Backends); missing > 0 {
		if int(slot) >= l.backendLimit {
			return ErrFull
		}
		set(t, &l.records.Backends, append(l.records.Backends, make([]fib.Backend, missing)...))
	}
	before := &l.records.Backends[slot]
	record := m.record(pool, fib.MakeID(slot, l.ids.backends.epochs[slot]))
	held := uint32(fib.NoIndex)
	if before.ID != 0 {
		held = before.NextHop
	} else {
		l.byAddr.add(t, record.Addr, slot)
	}
	var err error
	if record.NextHop, err = l.hops.exchange(t, l.records, held, &hop.hop, hop.exists); err != nil {
		return err
	}
	if record.Name, err = l.setName(t, before.Name, m.Name); err != nil {
		return err
	}
	if record != *before {
		set(t, before, record)
		t.patch.SetBackend(slot, record)
	}
	return nil
}

// setName puts a backend's name where it has its own alone.
func (l *Live) setName(t *transaction, before fib.NameRef, name string) (fib.NameRef, error) {
	if int(before.Length) == len(name) && string(l.records.Names[before.Offset:][:before.Length]) == name {
		return before, nil
	}
	l.names.give(before.Offset, before.Length, t)
	if name == "" {
		return fib.NameRef{}, nil
	}
	ref := fib.NameRef{Length: uint32(len(name))}
	var err error
	if ref.Offset, err = l.names.take(ref.Length, t); err != nil {
		return ref, err
	}
	if missing := int(ref.Offset+ref.Length) - len(l.records.Names); missing > 0 {
		set(t, &l.records.Names, append(l.records.Names, make([]byte, missing)...))
	}
	place := l.records.Names[ref.Offset:][:ref.Length]
	old := string(place)
	t.undo(func() { copy(place, old) })
	copy(place, name)
	t.patch.SetName(ref.Offset, name)
	return ref, nil
}

// setMembers writes a pool's list of slots, where it is if it fits.
func (l *Live) setMembers(t *transaction, p *livePool, record *fib.Pool, slots []uint32) error {
	if slices.Equal(slots, l.records.Members[record.Members:][:record.MemberCount]) {
		return nil
	}
	if len(slots) > int(p.room) {
		room := roomFor(len(slots))
		first, err := l.members.take(room, t)
		if err != nil {
			return err
		}
		l.members.give(record.Members, roomIn(p.room), t)
		record.Members = first
		set(t, &p.room, room)
	}
	if missing := int(record.Members) + len(slots) - len(l.records.Members); missing > 0 {
		set(t, &l.records.Members, append(l.records.Members, make([]uint32, missing)...))
	}
	place := l.records.Members[record.Members:][:len(slots)]
	old := slices.Clone(place)
	t.undo(func() { copy(place, old) })
	copy(place, slots)
	record.MemberCount = uint32(len(slots))
	t.patch.SetMembers(record.Members, slots)
	return nil
}

// setTables writes the prepared pool's Maglev table and its bases.
func (l *Live) setTables(t *transaction, p *livePool, record *fib.Pool) error {
	table, base, also := l.scratch.table, l.scratch.base, l.scratch.also
	err := l.setTable(t, &p.table, table)
	if err == nil {
		err = l.setTable(t, &p.base, base)
	}
	if err == nil {
		err = l.setTable(t, &p.also, also)
	}
	if err != nil {
		return err
	}
	record.Table, record.TableSize, record.Checksum, record.Base, record.BaseSize, record.Also, record.AlsoSize = 0, 0, 0, 0, 0, 0, 0
	if p.table != nil {
		record.Table, record.TableSize, record.Checksum = p.table.first, uint32(table.Size()), table.Checksum()
	}
	if p.base != nil {
		record.Base, record.BaseSize = p.base.first, uint32(base.Size())
	}
	if p.also != nil {
		record.Also, record.AlsoSize = p.also.first, uint32(also.Size())
	}
	return nil
}

// setTable puts a table in the place of another: nowhere if a pool has it
// already, over the one before if that is of the same size and nobody else's, else
// elsewhere.
func (l *Live) setTable(t *transaction, of **placedTable, table *maglev.Table) error {
	before := *of
	if before != nil && before.table == table {
		return nil
	}
	var after *placedTable
	if table != nil {
		var known bool
		if after, known = l.placed[table]; !known {
			after = &placedTable{table: table}
			size := uint32(table.Size())
			if before != nil && before.users == 1 && before.table.Size() == table.Size() {
				after.first = before.first
				l.removeTable(t, before)
				before = nil
			} else {
				var err error
				if after.first, err = l.entries.take(size, t); err != nil {
					return err
				}
			}
			setKey(t, l.placed, table, after)
			t.patch.SetTable(after.first, table.Entries())
		}
		set(t, &after.users, after.users+1)
	}
	if before != nil {
		set(t, &before.users, before.users-1)
		if before.users == 0 {
			l.removeTable(t, before)
			l.entries.give(before.first, uint32(before.table.Size()), t)
		}
	}
	set(t, of, after)
	return nil
}

// removeTable forgets a table that no pool uses any more.
func (l *Live) removeTable(t *transaction, p *placedTable) {
	t.asked = append(t.asked, p.table)
	dropKey(t, l.placed, p.table)
}

// forgetTables lets the cache forget those of a finished transaction's tables
// that no pool has.
func (l *Live) forgetTables(t *transaction) {
	for _, table := range t.asked {
		if _, used := l.placed[table]; !used {
			l.tables.Forget(table)
		}
	}
}
