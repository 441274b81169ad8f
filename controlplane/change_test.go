package controlplane

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
)

func backend(last int) model.Backend {
	return model.Backend{Address: netip.AddrFrom4([4]byte{198, 18, 10, byte(last)}), Port: 8080, Weight: 1}
}

// TestApplyPools: a pool's backends come and go by a patch; one that is new is
// a full image; one that is the same is nothing.
func TestApplyPools(t *testing.T) {
	r, p, now := started(t, state(11, 12))
	if changed, err := r.ApplyPools(state(11, 12).Pools[0]); changed || err != nil {
		t.Fatal(changed, err)
	}
	if changed, err := r.ApplyPools(state(11, 13).Pools...); !changed || err != nil || p.patched != 1 {
		t.Fatal(changed, err, p.patched)
	}
	if f, _, ok := flags(p.last, 12); !ok || f != fib.BackendDraining {
		t.Errorf("the removed backend has flags %#x, present %v", f, ok)
	}
	if f, _, ok := flags(p.last, 13); !ok || f != 0 {
		t.Errorf("the new backend has flags %#x, present %v", f, ok)
	}
	if changed, err := r.Apply(state(11, 13)); changed || err != nil {
		t.Errorf("the state is not that of the pools: %v, %v", changed, err)
	}
	if changed, err := r.ApplyPools(model.Pool{Name: "new", Backends: []model.Backend{backend(20)}}); !changed || err != nil || p.patched != 1 || p.count != 3 {
		t.Fatalf("changed %v, %v, %d generations, %d of them patches", changed, err, p.count, p.patched)
	}
	if _, err := r.ApplyPools(model.Pool{Name: "web", Backends: []model.Backend{{Address: netip.MustParseAddr("198.18.100.1"), Port: 8080, Weight: 1}}}); err == nil ||
		err.Error() != `invalid state: pool[0].backend[0].address: pool "web": backend 198.18.100.1 is also a VIP` {
		t.Errorf("error %v", err)
	}
	*now = now.Add(2 * time.Minute)
	if err := r.Expire(); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := flags(p.last, 12); ok || p.patched != 2 {
		t.Errorf("after its time the removed backend is there: %v; %d patches", ok, p.patched)
	}
}

// TestReloadOfPoolsIsAPatch: a whole state in which nothing but backends are
// other ones, in any order of pools, is a patch; any other difference is not.
func TestReloadOfPoolsIsAPatch(t *testing.T) {
	two := func(web ...int) *model.State {
		s := state(web...)
		s.Pools = append(s.Pools, model.Pool{Name: "other", Backends: []model.Backend{backend(30)}})
		return s
	}
	r, p, _ := started(t, two(11))
	s := two(11, 12)
	slices.Reverse(s.Pools)
	if changed, err := r.Apply(s); !changed || err != nil || p.patched != 1 {
		t.Fatal(changed, err, p.patched)
	}
	if changed, err := r.Apply(two(11, 12)); changed || err != nil {
		t.Errorf("the order of pools is a change: %v", err)
	}
	twice := two(11, 12)
	twice.Pools[0].Name = "other"
	if _, err := r.Apply(twice); err == nil {
		t.Error("a pool that is there twice is accepted")
	}
	s = two(11, 12, 13)
	s.Services[0].DrainTimeout = time.Hour
	if changed, err := r.Apply(s); !changed || err != nil || p.patched != 1 || p.count != 3 {
		t.Fatal(changed, err, p.patched, p.count)
	}
}

func TestObserveChange(t *testing.T) {
	if err := New(&recorder{t: t}).ObserveChange(model.ObservationChange{}); err == nil || err.Error() != "nothing is published that observations could change" {
		t.Errorf("error %v", err)
	}
	r, p, _ := started(t, state(11, 12))
	end := backend(12).Address
	way := model.NextHop{Interface: "eth0", MAC: [6]byte{2, 9}, Resolved: true}
	for _, c := range []struct {
		name    string
		change  model.ObservationChange
		count   int
		hops    int
		warning int
	}{
		{"nothing", model.ObservationChange{}, 1, 0, 1},
		{"reached", model.ObservationChange{NextHops: map[netip.Addr]model.NextHop{end: way}}, 2, 1, 1},
		{"reached again", model.ObservationChange{NextHops: map[netip.Addr]model.NextHop{end: way}}, 2, 1, 1},
		{"all reached", model.ObservationChange{NextHops: map[netip.Addr]model.NextHop{backend(11).Address: way}}, 3, 1, 0},
		{"lost", model.ObservationChange{Lost: []netip.Addr{end}}, 4, 1, 1},
	} {
		if err := r.ObserveChange(c.change); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if w := r.Status().Warnings; p.count != c.count || p.patched != c.count-1 || p.nextHops() != c.hops || len(w) != c.warning {
			t.Errorf("%s: %d generations, %d next hops, warnings %q", c.name, p.count, p.nextHops(), w)
		}
	}
	// What was observed in parts is what Observe compares with, and Republish uses.
	whole := observations()
	whole.NextHops = map[netip.Addr]model.NextHop{backend(11).Address: way}
	if err := r.Observe(whole); err != nil || p.count != 4 {
		t.Errorf("the same observations are another generation: %v, %d", err, p.count)
	}
	if err := r.Republish(); err != nil || p.count != 5 || p.nextHops() != 1 {
		t.Errorf("%v, %d generations, %d next hops", err, p.count, p.nextHops())
	}
}

// TestRefusedPatchChangesNothing asserts all or nothing for patches.
func TestRefusedPatchChangesNothing(t *testing.T) {
	r, p, _ := started(t, state(11, 12))
	before := describe(p.last)
	p.refuse = errors.New("the data process says no")
	if _, err := r.Apply(state(11)); err == nil || err.Error() != "publish generation 2: the data process says no" {
		t.Errorf("error %v", err)
	}
	p.refuse = nil
	if got := describe(p.images.Snapshot()); got != before || r.Status().Generation != 1 || r.Status().Draining != 0 {
		t.Errorf("something has changed: %+v\n%s", r.Status(), got)
	}
	if changed, err := r.Apply(state(11)); !changed || err != nil || p.patched != 1 {
		t.Errorf("changed %v, %v", changed, err)
	}
}

// describe is what an image says of its backends and pools.
func describe(s *fib.Snapshot) string {
	var lines []string
	for slot, b := range s.Backends() {
		if b.ID == 0 {
			continue
		}
		hop := fib.NextHop{}
		if n := s.NextHop(b.NextHop); n != nil {
			hop = *n
		}
		lines = append(lines, fmt.Sprint("backend ", slot, b.ID, s.BackendName(&b), s.Name(s.Pool(b.Pool).Name), b.Weight, b.Flags, hop))
	}
	for i := range s.Pools() {
		p := s.Pool(uint32(i))
		if p.Name.Length == 0 {
			continue
		}
		var slots []uint32
		for _, e := range s.Table(p) {
			slots = append(slots, s.Members(p)[e])
		}
		lines = append(lines, fmt.Sprintf("pool %s %x %v", s.Name(p.Name), p.Checksum, slots))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestPatchedAgreesWithFull takes two reconcilers through the same random
// changes by every method; one can patch, the other never. They publish the
// same.
func TestPatchedAgreesWithFull(t *testing.T) {
	random := rand.New(rand.NewPCG(8, 9))
	start := func(full bool) (*Reconciler, *recorder, *time.Time) {
		s := state(1, 2, 3)
		s.Pools = append(s.Pools, model.Pool{Name: "other"}, model.Pool{Name: "third", Backends: []model.Backend{backend(9)}})
		svc := s.Services[0]
		svc.Name, svc.Pool, svc.Ports, svc.DrainTimeout = "second", "other", model.PortRange{First: 81, Last: 81}, 5*time.Minute
		s.Services = append(s.Services, svc)
		r, p, now := started(t, s)
		p.full = full
		return r, p, now
	}
	a, pa, nowA := start(false)
	b, pb, nowB := start(true)
	random1 := func() model.Pool {
		pool := model.Pool{Name: []string{"web", "other", "third"}[random.IntN(3)]}
		for _, n := range random.Perm(9)[:random.IntN(9)] {
			back := backend(n + 1)
			back.Weight = random.IntN(3)
			back.Serving = model.Serving{Withheld: random.IntN(3) * 500, Down: random.IntN(4) == 0}
			pool.Backends = append(pool.Backends, back)
		}
		return pool
	}
	way := func() model.NextHop {
		return model.NextHop{Interface: "eth0", MAC: [6]byte{2, byte(random.IntN(4))}, Resolved: random.IntN(3) > 0}
	}
	for step := range 800 {
		*nowA = nowA.Add(time.Duration(random.IntN(40)) * time.Second)
		*nowB = *nowA
		pool, address, hop := random1(), backend(1+random.IntN(9)).Address, way()
		what := random.IntN(6)
		whole := observations()
		whole.NextHops = map[netip.Addr]model.NextHop{address: hop, backend(3).Address: hop}
		other := random1()
		do := func(r *Reconciler) error {
			switch what {
			case 0, 1:
				_, err := r.ApplyPools(pool)
				return err
			case 2:
				_, err := r.Apply(r.with([]model.Pool{pool, other}))
				return err
			case 3:
				return r.ObserveChange(model.ObservationChange{NextHops: map[netip.Addr]model.NextHop{address: hop}})
			case 4:
				return r.Observe(whole)
			default:
				return r.Expire()
			}
		}
		if errA, errB := do(a), do(b); errA != nil || errB != nil {
			t.Fatalf("step %d: %v and %v", step, errA, errB)
		}
		if got, want := describe(pa.last), describe(pb.last); got != want {
			t.Fatalf("step %d, kind %d: patched\n%s\nfull\n%s", step, what, got, want)
		}
		if got, want := a.Status(), b.Status(); got.Draining != want.Draining || got.Generation != want.Generation || !slices.Equal(got.Warnings, want.Warnings) {
			t.Fatalf("step %d: %+v and %+v", step, got, want)
		}
	}
	t.Logf("%d generations, %d of them patches", pa.count, pa.patched)
	if pa.patched < 300 || pb.patched != 0 {
		t.Errorf("%d and %d patches", pa.patched, pb.patched)
	}
}
