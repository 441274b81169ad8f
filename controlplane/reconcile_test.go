package controlplane

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
)

// recorder is a publisher that keeps the image in force.
type recorder struct {
	t       testing.TB
	images  *fib.Images
	last    *fib.Snapshot
	count   int
	patched int // of count
	refuse  error
	full    bool // no patch fits
}

func (r *recorder) Publish(generation uint64, b *fib.Builder) error {
	if r.refuse != nil {
		return r.refuse
	}
	images, err := fib.NewImages(b, generation)
	if err == nil {
		err = images.Double()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	if r.images == nil {
		r.t.Cleanup(func() { r.images.Close() })
	} else if err := r.images.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.images, r.last = images, images.Snapshot()
	r.count++
	return nil
}

func (r *recorder) Patch(generation uint64, p *fib.Patch) error {
	if r.full {
		return fib.ErrNoRoom
	}
	if _, err := r.images.Patch(p, generation); err != nil {
		r.t.Fatal(err)
	}
	if r.refuse != nil {
		r.images.Abandon()
		return r.refuse
	}
	r.images.Commit()
	r.last = r.images.Snapshot()
	r.count++
	r.patched++
	return nil
}

// nextHops is how many next hops backends have.
func (r *recorder) nextHops() int {
	used := make(map[uint32]bool)
	for _, b := range r.last.Backends() {
		if b.ID != 0 && b.NextHop != fib.NoIndex {
			used[b.NextHop] = true
		}
	}
	return len(used)
}

// state has one service over the backends with the given last address bytes.
func state(last ...int) *model.State {
	s := &model.State{
		SNATs:    []model.SNAT{{Address: netip.MustParseAddr("198.18.10.200")}},
		Services: []model.Service{{Name: "web", VIP: netip.MustParseAddr("198.18.100.1"), Protocol: model.TCP, Ports: model.PortRange{First: 80, Last: 80}, Pool: "web", Method: model.NAT, DrainTimeout: time.Minute}},
		Pools:    []model.Pool{{Name: "web"}},
	}
	for _, b := range last {
		s.Pools[0].Backends = append(s.Pools[0].Backends, model.Backend{Address: netip.AddrFrom4([4]byte{198, 18, 10, byte(b)}), Port: 8080, Weight: 1})
	}
	return s
}

func observations() *model.Observations {
	return &model.Observations{Interfaces: []model.Interface{{Name: "eth0", MAC: [6]byte{2}, MTU: 1500}}}
}

func started(t *testing.T, s *model.State) (*Reconciler, *recorder, *time.Time) {
	t.Helper()
	p := &recorder{t: t}
	r := New(p)
	now := time.Unix(1000, 0)
	r.now = func() time.Time { return now }
	if err := r.Start(s, observations()); err != nil {
		t.Fatal(err)
	}
	return r, p, &now
}

// flags are those of the backend with the given last address byte, and whether
// it is in the image at all.
func flags(s *fib.Snapshot, last int) (uint8, fib.ID, bool) {
	want := netip.AddrFrom4([4]byte{198, 18, 10, byte(last)})
	for _, b := range s.Backends() {
		if b.ID != 0 && b.Addr.Netip() == want {
			return b.Flags, b.ID, true
		}
	}
	return 0, 0, false
}

// TestIdenticalInputIsNoGeneration asserts that what changes nothing is not
// published.
func TestIdenticalInputIsNoGeneration(t *testing.T) {
	r, p, _ := started(t, state(11, 12))
	if changed, err := r.Apply(state(11, 12)); changed || err != nil {
		t.Errorf("changed %v, %v", changed, err)
	}
	if err := r.Observe(observations()); err != nil {
		t.Error(err)
	}
	if err := r.Expire(); err != nil {
		t.Error(err)
	}
	if p.count != 1 || r.Status().Generation != 1 {
		t.Errorf("%d images, generation %d", p.count, r.Status().Generation)
	}
}

// TestRemovedBackendIsGoneAtOnce: with NoDrain, one image has it and the next has
// not.
func TestRemovedBackendIsGoneAtOnce(t *testing.T) {
	both, one := state(11, 12), state(11)
	both.Services[0].DrainTimeout, one.Services[0].DrainTimeout = model.NoDrain, model.NoDrain
	r, p, _ := started(t, both)
	if changed, err := r.Apply(one); !changed || err != nil {
		t.Fatal(changed, err)
	}
	if _, _, there := flags(p.last, 12); there || p.count != 2 || len(r.Deadlines()) != 0 {
		t.Errorf("it is there: %v; %d images, deadlines %v", there, p.count, r.Deadlines())
	}
}

// TestRemovedBackendDrains follows a backend out: draining at once, gone after
// the drain timeout, with its identity kept while it drains.
func TestRemovedBackendDrains(t *testing.T) {
	r, p, now := started(t, state(11, 12))
	_, id, _ := flags(p.last, 12)
	if changed, err := r.Apply(state(11)); !changed || err != nil {
		t.Fatal(changed, err)
	}
	if f, kept, ok := flags(p.last, 12); !ok || f&fib.BackendDraining == 0 || kept != id {
		t.Errorf("after removal: flags %#x, ID %#x was %#x, present %v", f, kept, id, ok)
	}
	*now = now.Add(59 * time.Second)
	if err := r.Expire(); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := flags(p.last, 12); !ok {
		t.Error("gone before the drain timeout")
	}
	*now = now.Add(2 * time.Second)
	if err := r.Expire(); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := flags(p.last, 12); ok {
		t.Error("still there after the drain timeout")
	}
	if r.Status().Draining != 0 {
		t.Errorf("%d are said to drain", r.Status().Draining)
	}
}

// TestReturningBackend asserts that a backend which comes back while it drains
// is an ordinary one again, with the identity its flows know.
func TestReturningBackend(t *testing.T) {
	r, p, _ := started(t, state(11, 12))
	_, id, _ := flags(p.last, 12)
	for _, s := range []*model.State{state(11), state(11, 12), state(11), state(11, 12)} {
		if _, err := r.Apply(s); err != nil {
			t.Fatal(err)
		}
	}
	if f, back, ok := flags(p.last, 12); !ok || f != 0 || back != id {
		t.Errorf("flags %#x, ID %#x was %#x, present %v", f, back, id, ok)
	}
}

// TestInvalidStateChangesNothing asserts all or nothing, for a state that does
// not validate and for a publisher that refuses.
func TestInvalidStateChangesNothing(t *testing.T) {
	r, p, _ := started(t, state(11, 12))
	bad := state(11)
	bad.Services[0].Pool = "nowhere"
	if _, err := r.Apply(bad); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("error %v", err)
	}
	p.refuse = errors.New("the data process says no")
	if _, err := r.Apply(state(11)); err == nil || err.Error() != "publish generation 2: the data process says no" {
		t.Errorf("error %v", err)
	}
	p.refuse = nil
	if p.count != 1 || r.Status().Generation != 1 || r.Status().Draining != 0 {
		t.Errorf("%d images, %+v", p.count, r.Status())
	}
	if changed, err := r.Apply(state(11, 12)); changed || err != nil {
		t.Errorf("the state before is not in force any more: %v, %v", changed, err)
	}
}

// TestRandomReloads makes thousands of changes, a tenth of them invalid, and
// asserts after each that the image has the backends of the last valid state
// and of those removed within the drain timeout, and no others.
func TestRandomReloads(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	r, p, now := started(t, state(1))
	leaves := map[int]time.Time{} // when a removed backend is gone
	present := map[int]bool{1: true}
	for step := range 2000 {
		*now = now.Add(time.Duration(random.IntN(20)) * time.Second)
		var want []int
		for b := 1; b <= 8; b++ {
			if random.IntN(2) == 0 {
				want = append(want, b)
			}
		}
		s := state(want...)
		if random.IntN(10) == 0 {
			s.Services = append(s.Services, s.Services[0])
			if _, err := r.Apply(s); err == nil {
				t.Fatal("a duplicate service is accepted")
			}
		} else {
			if _, err := r.Apply(s); err != nil {
				t.Fatal(err)
			}
			next := map[int]bool{}
			for _, b := range want {
				next[b] = true
				delete(leaves, b)
			}
			for b := range present {
				if !next[b] {
					leaves[b] = now.Add(time.Minute)
				}
			}
			present = next
		}
		if err := r.Expire(); err != nil {
			t.Fatal(err)
		}
		for b := 1; b <= 8; b++ {
			f, _, ok := flags(p.last, b)
			draining := !present[b] && leaves[b].After(*now)
			if ok != (present[b] || draining) || ok && (f&fib.BackendDraining != 0) != draining {
				t.Fatalf("step %d, backend %d: present %v, draining %v, but in the image: %v, flags %#x", step, b, present[b], draining, ok, f)
			}
		}
	}
}

// TestApplyObserved asserts that new backends and the ways to them are one
// generation, and that what is observed counts when the state is the same.
func TestApplyObserved(t *testing.T) {
	r, p, now := started(t, state(11))
	seen := func(last ...int) *model.Observations {
		o := observations()
		o.NextHops = make(map[netip.Addr]model.NextHop)
		for _, b := range last {
			o.NextHops[netip.AddrFrom4([4]byte{198, 18, 10, byte(b)})] = model.NextHop{Interface: "eth0", MAC: [6]byte{2, 0, 0, 0, 0, byte(b)}, Resolved: true}
		}
		return o
	}
	if changed, err := r.ApplyObserved(state(12), seen(11, 12)); !changed || err != nil {
		t.Fatal(changed, err)
	}
	if n := p.nextHops(); n != 2 || p.count != 2 {
		t.Errorf("%d next hops after %d generations, want 2 after 2", n, p.count)
	}
	if got, want := r.Backends(), []netip.Addr{netip.MustParseAddr("198.18.10.12"), netip.MustParseAddr("198.18.10.11")}; !slices.Equal(got, want) {
		t.Errorf("backends %v, want %v", got, want)
	}
	*now = now.Add(2 * time.Minute)
	if err := r.Expire(); err != nil {
		t.Fatal(err)
	}
	if got, want := r.Backends(), []netip.Addr{netip.MustParseAddr("198.18.10.12")}; !slices.Equal(got, want) {
		t.Errorf("backends %v after draining, want %v", got, want)
	}
	if changed, err := r.ApplyObserved(state(12), seen(12)); changed || err != nil {
		t.Fatal(changed, err)
	}
	if n := p.nextHops(); n != 1 || p.count != 3 {
		t.Errorf("%d next hops after %d generations, want 1 after 3: the way to a backend that is gone is none of the image's", n, p.count)
	}
	if changed, err := r.ApplyObserved(state(12), seen(12)); changed || err != nil || p.count != 3 {
		t.Errorf("the same again: changed %v, %v, %d generations", changed, err, p.count)
	}
	p.refuse = errors.New("no")
	if _, err := r.ApplyObserved(state(13), seen(12, 13)); err == nil {
		t.Error("a refused image is no error")
	}
	p.refuse = nil
	if err := r.Observe(seen(12)); err != nil || p.count != 3 {
		t.Errorf("what was refused is remembered: %v, %d generations", err, p.count)
	}
}
