package writer_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/writer"
)

// book is who holds which address of a small pool. It outlives writers, as
// reservations do, and complains of what must not be.
type book struct {
	rig       *rig
	free, six netip.Prefix

	mu       sync.Mutex
	held     map[netip.Addr]kube.Key
	size     int // addresses of IPv4 that there are; 0: many
	begun    bool
	fail     error
	early    []string // addresses that were given back while a node served them
	released int
}

func (b *book) Sync(_ context.Context, all []writer.Request) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	b.begun = true
	keep := map[kube.Key]bool{}
	for _, r := range all {
		keep[r.Key] = true
		for _, a := range r.Held {
			if _, taken := b.held[a]; !taken && (b.free.Contains(a) || b.six.Contains(a)) {
				b.held[a] = r.Key
			}
		}
	}
	for a, key := range b.held {
		if !keep[key] {
			delete(b.held, a)
		}
	}
	return nil
}

func (b *book) Ensure(_ context.Context, r writer.Request) (writer.Assignment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.begun {
		return writer.Assignment{}, errors.New("an address is assigned before everything is known")
	}
	if b.fail != nil {
		return writer.Assignment{}, b.fail
	}
	var out writer.Assignment
	for _, family := range r.Families {
		a := b.pick(&r, family)
		if !a.IsValid() {
			out.Problems = append(out.Problems, kube.Problem{Severity: kube.Warning, Reason: "PoolExhausted", Message: fmt.Sprintf("there is no free address of %s", family)})
			continue
		}
		b.held[a] = r.Key
		out.Addresses = append(out.Addresses, a)
	}
	return out, nil
}

func (b *book) pick(r *writer.Request, family corev1.IPFamily) netip.Addr {
	of := func(a netip.Addr) bool { return a.Is4() == (family == corev1.IPv4Protocol) }
	for _, a := range r.Options.Addresses {
		if of(a) {
			if holder, taken := b.held[a]; taken && holder != r.Key {
				return netip.Addr{}
			}
			return a
		}
	}
	for _, a := range r.Held {
		if b.held[a] == r.Key && of(a) {
			return a
		}
	}
	var mine []netip.Addr
	for a, key := range b.held {
		if key == r.Key && of(a) {
			mine = append(mine, a)
		}
	}
	if len(mine) > 0 {
		return slices.MinFunc(mine, netip.Addr.Compare)
	}
	prefix := b.free
	if family == corev1.IPv6Protocol {
		prefix = b.six
	}
	n := 0
	for a := prefix.Addr().Next(); prefix.Contains(a) && (b.size == 0 || n < b.size); a = a.Next() {
		if _, taken := b.held[a]; !taken {
			return a
		}
		n++
	}
	return netip.Addr{}
}

func (b *book) Release(_ context.Context, key kube.Key, keep ...netip.Addr) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	for a, holder := range b.held {
		if holder != key || slices.Contains(keep, a) {
			continue
		}
		delete(b.held, a)
		b.released++
		for _, n := range b.rig.nodes {
			if by, is := n.serving(a); is {
				b.early = append(b.early, fmt.Sprintf("%s of %s, which %s serves for %s", a, key, n.name, by))
			}
		}
	}
	return nil
}

func (b *book) Holds(key kube.Key) []netip.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []netip.Addr
	for a, holder := range b.held {
		if holder == key {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

func (b *book) all() map[netip.Addr]kube.Key {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.held)
}

func (b *book) limit(size int, fail error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size, b.fail = size, fail
}

// check compares the book with what the statuses say: each address that is held
// is in exactly one status, and no other is in one.
func (b *book) check() {
	b.rig.t.Helper()
	list, err := b.rig.user.CoreV1().Services(b.rig.namespace).List(b.rig.t.Context(), listAll)
	if err != nil {
		b.rig.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	owner := map[netip.Addr]kube.Key{}
	for i := range list.Items {
		svc := &list.Items[i]
		if !b.rig.read(svc).Ours {
			continue
		}
		for _, in := range svc.Status.LoadBalancer.Ingress {
			a := netip.MustParseAddr(in.IP)
			if other, taken := owner[a]; taken {
				b.rig.t.Errorf("%s is in the status of %s and of %s", a, other, keyOf(svc))
			}
			owner[a] = keyOf(svc)
			if b.held[a] != keyOf(svc) {
				b.rig.t.Errorf("%s is in the status of %s and held by %q", a, keyOf(svc), b.held[a])
			}
		}
	}
	for a, key := range b.held {
		if owner[a] != key {
			b.rig.t.Errorf("%s is held by %s, whose status has it not", a, key)
		}
	}
	for _, what := range b.early {
		b.rig.t.Errorf("given back too early: %s", what)
	}
}
