package fib

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// verify checks every record and every reference between records. What it
// accepts can be looked up in without another check of an index.
func (s *Snapshot) verify() error {
	for _, stage := range []func() error{
		s.verifyInterfaces,
		s.verifyLocals,
		s.verifySNATs,
		s.verifyPools,
		s.verifyTables,
		s.verifyBackends,
		s.verifyServices,
		s.verifyPorts,
	} {
		if err := stage(); err != nil {
			return err
		}
	}
	return nil
}

// within reports whether count records from first on lie in n records.
func within(first, count uint32, n int) bool {
	return uint64(first)+uint64(count) <= uint64(n)
}

// index reports whether i is one of n records, or NoIndex.
func indexOrNone(i uint32, n int) bool {
	return i == NoIndex || uint64(i) < uint64(n)
}

func (s *Snapshot) named(r NameRef) bool { return within(r.Offset, r.Length, len(s.names)) }

func (s *Snapshot) verifyInterfaces() error {
	for i := range s.interfaces {
		if err := s.verifyInterface(i); err != nil {
			return err
		}
	}
	for i := range s.nextHops {
		if err := s.verifyNextHop(i); err != nil {
			return err
		}
	}
	return nil
}

func (s *Snapshot) verifyInterface(i int) error {
	p := &s.interfaces[i]
	if !indexOrNone(p.Gateway, len(s.nextHops)) {
		return fmt.Errorf("interface %d has next hop %d of %d as its gateway", i, p.Gateway, len(s.nextHops))
	}
	if !s.named(p.Name) {
		return fmt.Errorf("the name of interface %d lies outside the names", i)
	}
	return nil
}

func (s *Snapshot) verifyNextHop(i int) error {
	if n := &s.nextHops[i]; int(n.Port) >= len(s.interfaces) {
		return fmt.Errorf("next hop %d is at interface %d of %d", i, n.Port, len(s.interfaces))
	}
	return nil
}

// verifyTable checks what the probing of an open-addressing table relies on:
// its size is a power of two and some entry is free.
func verifyTable(what string, size int, free bool) error {
	switch {
	case size == 0 || size&(size-1) != 0:
		return fmt.Errorf("the table of %s has %d entries, not a power of two", what, size)
	case !free:
		return fmt.Errorf("the table of %s is full", what)
	}
	return nil
}

func (s *Snapshot) verifyLocals() error {
	used := 0
	for i := range s.locals {
		l := &s.locals[i]
		if l.ID == 0 {
			continue
		}
		used++
		switch {
		case l.Kind < LocalVIP || l.Kind > LocalTunnel:
			return fmt.Errorf("local %s is of unknown kind %d", l.Addr, l.Kind)
		case int(l.ID) >= len(s.localIDs) || s.localIDs[l.ID] != uint32(i):
			return fmt.Errorf("local %s is not found by its ID %d", l.Addr, l.ID)
		case l.Kind == LocalSNAT && uint64(l.SNAT) >= uint64(len(s.snats)):
			return fmt.Errorf("local %s is SNAT address %d of %d", l.Addr, l.SNAT, len(s.snats))
		case l.Kind == LocalSNAT && s.snats[l.SNAT].Local != l.ID:
			return fmt.Errorf("local %s is SNAT address %d, which belongs to local %d", l.Addr, l.SNAT, s.snats[l.SNAT].Local)
		case l.Kind != LocalSNAT && l.SNAT != NoIndex:
			return fmt.Errorf("local %s is no SNAT address and refers to one", l.Addr)
		}
	}
	if err := verifyTable("locals", len(s.locals), used < len(s.locals)); err != nil {
		return err
	}
	for i := range s.locals {
		if l := &s.locals[i]; l.ID != 0 && s.Local(l.Addr) != l {
			return fmt.Errorf("local %s is not found by its address", l.Addr)
		}
	}
	found := 0
	for id, at := range s.localIDs {
		if at == NoIndex {
			continue
		}
		if uint64(at) >= uint64(len(s.locals)) || int(s.locals[at].ID) != id || id == 0 {
			return fmt.Errorf("local ID %d leads to another local", id)
		}
		found++
	}
	if found != used {
		return fmt.Errorf("there are %d locals and %d local IDs", used, found)
	}
	return nil
}

func (s *Snapshot) verifySNATs() error {
	for i := range s.snats {
		n := &s.snats[i]
		if n.Local == 0 {
			continue
		}
		l := s.LocalByID(n.Local)
		switch {
		case l == nil || l.Kind != LocalSNAT || l.SNAT != uint32(i):
			return fmt.Errorf("SNAT address %d belongs to local %d, which is not its own", i, n.Local)
		case l.Addr != n.Addr:
			return fmt.Errorf("SNAT address %d is %s, its local %s", i, n.Addr, l.Addr)
		case n.PortFirst == 0 || n.PortFirst > n.PortLast:
			return fmt.Errorf("SNAT address %s has ports %d to %d", n.Addr, n.PortFirst, n.PortLast)
		}
	}
	return nil
}

func (s *Snapshot) verifyPools() error {
	for i := range s.pools {
		if err := s.verifyPool(i); err != nil {
			return err
		}
	}
	return nil
}

// verifyPool checks a pool's record and that its members are its own.
func (s *Snapshot) verifyPool(i int) error {
	p := &s.pools[i]
	switch {
	case !s.named(p.Name):
		return fmt.Errorf("the name of pool %d lies outside the names", i)
	case p.MemberCount > 65535:
		return fmt.Errorf("pool %d has %d members", i, p.MemberCount)
	case !within(p.Members, p.MemberCount, len(s.members)):
		return fmt.Errorf("the members of pool %d lie outside the section", i)
	case !within(p.Table, p.TableSize, len(s.tables)):
		return fmt.Errorf("the table of pool %d lies outside the section", i)
	case !within(p.Base, p.BaseSize, len(s.tables)):
		return fmt.Errorf("the base of pool %d lies outside the section", i)
	case !within(p.Also, p.AlsoSize, len(s.tables)):
		return fmt.Errorf("the other base of pool %d lies outside the section", i)
	}
	for _, slot := range s.Members(p) {
		if uint64(slot) >= uint64(len(s.backends)) || s.backends[slot].ID == 0 {
			return fmt.Errorf("pool %d has backend slot %d, which is unused", i, slot)
		}
		if s.backends[slot].Pool != uint32(i) {
			return fmt.Errorf("pool %d has backend slot %d, which belongs to pool %d", i, slot, s.backends[slot].Pool)
		}
	}
	return nil
}

// tableUse is that a pool uses a table, as its own or as a base.
type tableUse struct {
	pool        uint32
	first, size uint32
	members     uint32
	base        bool
}

func (u *tableUse) end() uint64 { return uint64(u.first) + uint64(u.size) }

func (u *tableUse) same(o *tableUse) bool { return u.first == o.first && u.size == o.size }

func (u *tableUse) compare(o tableUse) int {
	kind := 0
	switch {
	case u.base && !o.base:
		kind = 1
	case !u.base && o.base:
		kind = -1
	}
	return cmp.Or(cmp.Compare(u.first, o.first), cmp.Compare(u.size, o.size), kind, cmp.Compare(u.members, o.members), cmp.Compare(u.pool, o.pool))
}

func (u *tableUse) overlaps(o *tableUse) error {
	return fmt.Errorf("the tables of pools %d and %d overlap", u.pool, o.pool)
}

// usesOf appends what tables a pool uses.
func (s *Snapshot) usesOf(i uint32, uses []tableUse) []tableUse {
	p := &s.pools[i]
	if p.TableSize != 0 {
		uses = append(uses, tableUse{i, p.Table, p.TableSize, p.MemberCount, false})
	}
	if p.BaseSize != 0 {
		uses = append(uses, tableUse{i, p.Base, p.BaseSize, p.MemberCount, true})
	}
	if p.AlsoSize != 0 {
		uses = append(uses, tableUse{i, p.Also, p.AlsoSize, p.MemberCount, true})
	}
	return uses
}

// verifyTables checks that the entries of each Maglev table are members of
// every pool that uses it. Tables are the same or apart, never overlapping,
// so each entry is looked at once for those who have it as their table, and once
// for those who have it as their base.
func (s *Snapshot) verifyTables() error {
	uses := make([]tableUse, 0, len(s.pools))
	for i := range s.pools {
		uses = s.usesOf(uint32(i), uses)
	}
	slices.SortFunc(uses, func(a, b tableUse) int { return a.compare(b) })
	for n := range uses {
		u := &uses[n]
		if n > 0 {
			before := &uses[n-1]
			if before.same(u) && (before.base == u.base || before.members <= u.members) {
				continue // checked with the pool of fewest members
			}
			if !before.same(u) && before.end() > uint64(u.first) {
				return before.overlaps(u)
			}
		}
		if err := s.verifyEntries(u); err != nil {
			return err
		}
	}
	return nil
}

// verifyTableOf checks that the entries of a pool's tables are its members. The
// pool was verified before.
func (s *Snapshot) verifyTableOf(i uint32) error {
	var uses [3]tableUse
	for _, u := range s.usesOf(i, uses[:0]) {
		if err := s.verifyEntries(&u); err != nil {
			return err
		}
	}
	return nil
}

func (s *Snapshot) verifyEntries(u *tableUse) error {
	what := "table"
	if u.base {
		what = "base"
	}
	for at, member := range s.tables[u.first:u.end()] {
		if uint32(member) >= u.members && member != NoMember {
			return fmt.Errorf("slot %d of the %s of pool %d has member %d of %d", at, what, u.pool, member, u.members)
		}
	}
	return nil
}

func (s *Snapshot) verifyBackends() error {
	for i := range s.backends {
		if err := s.verifyBackend(i); err != nil {
			return err
		}
	}
	return nil
}

func (s *Snapshot) verifyBackend(i int) error {
	b := &s.backends[i]
	switch {
	case b.ID == 0:
		return nil
	case b.ID.Slot() != uint32(i) || b.ID.Epoch() == 0:
		return fmt.Errorf("backend slot %d has ID %#x", i, uint32(b.ID))
	case !indexOrNone(b.NextHop, len(s.nextHops)):
		return fmt.Errorf("backend slot %d has next hop %d of %d", i, b.NextHop, len(s.nextHops))
	case uint64(b.Pool) >= uint64(len(s.pools)):
		return fmt.Errorf("backend slot %d belongs to pool %d of %d", i, b.Pool, len(s.pools))
	case !s.named(b.Name):
		return fmt.Errorf("the name of backend slot %d lies outside the names", i)
	}
	return nil
}

func (s *Snapshot) verifyServices() error {
	for i := range s.services {
		v := &s.services[i]
		if v.ID == 0 {
			continue
		}
		local := s.LocalByID(v.Local)
		switch {
		case v.ID.Slot() != uint32(i) || v.ID.Epoch() == 0:
			return fmt.Errorf("service slot %d has ID %#x", i, uint32(v.ID))
		case uint64(v.Pool) >= uint64(len(s.pools)):
			return fmt.Errorf("service slot %d has pool %d of %d", i, v.Pool, len(s.pools))
		case local == nil || local.Kind != LocalVIP:
			return fmt.Errorf("service slot %d is at local %d, which is no VIP", i, v.Local)
		case v.PortFirst > v.PortLast || v.PortFirst == 0 && v.PortLast != 65535:
			return fmt.Errorf("service slot %d has ports %d to %d", i, v.PortFirst, v.PortLast)
		case v.Method < MethodNAT || v.Method > MethodL2:
			return fmt.Errorf("service slot %d has unknown method %d", i, v.Method)
		case v.Gone > GoneDrop:
			return fmt.Errorf("service slot %d has unknown policy %d for gone backends", i, v.Gone)
		case v.Affinity > 1 || v.ClampMSS > 1:
			return fmt.Errorf("service slot %d has a flag that is neither 0 nor 1", i)
		case uint64(v.Timeouts) >= uint64(len(s.timeouts)):
			return fmt.Errorf("service slot %d has timeouts %d of %d", i, v.Timeouts, len(s.timeouts))
		case !within(v.Ranges, v.RangeCount, len(s.sourceRanges)):
			return fmt.Errorf("the source ranges of service slot %d lie outside the section", i)
		case !s.named(v.Name):
			return fmt.Errorf("the name of service slot %d lies outside the names", i)
		}
		if err := verifyRanges(s.Ranges(v)); err != nil {
			return fmt.Errorf("the source ranges of service slot %d: %w", i, err)
		}
	}
	return nil
}

// verifyRanges checks what the binary search of Allowed relies on.
func verifyRanges(ranges []SourceRange) error {
	for i := range ranges {
		r := &ranges[i]
		switch {
		case r.Bits > 128:
			return fmt.Errorf("a prefix has %d bits", r.Bits)
		case r.masked() != r.Addr:
			return fmt.Errorf("%s/%d has bits set after its prefix", r.Addr, r.Bits)
		case i > 0 && (compareAddr(ranges[i-1].Addr, r.Addr) >= 0 || ranges[i-1].Contains(r.Addr)):
			return errors.New("they are not sorted and apart")
		}
	}
	return nil
}

// verifyPorts checks that each claim on a port leads to a service that makes
// it. The services were verified before.
func (s *Snapshot) verifyPorts() error {
	used := 0
	for _, entry := range s.ports {
		if entry == 0 {
			continue
		}
		used++
		key, slot := entry>>SlotBits, uint32(entry&(1<<SlotBits-1))
		if uint64(slot) >= uint64(len(s.services)) || s.services[slot].ID == 0 {
			return fmt.Errorf("port %d leads to service slot %d, which is unused", uint16(key), slot)
		}
		v := &s.services[slot]
		first, last := uint16(key), uint16(key)
		if first == 0 {
			last = 65535
		}
		if portKey(v.Local, v.Proto, first) != key || v.PortFirst != first || v.PortLast != last {
			return fmt.Errorf("port %d leads to service slot %d, which does not claim it", uint16(key), slot)
		}
	}
	if err := verifyTable("ports", len(s.ports), used < len(s.ports)); err != nil {
		return err
	}
	for _, entry := range s.ports {
		if entry != 0 && s.exactPort(entry>>SlotBits) != uint32(entry&(1<<SlotBits-1)) {
			return fmt.Errorf("port %d is not found where it is looked for", uint16(entry>>SlotBits))
		}
	}
	for i := range s.ranges {
		r := &s.ranges[i]
		if uint64(r.Service) >= uint64(len(s.services)) || s.services[r.Service].ID == 0 {
			return fmt.Errorf("port range %d leads to service slot %d, which is unused", i, r.Service)
		}
		v := &s.services[r.Service]
		if v.Local != r.Local || v.Proto != r.Proto || v.PortFirst != r.PortFirst || v.PortLast != r.PortLast {
			return fmt.Errorf("port range %d leads to service slot %d, which does not claim it", i, r.Service)
		}
		if i > 0 && portKey(s.ranges[i-1].Local, s.ranges[i-1].Proto, s.ranges[i-1].PortLast) >= portKey(r.Local, r.Proto, r.PortFirst) {
			return fmt.Errorf("port range %d is not sorted or overlaps the one before it", i)
		}
	}
	return nil
}
