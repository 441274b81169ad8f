package ledger

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"fairlead/k8ssync/kube"
)

// Adopt has objects go on to hold what their statuses record, or what is recorded
// for them here. Nothing new is assigned. The order of requests does not matter:
// where two objects claim one address, it is kept by the one for which it has been
// recorded as it is now, then by the one for which it is recorded at all, then by
// the older one, then by the first by key.
func (l *Ledger) Adopt(requests []Request) {
	type claim struct {
		request *Request
		rank    int
	}
	claims := make([]claim, len(requests))
	for i := range requests {
		claims[i] = claim{&requests[i], l.rank(&requests[i])}
	}
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(
			cmp.Compare(a.rank, b.rank),
			a.request.Created.Compare(b.request.Created),
			a.request.Key.Compare(b.request.Key),
		)
	})
	// What is recorded counts from the best claim to the worst, and not against a
	// better one.
	recorded := make(map[kube.Key]map[netip.Addr]Holder, len(requests))
	for _, c := range claims {
		key := c.request.Key
		mine := map[netip.Addr]Holder{}
		for a := range l.byKey[key] {
			mine[a] = l.entries[a].holders[key]
		}
		for a := range mine {
			l.drop(a, key)
		}
		recorded[key] = mine
	}
	done := make(map[kube.Key]map[Family]bool, len(claims))
	claimOne := func(r *Request, candidates []netip.Addr, mine addresses) {
		for _, f := range r.Families {
			if done[r.Key][f] {
				continue
			}
			a, ok, _ := l.firstHeld(r, f, candidates, mine)
			if !ok {
				continue
			}
			l.claim(a, r.holder())
			if done[r.Key] == nil {
				done[r.Key] = map[Family]bool{}
			}
			done[r.Key][f] = true
		}
	}
	// Statuses come before what is only recorded.
	for _, c := range claims {
		mine := addresses{}
		for a := range recorded[c.request.Key] {
			mine[a] = struct{}{}
		}
		claimOne(c.request, c.request.Held, mine)
	}
	// What is recorded stays, on the terms of then: objects may be about to leave it.
	for _, c := range claims {
		for _, a := range slices.SortedFunc(maps.Keys(recorded[c.request.Key]), netip.Addr.Compare) {
			h := recorded[c.request.Key][a]
			if _, again := l.entries[a].holders[h.Key]; !again && !l.entries[a].incompatible(a, h) {
				l.hold(a, h)
			}
		}
	}
	for _, c := range claims {
		mine := l.byKey[c.request.Key]
		claimOne(c.request, l.Holds(c.request.Key), mine)
	}
	for _, a := range slices.SortedFunc(maps.Keys(l.entries), netip.Addr.Compare) {
		if e := l.entries[a]; len(e.holders) == 0 && !e.reserved {
			l.forget(a, e)
		}
	}
}

// incompatible is whether an object cannot hold an address beside the others.
func (e *entry) incompatible(a netip.Addr, h Holder) bool {
	for key, other := range e.holders {
		if key != h.Key && conflict(a, h, other) != nil {
			return true
		}
	}
	return false
}

// rank is how well what a status says is recorded: the least is best.
func (l *Ledger) rank(r *Request) int {
	mine := r.holder()
	best := 2
	for a := range l.byKey[r.Key] {
		h := l.entries[a].holders[r.Key]
		if h.SharingKey == mine.SharingKey && slices.Equal(h.Ports, mine.Ports) && slices.Equal(h.SharingNamespaces, mine.SharingNamespaces) {
			return 0
		}
		best = 1
	}
	return best
}
