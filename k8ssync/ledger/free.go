package ledger

import (
	"net/netip"
	"slices"
)

// free is an address of the pool that an object may have without sharing it. One
// that was never given out comes before those that were, and of these the one that
// was given back first.
func (l *Ledger) free(p *pool, family Family) (netip.Addr, bool) {
	if a, ok := l.unused(p, family); ok {
		return a, true
	}
	queue := p.freed[family]
	for len(queue) > 0 {
		f := queue[0]
		if l.turns[f.address] == f.turn && l.entries[f.address] == nil {
			p.freed[family] = queue
			return f.address, true
		}
		queue = queue[1:]
	}
	delete(p.freed, family)
	return netip.Addr{}, false
}

// unused is the first address that was never given out. Behind the cursor are only
// addresses that are not free, or that were given back.
func (l *Ledger) unused(p *pool, family Family) (netip.Addr, bool) {
	c, ok := p.next[family]
	if !ok {
		return netip.Addr{}, false
	}
	for ; c.span < len(p.owned); c = (cursor{span: c.span + 1}) {
		s := p.owned[c.span]
		if FamilyOf(s.first) != family {
			break
		}
		if !c.next.IsValid() {
			c.next = s.first
		}
		for a := c.next; a.IsValid() && !s.last.Less(a); a = a.Next() {
			_, givenBack := l.turns[a]
			if l.entries[a] == nil && !givenBack && !(p.AvoidBuggy && buggy(a)) {
				p.next[family] = cursor{c.span, a}
				return a, true
			}
		}
	}
	delete(p.next, family)
	return netip.Addr{}, false
}

// joinable is an address of the pool that objects with the same sharing key have,
// and that r may share with them: the lowest one.
func (l *Ledger) joinable(p *pool, family Family, r *Request) (netip.Addr, bool) {
	if r.Options.SharingKey == "" {
		return netip.Addr{}, false
	}
	var all []netip.Addr
	for a := range l.sharing[r.Options.SharingKey] {
		if FamilyOf(a) == family && p.has(a) {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	for _, a := range all {
		if l.taken(a, r) == nil {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// Pools are what is to be told of the pools, by name.
func (l *Ledger) Pools() []PoolStatus {
	type tally map[Family]*Counts
	tallies := make(map[*pool]tally, len(l.pools))
	for _, p := range l.pools {
		tallies[p] = tally{IPv4: {}, IPv6: {}}
	}
	for a, e := range l.entries {
		p := l.poolOf(a)
		if p == nil {
			continue
		}
		if len(e.holders) > 0 {
			tallies[p][FamilyOf(a)].Assigned++
		} else {
			tallies[p][FamilyOf(a)].Reserved++
		}
	}
	statuses := make([]PoolStatus, 0, len(l.pools))
	for _, p := range l.pools {
		counts := func(f Family) *Counts {
			total, ok := p.total[f]
			if !ok {
				return nil
			}
			c := tallies[p][f]
			c.Total = saturated(total)
			used := c.Assigned + c.Reserved
			c.Free = saturated(bigSub(total, used))
			return c
		}
		statuses = append(statuses, PoolStatus{
			Name: p.Name, IPv4: counts(IPv4), IPv6: counts(IPv6), Conflicts: slices.Clone(p.conflicts), Err: p.broken,
		})
	}
	return statuses
}
