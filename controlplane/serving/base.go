package serving

import (
	"slices"

	"fairlead/controlplane/model"
)

// Bases are what a pool's bases are made of: see model.Pool.
type Bases struct{ Base, Also []model.Share }

func (b Bases) equal(o Bases) bool {
	return slices.Equal(b.Base, o.Base) && slices.Equal(b.Also, o.Also)
}

// SetBases gives these pools other bases, all at once; none take away what a pool
// has. It holds for pools that there are not yet, too. On an error the bases hold
// all the same, and are put in force by a later call.
func (k *Keeper) SetBases(bases map[string]Bases) error {
	defer k.changed()
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, b := range bases {
		if k.bases[name].equal(b) {
			continue
		}
		if len(b.Base) == 0 && len(b.Also) == 0 {
			delete(k.bases, name)
		} else {
			k.bases[name] = Bases{slices.Clone(b.Base), slices.Clone(b.Also)}
		}
		k.dirty[name] = true
	}
	return k.flush()
}

// Shares are what a pool's table is made of at the moment, by endpoint. It is not
// ok when there is no such pool or the data path has not taken it over.
func (k *Keeper) Shares(pool string) (shares []model.Share, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.pools[pool]
	if p == nil || p.in == nil {
		return nil, false
	}
	return sharesOf(p.in), true
}

// AllShares is Shares of every pool, by name.
func (k *Keeper) AllShares() map[string][]model.Share {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make(map[string][]model.Share, len(k.pools))
	for name, p := range k.pools {
		if p.in != nil {
			all[name] = sharesOf(p.in)
		}
	}
	return all
}

func sharesOf(backends []model.Backend) []model.Share {
	shares := make([]model.Share, len(backends))
	for i := range backends {
		b := &backends[i]
		shares[i] = model.Share{Endpoint: b.Endpoint(), Weight: b.Weight, Withheld: b.Serving.Withheld}
		if b.Serving.Down {
			shares[i].Withheld = fullShare
		}
	}
	slices.SortFunc(shares, func(a, b model.Share) int { return a.Endpoint.Compare(b.Endpoint) })
	return shares
}
