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
