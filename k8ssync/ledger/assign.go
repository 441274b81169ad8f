package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"fairlead/k8ssync/kube"
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
	r := d.request
	held, ok, lost := d.held(r, f, d.byKey[r.Key])
	keep := func() {
		if ok {
			d.chosen[f] = held
			if !slices.Contains(r.Held, held) {
				d.fresh = append(d.fresh, f) // its status does not say so yet
			}
		}
	}
	if r.Options.Hold {
		keep()
		return
	}
	for _, asked := range r.Options.Addresses {
		if FamilyOf(asked) != f {
			continue
		}
		if ok && asked == held {
			d.warnOfHeld(held)
			keep()
			return
		}
		if refusal := d.obtainable(asked, r); refusal != nil {
			d.refusals = append(d.refusals, *refusal)
			keep()
			return
		}
		d.chosen[f] = asked
		d.fresh = append(d.fresh, f)
		if ok {
			d.instead[f] = held
		}
		return
	}
	if ok {
		p := d.named()
		if p == nil || d.poolOf(held) == nil || p.lists(held) {
			d.warnOfHeld(held)
			keep()
			return
		}
		// It asks for another pool. If that has nothing for it, it stays where it is.
		d.instead[f] = held
		if moved, ok := d.movedTo(p, f); ok {
			d.chosen[f] = moved
			d.fresh = append(d.fresh, f)
		} else {
			d.missing = append(d.missing, f)
		}
		return
	}
	if lost != nil {
		d.refusals = append(d.refusals, *lost)
	}
	for _, a := range slices.SortedFunc(maps.Keys(d.kept[r.Key]), netip.Addr.Compare) {
		if FamilyOf(a) == f && d.obtainable(a, r) == nil {
			d.chosen[f] = a
			d.fresh = append(d.fresh, f)
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

// taken is why an object cannot hold an address beside its other holders; nil if it
// can.
func (l *Ledger) taken(a netip.Addr, r *Request) *Refusal {
	e := l.entries[a]
	if e == nil {
		return nil
	}
	mine := r.holder()
	for _, key := range slices.SortedFunc(maps.Keys(e.holders), kube.Key.Compare) {
		if key == r.Key {
			continue
		}
		if refusal := conflict(a, mine, e.holders[key]); refusal != nil {
			return refusal
		}
	}
	return nil
}

// conflict is why two objects cannot share an address; nil if they can.
func conflict(a netip.Addr, mine, other Holder) *Refusal {
	refusal := func(reason Reason, format string, args ...any) *Refusal {
		return &Refusal{reason, fmt.Sprintf("%s is held by %s", a, other.Key) + fmt.Sprintf(format, args...)}
	}
	switch {
	case mine.SharingKey == "" && other.SharingKey == "":
		return refusal(AddressTaken, "")
	case mine.SharingKey == "":
		return refusal(AddressTaken, ", which shares it by a sharing key; this %s has none", mine.Key.Kind)
	case other.SharingKey == "":
		return refusal(AddressTaken, ", which does not share it")
	case mine.SharingKey != other.SharingKey:
		return refusal(SharingKeyMismatch, ", which shares it by another sharing key")
	case !mine.sharesWith(other.Key.Namespace):
		return refusal(SharingNamespaceMismatch, ", and this %s does not share addresses with namespace %q", mine.Key.Kind, other.Key.Namespace)
	case !other.sharesWith(mine.Key.Namespace):
		return refusal(SharingNamespaceMismatch, ", which does not share addresses with namespace %q", mine.Key.Namespace)
	}
	for _, p := range mine.Ports {
		if slices.Contains(other.Ports, p) {
			return refusal(PortCollision, ", which serves %s port %d, too", p.Protocol, p.Port)
		}
	}
	return nil
}

func (h Holder) sharesWith(namespace string) bool {
	return h.Key.Namespace == namespace || slices.Contains(h.SharingNamespaces, namespace) || slices.Contains(h.SharingNamespaces, "*")
}

// holder is the object as a holder.
func (r *Request) holder() Holder {
	return Holder{
		Key: r.Key, UID: r.UID,
		SharingKey: r.Options.SharingKey, SharingNamespaces: r.Options.SharingNamespace,
		Ports: r.Ports, Retain: r.Options.Retain,
	}
}

// obtainable is why an object cannot have an address that it does not hold.
func (l *Ledger) obtainable(a netip.Addr, r *Request) *Refusal {
	refusal := func(reason Reason, format string, args ...any) *Refusal {
		return &Refusal{reason, fmt.Sprintf(format, args...)}
	}
	p := l.poolOf(a)
	if name := r.Options.Pool; name != "" {
		named := l.pool(name)
		switch {
		case named == nil:
			return refusal(NoSuchPool, "there is no address pool %q", name)
		case !inSpans(named.listed, a):
			return refusal(AddressNotInPool, "%s is not in pool %q", a, name)
		case !inSpans(named.owned, a):
			return refusal(AddressNotInPool, "%s is in pool %q, which lists it as well as pool %q, and is before it", a, l.ownerOf(a).Name, name)
		}
	}
	if owner := l.ownerOf(a); p == nil && owner != nil {
		return refusal(AddressNotInPool, "%s is not given out of pool %q, which avoids .0 and .255", a, owner.Name)
	}
	if p == nil {
		return refusal(AddressNotInPool, "%s is in no address pool", a)
	}
	if why := p.mismatch(r); why != "" {
		return refusal(SelectorMismatch, "%s is in pool %q: %s", a, p.Name, why)
	}
	e := l.entries[a]
	if e == nil {
		return nil
	}
	if len(e.holders) == 0 {
		if e.forKey != nil && *e.forKey == r.Key {
			return nil
		}
		return l.reserved(a, e)
	}
	return l.taken(a, r)
}

func (l *Ledger) reserved(a netip.Addr, e *entry) *Refusal {
	if e.forKey == nil {
		return &Refusal{AddressReserved, fmt.Sprintf("%s is reserved, for nobody", a)}
	}
	return &Refusal{AddressReserved, fmt.Sprintf("%s is reserved for %s", a, *e.forKey)}
}

func (l *Ledger) pool(name string) *pool {
	i, found := slices.BinarySearchFunc(l.pools, name, func(p *pool, name string) int { return cmp.Compare(p.Name, name) })
	if !found {
		return nil
	}
	return l.pools[i]
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
		d.chosen[f] = a
		d.fresh = append(d.fresh, f)
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
		d.chosen[f] = found[i]
		d.fresh = append(d.fresh, f)
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

// eligible are the pools that the object may get addresses out of, as they are
// tried; at least one, or why there is none.
func (d *decision) eligible() ([]*pool, *Refusal) {
	r := d.request
	if r.Options.Pool != "" {
		p := d.named()
		if p == nil {
			return nil, &Refusal{NoSuchPool, fmt.Sprintf("there is no address pool %q", r.Options.Pool)}
		}
		if why := p.mismatch(r); why != "" {
			return nil, &Refusal{SelectorMismatch, fmt.Sprintf("pool %q is not for this %s: %s", p.Name, r.Key.Kind, why)}
		}
		return []*pool{p}, nil
	}
	if len(d.pools) == 0 {
		return nil, &Refusal{NoPool, "there are no address pools"}
	}
	var pools []*pool
	var why []string
	automatic := false
	for _, p := range d.preferred {
		switch {
		case !p.AutoAssign:
		case p.mismatch(r) != "":
			automatic = true
			why = append(why, fmt.Sprintf("%q: %s", p.Name, p.mismatch(r)))
		default:
			pools = append(pools, p)
		}
	}
	switch {
	case len(pools) > 0:
		return pools, nil
	case !automatic:
		return nil, &Refusal{NotAutoAssigned, "no address pool is assigned from automatically (autoAssign); name one"}
	}
	const most = 5
	if more := len(why) - most; more > 0 {
		why = append(why[:most], fmt.Sprintf("and %d more", more))
	}
	return nil, &Refusal{SelectorMismatch, fmt.Sprintf("no address pool is for this %s: %s", r.Key.Kind, strings.Join(why, "; "))}
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
