package ledger

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"fairlead/k8ssync/kube"
)

// Ledger is who holds what. It is not safe for concurrent use.
type Ledger struct {
	pools     []*pool // by name
	preferred []*pool // as they are tried

	entries map[netip.Addr]*entry // of all addresses that are not free
	byKey   map[kube.Key]addresses
	kept    map[kube.Key]addresses // by entry.reserved.For
	sharing map[string]addresses   // that have a holder with the sharing key

	turn  uint64
	turns map[netip.Addr]uint64 // when addresses that are free again became so
}

type addresses map[netip.Addr]struct{}

type entry struct {
	holders  map[kube.Key]Holder
	reserved bool // it stays without holders
	forKey   *kube.Key
	retained bool
}

// New is a ledger in which every address of the pools is free.
func New(pools []kube.AddressPool) *Ledger {
	l := &Ledger{
		entries: map[netip.Addr]*entry{},
		byKey:   map[kube.Key]addresses{},
		kept:    map[kube.Key]addresses{},
		sharing: map[string]addresses{},
		turns:   map[netip.Addr]uint64{},
	}
	l.SetPools(pools)
	return l
}

// SetPools makes pools all that there are. Who holds what does not change.
func (l *Ledger) SetPools(pools []kube.AddressPool) {
	l.pools = compilePools(pools)
	l.preferred = slices.SortedFunc(slices.Values(l.pools), byPreference)
	maps.DeleteFunc(l.turns, func(a netip.Addr, _ uint64) bool { return l.poolOf(a) == nil })
	for _, f := range slices.SortedFunc(func(yield func(freed) bool) {
		for a, turn := range l.turns {
			if !yield(freed{a, turn}) {
				return
			}
		}
	}, func(a, b freed) int { return cmp.Compare(a.turn, b.turn) }) {
		p, family := l.poolOf(f.address), FamilyOf(f.address)
		p.freed[family] = append(p.freed[family], f)
	}
}

// poolOf is the pool that may give an address out.
func (l *Ledger) poolOf(a netip.Addr) *pool {
	for _, p := range l.pools {
		if p.has(a) {
			return p
		}
	}
	return nil
}

// ownerOf is the pool that has an address, whether it may give it out or not.
func (l *Ledger) ownerOf(a netip.Addr) *pool {
	for _, p := range l.pools {
		if inSpans(p.owned, a) {
			return p
		}
	}
	return nil
}

// PoolOf is the name of the pool that an address is of; "" when no pool has it.
func (l *Ledger) PoolOf(a netip.Addr) string {
	if p := l.poolOf(a); p != nil {
		return p.Name
	}
	return ""
}

// Holds are the addresses an object holds, sorted.
func (l *Ledger) Holds(key kube.Key) []netip.Addr {
	return slices.SortedFunc(maps.Keys(l.byKey[key]), netip.Addr.Compare)
}

// Keys are all objects that hold something, sorted.
func (l *Ledger) Keys() []kube.Key {
	return slices.SortedFunc(maps.Keys(l.byKey), kube.Key.Compare)
}

// Reservation is what is known of an address; false if it is free.
func (l *Ledger) Reservation(a netip.Addr) (Reservation, bool) {
	e := l.entries[a]
	if e == nil {
		return Reservation{}, false
	}
	r := Reservation{Address: a, For: e.forKey, Retained: e.retained}
	for _, key := range slices.SortedFunc(maps.Keys(e.holders), kube.Key.Compare) {
		r.Holders = append(r.Holders, e.holders[key])
	}
	return r, true
}

// Reservations are all of them, sorted by address.
func (l *Ledger) Reservations() []Reservation {
	all := make([]Reservation, 0, len(l.entries))
	for _, a := range slices.SortedFunc(maps.Keys(l.entries), netip.Addr.Compare) {
		r, _ := l.Reservation(a)
		all = append(all, r)
	}
	return all
}

// Record makes r all that is known of its address, whoever holds it so far: it is
// what has been written by somebody.
func (l *Ledger) Record(r Reservation) {
	l.Erase(r.Address)
	e := l.entry(r.Address)
	e.reserved = len(r.Holders) == 0 || r.For != nil
	e.retained = r.Retained
	if r.For != nil {
		key := *r.For
		e.forKey = &key
		add(l.kept, key, r.Address)
	}
	for _, h := range r.Holders {
		l.hold(r.Address, h)
	}
}

// Erase makes an address free, whoever holds it.
func (l *Ledger) Erase(a netip.Addr) {
	e := l.entries[a]
	if e == nil {
		return
	}
	for key := range e.holders {
		l.drop(a, key)
	}
	l.forget(a, e)
}

// Release has an object hold nothing any more but what is to be kept. It returns the
// addresses that it does not hold now, sorted.
func (l *Ledger) Release(key kube.Key, keep ...netip.Addr) []netip.Addr {
	var released []netip.Addr
	for _, a := range l.Holds(key) {
		if slices.Contains(keep, a) {
			continue
		}
		released = append(released, a)
		e := l.entries[a]
		retain := e.holders[key].Retain
		l.drop(a, key)
		if retain && e.forKey == nil {
			e.reserved, e.retained, e.forKey = true, true, &key
			add(l.kept, key, a)
		}
		if len(e.holders) == 0 && !e.reserved {
			l.forget(a, e)
		}
	}
	return released
}

// entry is that of an address, made if it is free.
func (l *Ledger) entry(a netip.Addr) *entry {
	e := l.entries[a]
	if e == nil {
		e = &entry{holders: map[kube.Key]Holder{}}
		l.entries[a] = e
		delete(l.turns, a)
	}
	return e
}

// hold has an object be a holder of an address.
func (l *Ledger) hold(a netip.Addr, h Holder) {
	e := l.entry(a)
	if old, ok := e.holders[h.Key]; ok && old.SharingKey != h.SharingKey {
		l.drop(a, h.Key)
	}
	e.holders[h.Key] = h
	add(l.byKey, h.Key, a)
	if h.SharingKey != "" {
		add(l.sharing, h.SharingKey, a)
	}
}

// drop has an object be no holder of an address.
func (l *Ledger) drop(a netip.Addr, key kube.Key) {
	e := l.entries[a]
	shared := e.holders[key].SharingKey
	delete(e.holders, key)
	remove(l.byKey, key, a)
	for _, h := range e.holders {
		if h.SharingKey == shared {
			return
		}
	}
	remove(l.sharing, shared, a)
}

// forget makes an address free that nobody holds.
func (l *Ledger) forget(a netip.Addr, e *entry) {
	if e.forKey != nil {
		remove(l.kept, *e.forKey, a)
	}
	delete(l.entries, a)
	l.turn++
	l.turns[a] = l.turn
	if p, family := l.poolOf(a), FamilyOf(a); p != nil {
		p.freed[family] = append(p.freed[family], freed{a, l.turn})
	} else {
		delete(l.turns, a)
	}
}

func add[K comparable](m map[K]addresses, key K, a netip.Addr) {
	if m[key] == nil {
		m[key] = addresses{}
	}
	m[key][a] = struct{}{}
}

func remove[K comparable](m map[K]addresses, key K, a netip.Addr) {
	delete(m[key], a)
	if len(m[key]) == 0 {
		delete(m, key)
	}
}
