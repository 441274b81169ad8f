package ledger

import (
	"cmp"
	"fmt"
	"math/big"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"fairlead/k8ssync/kube"
)

// pool is a pool as it is used.
type pool struct {
	kube.AddressPool
	listed    []span // what it lists
	owned     []span // of these, what no pool before it has
	conflicts []Conflict
	namespace labels.Selector
	service   labels.Selector
	broken    error // why nothing is given out

	total map[Family]*big.Int
	next  map[Family]cursor // where addresses that were never given out begin
	freed map[Family][]freed
}

// cursor is a place in pool.owned.
type cursor struct {
	span int
	next netip.Addr // invalid: at the beginning of the span
}

// freed is an address that was given back. It is meant only as long as the ledger
// has the same number for the address.
type freed struct {
	address netip.Addr
	turn    uint64
}

// Conflict says that two pools list the same addresses.
type Conflict struct {
	Pool      string // the other one
	Addresses string // "a" or "a-b"
	Owner     string // which of the two has them
}

// PoolStatus is what is to be told of a pool.
type PoolStatus struct {
	Name      string
	IPv4      *Counts // nil: it lists none
	IPv6      *Counts
	Conflicts []Conflict
	// Err is why nothing is given out of the pool; nil: something is.
	Err error
}

// Counts are the addresses of a pool: Total = Assigned + Reserved + Free. Each is as
// much as an int64 can tell of it.
type Counts struct{ Total, Assigned, Reserved, Free int64 }

// compilePools are pools in the order of their names. Of two with the same name, the
// first stays.
func compilePools(list []kube.AddressPool) []*pool {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b kube.AddressPool) int { return cmp.Compare(a.Name, b.Name) })
	list = slices.CompactFunc(list, func(a, b kube.AddressPool) bool { return a.Name == b.Name })
	var pools []*pool
	for _, p := range list {
		c := &pool{AddressPool: p, listed: union(p.Ranges)}
		c.owned = c.listed
		for _, earlier := range pools {
			var common []span
			c.owned, common = split(c.owned, earlier.owned)
			for _, s := range common {
				c.conflicts = append(c.conflicts, Conflict{Pool: earlier.Name, Addresses: s.String(), Owner: earlier.Name})
				earlier.conflicts = append(earlier.conflicts, Conflict{Pool: p.Name, Addresses: s.String(), Owner: earlier.Name})
			}
		}
		c.namespace, c.service = c.selector("namespace", p.NamespaceSelector), c.selector("service", p.ServiceSelector)
		c.total = map[Family]*big.Int{}
		for _, s := range c.listed {
			c.total[FamilyOf(s.first)] = new(big.Int)
		}
		for _, s := range c.owned {
			n := c.total[FamilyOf(s.first)]
			n.Add(n, s.size())
			if p.AvoidBuggy {
				n.Sub(n, s.buggySize())
			}
		}
		c.rewind()
		pools = append(pools, c)
	}
	return pools
}

func (p *pool) selector(what, text string) labels.Selector {
	s, err := labels.Parse(text)
	if err != nil {
		p.broken = fmt.Errorf("%s selector %q: %w", what, text, err)
		return labels.Nothing()
	}
	return s
}

// rewind has all addresses be looked at again.
func (p *pool) rewind() {
	p.next = map[Family]cursor{}
	for i := len(p.owned) - 1; i >= 0; i-- {
		p.next[FamilyOf(p.owned[i].first)] = cursor{span: i}
	}
	p.freed = map[Family][]freed{}
}

// has is whether the pool may give an address out.
func (p *pool) has(a netip.Addr) bool {
	return !(p.AvoidBuggy && buggy(a)) && inSpans(p.owned, a)
}

// lists is has, and whether another pool has it that lists it, too.
func (p *pool) lists(a netip.Addr) bool {
	return !(p.AvoidBuggy && buggy(a)) && inSpans(p.listed, a)
}

func inSpans(spans []span, a netip.Addr) bool {
	i, found := slices.BinarySearchFunc(spans, a, func(s span, a netip.Addr) int { return s.first.Compare(a) })
	return found || i > 0 && spans[i-1].has(a)
}

// mismatch is why the pool is not for an object; "" if it is.
func (p *pool) mismatch(r *Request) string {
	switch {
	case p.broken != nil:
		return p.broken.Error()
	case len(p.Namespaces) > 0 && !slices.Contains(p.Namespaces, r.Key.Namespace):
		return fmt.Sprintf("it is not for namespace %q", r.Key.Namespace)
	case !p.namespace.Matches(labels.Set(r.NamespaceLabels)):
		return fmt.Sprintf("its namespace selector %q does not select namespace %q", p.NamespaceSelector, r.Key.Namespace)
	case !p.service.Matches(labels.Set(r.Labels)):
		return fmt.Sprintf("its service selector %q does not select the labels of the %s", p.ServiceSelector, r.Key.Kind)
	}
	return ""
}

// restricted is whether the pool is for some objects only.
func (p *pool) restricted() bool {
	return len(p.Namespaces) > 0 || !p.namespace.Empty() || !p.service.Empty()
}

// byPreference is the order in which pools are tried: by priority, those that are
// for some objects only before those that are for all, and by name.
func byPreference(a, b *pool) int {
	restricted := func(p *pool) int {
		if p.restricted() {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(b.Priority, a.Priority),
		cmp.Compare(restricted(a), restricted(b)),
		cmp.Compare(a.Name, b.Name),
	)
}
