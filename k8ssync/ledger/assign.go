package ledger

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Assign has an object hold what it is to have, as far as that can be. What it held
// before, and is to leave, it holds until Release.
func (l *Ledger) Assign(r Request) Decision {
	d := decision{Ledger: l, request: &r, chosen: map[Family]netip.Addr{}, instead: map[Family]netip.Addr{}}
	for _, f := range r.Families {
		d.settle(f)
	}
	d.choose()
	return d.end()
}

// decision is the work on one request.
type decision struct {
	*Ledger
	request  *Request
	chosen   map[Family]netip.Addr
	fresh    []Family              // of chosen: what it does not hold so far
	instead  map[Family]netip.Addr // of fresh and missing: what it would stay with
	missing  []Family              // to be chosen out of pools
	refusals []Refusal
}

func (d *decision) refuse(reason Reason, format string, args ...any) {
	d.refusals = append(d.refusals, Refusal{reason, fmt.Sprintf(format, args...)})
}

// settle decides on one family as far as that needs no search in pools: by what the
// object holds, and by the address that it asks for.
func (d *decision) settle(f Family) {
	held, ok, lost := d.held(d.request, f, d.byKey[d.request.Key])
	switch asked, asks := d.asked(f); {
	case d.request.Options.Hold:
		if ok {
			d.keep(f, held)
		}
	case asks:
		d.settleAsked(f, asked, held, ok)
	case ok:
		d.settleHeld(f, held)
	default:
		if lost != nil {
			d.refusals = append(d.refusals, *lost)
		}
		d.settleKept(f)
	}
}

// asked is the address of a family that the object asks for.
func (d *decision) asked(f Family) (netip.Addr, bool) {
	for _, a := range d.request.Options.Addresses {
		if FamilyOf(a) == f {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// keep has the object stay where it is.
func (d *decision) keep(f Family, held netip.Addr) {
	d.chosen[f] = held
	if !slices.Contains(d.request.Held, held) {
		d.fresh = append(d.fresh, f) // its status does not say so yet
	}
}

// take has it get an address that it does not hold.
func (d *decision) take(f Family, a netip.Addr) {
	d.chosen[f] = a
	d.fresh = append(d.fresh, f)
}

// settleAsked is settle for an object that asks for an address. If it cannot have it,
// it stays where it is, if it is anywhere (holds).
func (d *decision) settleAsked(f Family, asked, held netip.Addr, holds bool) {
	if holds && asked == held {
		d.warnOfHeld(held)
		d.keep(f, held)
		return
	}
	if refusal := d.obtainable(asked, d.request); refusal != nil {
		d.refusals = append(d.refusals, *refusal)
		if holds {
			d.keep(f, held)
		}
		return
	}
	d.take(f, asked)
	if holds {
		d.instead[f] = held
	}
}

// settleHeld is settle for an object that holds an address and asks for none.
func (d *decision) settleHeld(f Family, held netip.Addr) {
	p := d.named()
	if p == nil || d.poolOf(held) == nil || p.lists(held) {
		d.warnOfHeld(held)
		d.keep(f, held)
		return
	}
	// It asks for another pool. If that has nothing for it, it stays where it is.
	d.instead[f] = held
	if moved, ok := d.movedTo(p, f); ok {
		d.take(f, moved)
		return
	}
	d.missing = append(d.missing, f)
}

// settleKept is settle for an object that holds nothing: an address may be reserved
// for it.
func (d *decision) settleKept(f Family) {
	for _, a := range slices.SortedFunc(maps.Keys(d.kept[d.request.Key]), netip.Addr.Compare) {
		if FamilyOf(a) == f && d.obtainable(a, d.request) == nil {
			d.take(f, a)
			return
		}
	}
	d.missing = append(d.missing, f)
}

// held is the address of a family that the object goes on to hold: of what its
// status records, else of what is recorded for it in the ledger. If it can keep
// none, lost is why.
func (l *Ledger) held(r *Request, f Family, recorded addresses) (held netip.Addr, ok bool, lost *Refusal) {
	candidates := slices.Clone(r.Held)
	for _, a := range slices.SortedFunc(maps.Keys(recorded), netip.Addr.Compare) {
		if !slices.Contains(candidates, a) {
			candidates = append(candidates, a)
		}
	}
	return l.firstHeld(r, f, candidates, recorded)
}

// firstHeld is the first of some addresses that the object can go on to hold.
func (l *Ledger) firstHeld(r *Request, f Family, candidates []netip.Addr, recorded addresses) (held netip.Addr, ok bool, lost *Refusal) {
	for _, a := range candidates {
		if FamilyOf(a) != f {
			continue
		}
		_, ours := recorded[a]
		// A status may have been written by somebody else, with an address that was
		// never ours. What is recorded was in a pool once.
		if !ours && l.poolOf(a) == nil {
			continue
		}
		if refusal := l.taken(a, r); refusal != nil {
			if lost == nil {
				lost = refusal
			}
			continue
		}
		return a, true, nil
	}
	return netip.Addr{}, false, lost
}

// movedTo is the address of a pool that the object was assigned before, though its
// status does not say so yet.
func (d *decision) movedTo(p *pool, f Family) (netip.Addr, bool) {
	for _, a := range d.Holds(d.request.Key) {
		if FamilyOf(a) == f && p.lists(a) && d.taken(a, d.request) == nil {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// named is the pool that the object asks for; nil if it names none, or one that is
// not there.
func (d *decision) named() *pool {
	if d.request.Options.Pool == "" {
		return nil
	}
	return d.pool(d.request.Options.Pool)
}

// warnOfHeld tells what is wrong with an address that the object keeps.
func (d *decision) warnOfHeld(a netip.Addr) {
	name := d.request.Options.Pool
	switch p := d.poolOf(a); {
	case p == nil:
		d.refuse(AddressOutsidePools, "%s is in no address pool any more; the %s keeps it until it asks for another one", a, d.request.Key.Kind)
	case name != "" && d.pool(name) == nil:
		d.refuse(NoSuchPool, "there is no address pool %q; the %s keeps %s, of pool %q", name, d.request.Key.Kind, a, p.Name)
	case d.entries[a] != nil && d.entries[a].forKey != nil && *d.entries[a].forKey != d.request.Key:
		d.refuse(AddressReserved, "%s is reserved for %s; the %s keeps it until it asks for another one", a, *d.entries[a].forKey, d.request.Key.Kind)
	default:
		if why := p.mismatch(d.request); why != "" {
			d.refuse(AddressHeldAgainstOptions, "pool %q is not for the %s any more: %s; it keeps %s", p.Name, d.request.Key.Kind, why, a)
		}
	}
}

// choose takes addresses of the missing families out of pools: all of one pool if
// there is one that has them all.
func (d *decision) choose() {
	if len(d.missing) == 0 {
		return
	}
	r := d.request
	if r.One && (len(d.chosen) > 0 || len(r.Options.Addresses) > 0) {
		return
	}
	pools, refusal := d.eligible()
	if refusal != nil {
		d.refusals = append(d.refusals, *refusal)
		return
	}
	if !r.One {
		for _, p := range pools {
			if d.takeAll([]*pool{p}, d.missing) {
				return
			}
		}
	}
	for i, f := range d.missing {
		a, refusal := d.search(pools, f)
		if refusal != nil {
			d.refusals = append(d.refusals, *refusal)
			continue
		}
		d.take(f, a)
		if r.One {
			d.refusals = d.refusals[:len(d.refusals)-i] // of the families before it
			return
		}
	}
}

// takeAll chooses addresses of all families out of pools, or none.
func (d *decision) takeAll(pools []*pool, families []Family) bool {
	found := make([]netip.Addr, len(families))
	for i, f := range families {
		a, refusal := d.search(pools, f)
		if refusal != nil {
			return false
		}
		found[i] = a
	}
	for i, f := range families {
		d.take(f, found[i])
	}
	return true
}

// search is an address of a family out of pools, in their order.
func (d *decision) search(pools []*pool, f Family) (netip.Addr, *Refusal) {
	var full []string
	for _, p := range pools {
		if _, ok := p.total[f]; !ok {
			continue
		}
		if a, ok := d.joinable(p, f, d.request); ok {
			return a, nil
		}
		if a, ok := d.free(p, f); ok {
			return a, nil
		}
		full = append(full, fmt.Sprintf("%q", p.Name))
	}
	if len(full) > 0 {
		return netip.Addr{}, &Refusal{PoolExhausted, fmt.Sprintf("no %s address is free in %s %s", f, plural("pool", len(full)), strings.Join(full, ", "))}
	}
	names := make([]string, len(pools))
	for i, p := range pools {
		names[i] = fmt.Sprintf("%q", p.Name)
	}
	return netip.Addr{}, &Refusal{FamilyUnavailable, fmt.Sprintf("there are no %s addresses in %s %s", f, plural("pool", len(names)), strings.Join(names, ", "))}
}

func plural(what string, n int) string {
	if n == 1 {
		return what
	}
	return what + "s"
}

// end has the object hold what was chosen.
func (d *decision) end() Decision {
	r := d.request
	if r.One && len(d.chosen) > 1 {
		for _, f := range r.Families {
			if a, ok := d.chosen[f]; ok {
				d.chosen = map[Family]netip.Addr{f: a}
				break
			}
		}
	}
	if r.Required && !r.One && len(d.chosen) < len(r.Families) {
		for _, f := range d.fresh {
			delete(d.chosen, f)
		}
	}
	for f, a := range d.instead {
		if _, ok := d.chosen[f]; !ok {
			d.chosen[f] = a
		}
	}
	if !r.Required && len(d.chosen) > 0 {
		// A second family is welcome where pools have it.
		d.refusals = slices.DeleteFunc(d.refusals, func(r Refusal) bool { return r.Reason == FamilyUnavailable })
	}
	result := Decision{Refusals: d.refusals}
	for _, f := range r.Families {
		a, ok := d.chosen[f]
		if !ok {
			continue
		}
		result.Addresses = append(result.Addresses, a)
		d.claim(a, r.holder())
	}
	return result
}

// claim has an object hold an address that it may have.
func (l *Ledger) claim(a netip.Addr, h Holder) {
	l.hold(a, h)
	e := l.entries[a]
	if e.retained && e.forKey != nil && *e.forKey == h.Key {
		// It is back: from now on its own word decides on what comes after it.
		remove(l.kept, h.Key, a)
		e.reserved, e.retained, e.forKey = false, false, nil
	}
}
