package allocate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"fairlead/k8ssync/kube"
)

// Release has an object hold nothing any more but what is to be kept. When something
// is kept, and another writer may be about to write what is not, that stays until
// Grace has passed: Holds still has it, and Release is to be called again.
//
// Nothing is to be kept of an object that is gone or does not want addresses any
// more, and nobody may be able to write its status in the version before that.
func (a *Allocator) Release(ctx context.Context, key kube.Key, keep ...netip.Addr) error {
	if len(keep) == 0 {
		a.mu.Lock()
		delete(a.alive, key)
		a.mu.Unlock()
	}
	for _, address := range a.Holds(key) {
		if slices.Contains(keep, address) {
			continue
		}
		if err := a.releaseOne(ctx, key, address, len(keep) > 0); err != nil {
			return err
		}
	}
	return nil
}

// releaseOne has an object not hold one address any more.
func (a *Allocator) releaseOne(ctx context.Context, key kube.Key, address netip.Addr, careful bool) error {
	for range attempts {
		a.mu.Lock()
		known, ok := a.seen[address]
		if !ok {
			// Perhaps it was made, and the answer was lost.
			a.mu.Unlock()
			if err := a.look(ctx, address); err != nil {
				return err
			}
			a.mu.Lock()
			if known, ok = a.seen[address]; !ok {
				a.letGo(key, address)
				a.mu.Unlock()
				return nil
			}
		}
		if careful && !known.own && a.cfg.Now().Sub(known.at) < a.cfg.Grace {
			a.mu.Unlock()
			return nil
		}
		a.letGo(key, address)
		w, needed := a.plan(address, nil)
		a.mu.Unlock()
		if !needed {
			return nil
		}
		err := a.do(ctx, w)
		if err == nil {
			a.cfg.Changed(nil) // there is room
			return nil
		}
		if !errors.Is(err, errRaced) {
			// What is written counts: it is still to be released.
			a.mu.Lock()
			if known, ok := a.seen[address]; ok {
				if r, err := recorded(known.object); err == nil {
					a.ledger.Record(r)
				}
			}
			a.mu.Unlock()
			return err
		}
		if !slices.Contains(a.Holds(key), address) {
			return nil // somebody else has done it
		}
	}
	return fmt.Errorf("release of %s by %s: others were faster %d times", address, key, attempts)
}

// letGo has an object not hold one address in the ledger. The lock is held.
func (a *Allocator) letGo(key kube.Key, address netip.Addr) {
	keep := slices.DeleteFunc(a.ledger.Holds(key), func(o netip.Addr) bool { return o == address })
	a.ledger.Release(key, keep...)
	a.touch()
}
