package serving

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

// TestSetPools: pools with other backends serve as if the whole state had been
// applied with them, whatever checks and operators have said before.
func TestSetPools(t *testing.T) {
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		some := func() (list []int) {
			for n := 1; n <= 6; n++ {
				if rnd.IntN(2) == 0 {
					list = append(list, n)
				}
			}
			return list
		}
		one, whole := newWorld(t), newWorld(t)
		first := web(some()...)
		var settings []model.BackendSetting
		if rnd.IntN(2) == 0 {
			settings = append(settings, model.BackendSetting{BackendKey: key(1 + rnd.IntN(6)), State: model.Drained})
		}
		one.apply(first, settings...)
		whole.apply(first, settings...)
		for range 20 {
			if rnd.IntN(2) == 0 {
				health := Health(rnd.IntN(3))
				for _, n := range some() {
					one.report(health, n)
					whole.report(health, n)
				}
			} else {
				next := web(some()...)
				if err := one.keeper.SetPools(next.Pools); err != nil {
					t.Fatal(err)
				}
				whole.apply(next, settings...)
			}
			d := time.Duration(rnd.IntN(3)) * time.Second
			one.after(d)
			whole.after(d)
			for name, backends := range whole.inForce {
				if !slices.Equal(backends, one.inForce[name]) {
					t.Fatalf("pool %s serves as %+v, applied as a whole as %+v", name, one.inForce[name], backends)
				}
			}
		}
	}
}

// TestSetPoolsThatRefuse: a pool that refuses another share and has the same backends
// is put in force.
func TestSetPoolsThatRefuse(t *testing.T) {
	var applied []model.Pool
	k := New(appliers(func(pools []model.Pool) { applied = pools }), time.Now, func() {})
	state := web(1, 2)
	if err := k.Apply(state, nil, func(*model.State) error { return nil }); err != nil {
		t.Fatal(err)
	}
	state.Pools[0].Refused = 7
	if err := k.SetPools(state.Pools); err != nil {
		t.Fatal(err)
	}
	if len(applied) != 1 || applied[0].Refused != 7 {
		t.Errorf("applied are %+v", applied)
	}
}

// appliers is a data path that takes everything.
type appliers func([]model.Pool)

func (a appliers) ApplyPools(pools ...model.Pool) (bool, error) {
	a(pools)
	return true, nil
}

// TestSetPoolsRefused: what the data path does not take changes nothing.
func TestSetPoolsRefused(t *testing.T) {
	w := newWorld(t)
	w.apply(web(1, 2))
	before := w.inForce["web"]
	w.refuse = errors.New("no room")
	if err := w.keeper.SetPools(web(3).Pools); !errors.Is(err, w.refuse) {
		t.Errorf("got %v", err)
	}
	w.refuse = nil
	w.after(time.Second)
	if !slices.Equal(w.inForce["web"], before) {
		t.Errorf("in force is %+v, before it was %+v", w.inForce["web"], before)
	}
	err := w.keeper.SetPools([]model.Pool{{Name: "other"}})
	if err == nil || err.Error() != `there is no pool "other"` {
		t.Errorf("got %v", err)
	}
}
