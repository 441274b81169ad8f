package allocate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/ledger"
)

// attempts is how often a decision is made anew because others were faster. From
// the third on all reservations are read again, so that one more is lost only to a
// writer that is working right now.
const attempts = 50

// Ensure has an object hold addresses, and returns when nobody else can get them. An
// object keeps what it has as long as that can be; what it has to leave stays
// reserved for it until Release. An error is one of the API server's: try again.
//
// The addresses may be written into the object's status within ClaimTime, in the
// version of the object that the request was made from.
func (a *Allocator) Ensure(ctx context.Context, r Request) (Assignment, error) {
	for attempt := range attempts {
		if attempt >= 2 {
			if err := a.lookAll(ctx); err != nil {
				return Assignment{}, err
			}
		}
		assignment, writes, terms := a.decide(r)
		err := a.doAll(ctx, writes)
		if err == nil {
			if terms {
				a.cfg.Changed(nil)
			}
			return assignment, nil
		}
		if !errors.Is(err, errRaced) {
			return Assignment{}, err
		}
	}
	return Assignment{}, fmt.Errorf("addresses of %s: others were faster %d times", r.Key, attempts)
}

// decide is what an object is to have, and what has to be written before it has it.
// terms is whether others may share with it now that could not.
func (a *Allocator) decide(r Request) (assignment Assignment, writes []write, terms bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.alive[r.Key] = true
	before := a.termsOf(r.Key)
	decision := a.ledger.Assign(r)
	assignment.Addresses = decision.Addresses
	for _, refusal := range decision.Refusals {
		assignment.Problems = append(assignment.Problems, refusal.Problem())
	}
	for address, h := range a.termsOf(r.Key) {
		if was, ok := before[address]; ok && !sameTerms(was, h) {
			terms = true
		}
	}
	for _, address := range decision.Addresses {
		var claim *kube.Key
		if !slices.Contains(r.Held, address) {
			claim = &r.Key
		}
		if w, ok := a.plan(address, claim); ok {
			writes = append(writes, w)
		}
	}
	return assignment, writes, terms
}

// termsOf are the terms on which an object holds addresses. The lock is held.
func (a *Allocator) termsOf(key kube.Key) map[netip.Addr]ledger.Holder {
	terms := map[netip.Addr]ledger.Holder{}
	for _, address := range a.ledger.Holds(key) {
		r, _ := a.ledger.Reservation(address)
		for _, h := range r.Holders {
			if h.Key == key {
				terms[address] = h
			}
		}
	}
	return terms
}

func sameTerms(a, b ledger.Holder) bool {
	return a.SharingKey == b.SharingKey && slices.Equal(a.SharingNamespaces, b.SharingNamespaces) && slices.Equal(a.Ports, b.Ports)
}

// doAll makes changes one after the other, until one fails. What was decided stays
// decided in the ledger, so that the next try ends with the same addresses.
func (a *Allocator) doAll(ctx context.Context, writes []write) error {
	for i, w := range writes {
		if err := a.do(ctx, w); err != nil {
			a.mu.Lock()
			for _, later := range writes[i+1:] {
				a.done(later)
			}
			a.mu.Unlock()
			return err
		}
	}
	return nil
}

// done ends what plan began. The lock is held.
func (a *Allocator) done(w write) {
	if a.pending[w.address]--; a.pending[w.address] == 0 {
		delete(a.pending, w.address)
	}
}
