package allocate

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/v1alpha1"
)

// ReservationEvent takes over that a reservation has changed: was nil, there was
// none; is nil, there is none any more. News may be late and repeat themselves.
// Objects are not written to.
func (a *Allocator) ReservationEvent(was, is *v1alpha1.AddressReservation) {
	o := is
	if o == nil {
		o = was
	}
	address, err := v1alpha1.ReservationAddress(o.Name)
	if err != nil {
		return // the API server lets none be made
	}
	var changed []kube.Key
	a.mu.Lock()
	known, ok := a.seen[address]
	switch {
	case a.pending[address] > 0:
		// The answer to what is being written tells more.
	case is == nil && ok && known.object.UID == o.UID:
		changed = a.vanish(address)
	case is == nil:
		delete(a.gone, o.UID)
	case a.gone[o.UID]:
	case ok && known.object.UID == o.UID && !newer(o.ResourceVersion, known.object.ResourceVersion):
	default:
		changed = a.observe(o.DeepCopy(), false)
	}
	a.mu.Unlock()
	a.changed(changed)
	if is == nil {
		a.cfg.Changed(nil) // there may be room
	}
}

// PoolEvent takes over that a pool has changed, likewise.
func (a *Allocator) PoolEvent(was, is *v1alpha1.AddressPool) {
	a.mu.Lock()
	if is == nil {
		delete(a.pools, was.Name)
	} else {
		known := a.pools[is.Name]
		a.pools[is.Name] = is.DeepCopy()
		if known != nil && known.UID == is.UID && known.Generation == is.Generation {
			if !equality.Semantic.DeepEqual(known.Status, is.Status) {
				a.touch() // it may not say any more what it is to say
			}
			a.mu.Unlock()
			return
		}
	}
	a.ledger.SetPools(a.usable())
	a.mu.Unlock()
	a.touch()
	a.cfg.Changed(nil)
}

// usable are all pools that addresses can be given out of: those of the settings, and
// objects. The lock is held.
func (a *Allocator) usable() []kube.AddressPool {
	all := make([]kube.AddressPool, 0, len(a.cfg.Pools)+len(a.pools))
	taken := map[string]bool{}
	for _, p := range a.cfg.Pools {
		taken[p.Name] = true
		all = append(all, p)
	}
	clear(a.poolError)
	for name, o := range a.pools {
		p, err := PoolOf(o)
		if taken[name] {
			err = fmt.Errorf("the configuration of the nodes has a pool of this name")
		}
		if err != nil {
			a.poolError[name] = err
			continue
		}
		all = append(all, p)
	}
	return all
}
