package allocate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/ledger"
	"fairlead/k8ssync/v1alpha1"
)

// Sync begins anew, from what the API server has: pools and reservations, which are
// listed here, and all objects that hold addresses or want some, which the caller
// has listed. These go on to hold what their statuses say, or what is reserved for
// them; reservations that are missing are made again. What is reserved for objects
// that are not there any more is given back. Nothing new is assigned.
//
// Between the caller's list and the end of Sync no other method is called.
func (a *Allocator) Sync(ctx context.Context, all []Request) error {
	for range attempts {
		err := a.sync(ctx, all)
		if !errors.Is(err, errRaced) {
			return err
		}
	}
	return fmt.Errorf("address reservations: others were faster %d times", attempts)
}

func (a *Allocator) sync(ctx context.Context, all []Request) error {
	pools, err := a.listPools(ctx)
	if err != nil {
		return err
	}
	objects, err := a.listReservations(ctx)
	if err != nil {
		return err
	}
	writes, strays := a.begin(all, pools, objects)
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
	return a.collect(ctx, strays)
}

// begin fills the ledger. It returns what has to be written, and the objects that
// hold something and are not among all.
func (a *Allocator) begin(all []Request, pools []v1alpha1.AddressPool, objects []v1alpha1.AddressReservation) ([]write, []kube.Key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.pools)
	for i := range pools {
		a.pools[pools[i].Name] = &pools[i]
	}
	a.ledger = ledger.New(a.usable())
	before := a.seen
	a.seen = make(map[netip.Addr]seen, len(objects))
	clear(a.alive)
	for i := range objects {
		o := &objects[i]
		if address, err := v1alpha1.ReservationAddress(o.Name); err == nil {
			// What was written here, or seen before, stays so.
			if known, ok := before[address]; ok && known.object.UID == o.UID && known.object.ResourceVersion == o.ResourceVersion {
				a.seen[address] = known
			}
		}
		a.observeAll(o)
	}
	for _, r := range all {
		a.alive[r.Key] = true
	}
	a.ledger.Adopt(all)
	var strays []kube.Key
	for _, key := range a.ledger.Keys() {
		if !a.alive[key] {
			strays = append(strays, key)
		}
	}
	var writes []write
	for _, r := range a.ledger.Reservations() {
		if w, ok := a.plan(r.Address, nil); ok {
			writes = append(writes, w)
		}
	}
	// A reservation that the ledger does not have is one whose holders have lost it.
	for address := range a.seen {
		if _, ok := a.ledger.Reservation(address); ok {
			continue
		}
		if w, ok := a.plan(address, nil); ok {
			writes = append(writes, w)
		}
	}
	a.touch()
	return writes, strays
}

// observeAll is observe, and the ledger goes by it even if it was written here. The
// lock is held.
func (a *Allocator) observeAll(o *v1alpha1.AddressReservation) {
	a.observe(o, false)
	if r, err := recorded(o); err == nil {
		a.ledger.Record(r)
	}
}

// collect gives back what is held by objects that nobody cares for, if the API server
// says that they do not want it.
func (a *Allocator) collect(ctx context.Context, strays []kube.Key) error {
	for _, key := range strays {
		owner, err := a.cfg.Owner(ctx, key)
		if err != nil {
			return fmt.Errorf("holder of addresses %s: %w", key, err)
		}
		if owner.Wants {
			continue // it was made meanwhile
		}
		a.cfg.Log.Info("addresses of an object that is gone are given back", "object", key.String(), "addresses", a.Holds(key))
		if err := a.Release(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

func (a *Allocator) listPools(ctx context.Context) ([]v1alpha1.AddressPool, error) {
	var all []v1alpha1.AddressPool
	options := metav1.ListOptions{Limit: 500}
	for {
		page, err := a.cfg.Client.Pools().List(ctx, options)
		if err != nil {
			return nil, listError(v1alpha1.Pools, err)
		}
		all = append(all, page.Items...)
		if options.Continue = page.Continue; page.Continue == "" {
			return all, nil
		}
	}
}

// strays are objects that hold something, and that nobody has asked for.
func (a *Allocator) strays() []kube.Key {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(a.ledger.Keys(), func(k kube.Key) bool { return a.alive[k] })
}
