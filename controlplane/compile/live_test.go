package compile

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/maglev"
)

// describe is everything that can be looked up in a snapshot, without what
// only says where in the image something lies.
func describe(s *fib.Snapshot) string {
	var lines []string
	line := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	hop := func(i uint32) string {
		if n := s.NextHop(i); n != nil {
			return fmt.Sprint(*n)
		}
		return "none"
	}
	line("settings %+v", *s.Settings())
	s.Locals(func(l *fib.Local) bool { line("local %+v", *l); return true })
	for i, in := range s.Interfaces() {
		line("interface %d %s %v %d %d gateway %s", i, s.Name(in.Name), in.MAC, in.MTU, in.IfIndex, hop(in.Gateway))
	}
	for i, n := range s.SNATs() {
		line("snat %d %+v", i, n)
	}
	for slot, v := range s.Services() {
		if v.ID == 0 {
			continue
		}
		name, pool, ranges, idle := s.Name(v.Name), s.Name(s.Pool(v.Pool).Name), s.Ranges(&v), *s.Timeouts(v.Timeouts)
		found := s.Service(v.Local, v.Proto, v.PortFirst)
		v.Name, v.Pool, v.Ranges, v.Timeouts = fib.NameRef{}, 0, 0, 0
		line("service %d %s %+v pool %s ranges %v idle %v found as %#x", slot, name, v, pool, ranges, idle, uint32(found.ID))
	}
	for slot, b := range s.Backends() {
		if b.ID == 0 {
			continue
		}
		name, pool, way := s.BackendName(&b), s.Name(s.Pool(b.Pool).Name), hop(b.NextHop)
		b.Name, b.Pool, b.NextHop = fib.NameRef{}, 0, 0
		line("backend %d %s %+v pool %s by %s", slot, name, b, pool, way)
	}
	for i := range s.Pools() {
		p := s.Pool(uint32(i))
		if p.Name.Length == 0 {
			if p.MemberCount+p.TableSize != 0 {
				line("pool %d has no name", i)
			}
			continue // its last backend has drained
		}
		var members, table strings.Builder
		for _, slot := range s.Members(p) {
			fmt.Fprintf(&members, " %#x", uint32(s.Backend(slot).ID))
		}
		for _, n := range s.Table(p) {
			if n == fib.NoMember {
				table.WriteString(" -")
				continue
			}
			fmt.Fprintf(&table, " %x", uint32(s.Backend(s.Members(p)[n]).ID))
		}
		table.WriteString(" base")
		for _, n := range s.BaseTable(p) {
			if n == fib.NoMember {
				table.WriteString(" -")
				continue
			}
			fmt.Fprintf(&table, " %x", uint32(s.Backend(s.Members(p)[n]).ID))
		}
		table.WriteString(" also")
		for _, n := range s.AlsoTable(p) {
			if n == fib.NoMember {
				table.WriteString(" -")
				continue
			}
			fmt.Fprintf(&table, " %x", uint32(s.Backend(s.Members(p)[n]).ID))
		}
		line("pool %s members%s checksum %x table%s", s.Name(p.Name), &members, p.Checksum, &table)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// difference is the first line in which two descriptions differ.
func difference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range max(len(x), len(y)) {
		var p, q string
		if i < len(x) {
			p = x[i]
		}
		if i < len(y) {
			q = y[i]
		}
		if p != q {
			return fmt.Sprintf("patched:  %.400s\ncompiled: %.400s", p, q)
		}
	}
	return ""
}

// history is a state on its way through changes, once patched and once
// compiled anew each time.
type history struct {
	t        testing.TB
	r        *rand.Rand
	state    *model.State
	obs      *model.Observations
	draining map[string][]model.Backend

	ids    *IDs // of the compilations
	before *IDs // that the last one began from
	oracle *fib.Snapshot
	full   *Result

	live       *Live
	cache      *maglev.Cache
	images     *fib.Images
	generation uint64

	patched, whole, refused int
}

func newHistory(t testing.TB, r *rand.Rand) *history {
	h := &history{t: t, r: r, draining: make(map[string][]model.Backend), cache: &maglev.Cache{}}
	h.state, h.obs = randomState(r)
	h.compile()
	h.begin()
	return h
}

// compile makes the oracle.
func (h *history) compile() {
	h.t.Helper()
	result, s := compile(h.t, h.state, h.obs, h.ids, Options{Draining: h.drains()})
	h.full, h.oracle, h.before, h.ids = result, s, h.ids, result.IDs
}

func (h *history) drains() (all []DrainingBackend) {
	for _, name := range slices.Sorted(maps.Keys(h.draining)) {
		for _, b := range h.draining[name] {
			all = append(all, DrainingBackend{Pool: name, Backend: b})
		}
	}
	return all
}

// begin has the live one begin from the last compilation.
func (h *history) begin() {
	h.t.Helper()
	h.generation++
	result, _ := compile(h.t, h.state, h.obs, h.before, Options{Draining: h.drains(), Tables: h.cache})
	images, err := fib.NewImages(result.Builder, h.generation)
	if err == nil {
		err = images.Double()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	if h.images != nil {
		h.images.Close()
	}
	h.images = images
	h.live = NewLive(result, h.cache)
}

// random changes the history and returns the change.
func (h *history) random() *Change {
	r, c := h.r, &Change{}
	pools := slices.Clone(h.state.Pools)
	for range r.IntN(3) {
		if len(pools) == 0 {
			break
		}
		i := r.IntN(len(pools))
		p := &pools[i]
		if slices.ContainsFunc(c.Pools, func(o PoolChange) bool { return o.Pool.Name == p.Name }) {
			continue
		}
		before := p.Backends
		p.Backends, p.Refused = nil, max(0, r.IntN(8)-5)
		for _, n := range r.Perm(12)[:r.IntN(10)] {
			a := netip.AddrFrom4([4]byte{198, 18, 3, byte(n + 1)})
			if i%2 == 1 {
				a = ip(fmt.Sprintf("2001:db8::3:%x", n+1))
			}
			b := model.Backend{Address: a, Weight: r.IntN(3)}
			if r.IntN(3) == 0 {
				b.Name = fmt.Sprintf("name-%d", n<<r.IntN(4))
				if slices.ContainsFunc(p.Backends, func(o model.Backend) bool { return o.Name == b.Name }) {
					b.Name = ""
				}
			}
			if r.IntN(4) == 0 {
				b.MTU = 1400
			}
			switch r.IntN(6) {
			case 0:
				b.Serving.Down = true
			case 1:
				b.Serving.Withheld = r.IntN(5) * 250
			}
			p.Backends = append(p.Backends, b)
		}
		switch r.IntN(4) {
		case 0:
			p.Base = randomShares(r, i%2 == 1)
		case 1:
			p.Base = sharesOf(p.Backends)
		case 2:
			p.Base = nil
		}
		switch r.IntN(4) {
		case 0:
			p.Also = randomShares(r, i%2 == 1)
		case 1:
			p.Also = p.Base
		case 2:
			p.Also = nil
		}
		has := func(b model.Backend) bool {
			return slices.ContainsFunc(p.Backends, func(o model.Backend) bool { return o.Address == b.Address })
		}
		if other := r.IntN(len(pools)); other%2 == i%2 && r.IntN(3) == 0 {
			p.Backends = slices.Clone(pools[other].Backends) // equal pools share a table
		}
		drain := slices.DeleteFunc(slices.Clone(h.draining[p.Name]), func(b model.Backend) bool { return r.IntN(2) == 0 || has(b) })
		for _, b := range before {
			if !has(b) && r.IntN(3) > 0 {
				drain = append(drain, b)
			}
		}
		h.draining[p.Name] = drain
		c.Pools = append(c.Pools, PoolChange{Pool: *p, Draining: drain})
	}
	h.state.Pools = pools
	for name, list := range h.draining { // pools that are no more lose the rest
		if !slices.ContainsFunc(pools, func(p model.Pool) bool { return p.Name == name }) && r.IntN(3) == 0 && len(list) > 0 {
			h.draining[name] = list[:r.IntN(len(list))]
			c.Pools = append(c.Pools, PoolChange{Pool: model.Pool{Name: name}, Draining: h.draining[name]})
			break
		}
	}
	h.obs = &model.Observations{Interfaces: h.obs.Interfaces, NextHops: maps.Clone(h.obs.NextHops)}
	for range r.IntN(4) {
		a := netip.AddrFrom4([4]byte{198, 18, 3, byte(1 + r.IntN(12))})
		if r.IntN(2) == 0 {
			a = ip(fmt.Sprintf("2001:db8::3:%x", 1+r.IntN(12)))
		}
		if r.IntN(10) == 0 {
			a = ip("198.18.0.254") // a gateway
		}
		switch r.IntN(2) {
		case 0:
			if c.NextHops == nil {
				c.NextHops = make(map[netip.Addr]model.NextHop)
			}
			way := model.NextHop{Interface: []string{"a", "b", "c"}[r.IntN(3)], MAC: mac(byte(r.IntN(6))), Resolved: r.IntN(3) > 0}
			c.NextHops[a], h.obs.NextHops[a] = way, way
			c.Lost = slices.DeleteFunc(c.Lost, func(l netip.Addr) bool { return l == a })
		case 1:
			c.Lost = append(c.Lost, a)
			delete(c.NextHops, a)
			delete(h.obs.NextHops, a)
		}
	}
	return c
}

// randomShares are a base of backends that the pool may have or not.
func randomShares(r *rand.Rand, six bool) (shares []model.Share) {
	for _, n := range r.Perm(12)[:r.IntN(10)] {
		a := netip.AddrFrom4([4]byte{198, 18, 3, byte(n + 1)})
		if six {
			a = ip(fmt.Sprintf("2001:db8::3:%x", n+1))
		}
		shares = append(shares, model.Share{Endpoint: netip.AddrPortFrom(a, 0), Weight: r.IntN(3), Withheld: r.IntN(5) * 250})
	}
	return shares
}

// sharesOf are the shares that a pool's own table is made of.
func sharesOf(backends []model.Backend) (shares []model.Share) {
	for i := range backends {
		b := &backends[i]
		s := model.Share{Endpoint: b.Endpoint(), Weight: b.Weight, Withheld: b.Serving.Withheld}
		if b.Serving.Down {
			s.Withheld = maglev.FullShare
		}
		shares = append(shares, s)
	}
	return shares
}

// otherwise changes what only a compilation can.
func (h *history) otherwise() {
	next, obs := randomState(h.r)
	next.HashSeed = h.state.HashSeed
	for _, p := range h.state.Pools {
		if !slices.ContainsFunc(next.Pools, func(o model.Pool) bool { return o.Name == p.Name }) {
			h.draining[p.Name] = append(h.draining[p.Name], p.Backends...)
		}
	}
	obs.Interfaces[0].Gateway = ip("198.18.0.254")
	h.state, h.obs = next, obs
}

// step makes one change and compares.
func (h *history) step() {
	h.t.Helper()
	if h.r.IntN(40) == 0 {
		h.otherwise()
		h.compile()
		h.begin()
		h.whole++
		return
	}
	change := h.random()
	before := describe(h.images.Snapshot())
	if h.r.IntN(8) == 0 { // what is taken back leaves no trace
		if patch, err := h.live.Change(change); err == nil {
			if _, err := h.live.Change(change); !errors.Is(err, errBusy) {
				h.t.Fatalf("a second change at once: %v", err)
			}
			if _, err := h.images.Patch(patch, h.generation+1); err == nil {
				h.images.Abandon()
			}
			h.live.Rollback()
			h.refused++
		}
		if after := describe(h.images.Snapshot()); after != before {
			h.t.Fatalf("a change that was taken back has left something:\n%s", difference(after, before))
		}
	}
	if h.r.IntN(8) == 0 && len(h.state.Pools) > 0 { // an invalid one too
		bad := *change
		bad.Pools = append(slices.Clone(bad.Pools), PoolChange{Pool: model.Pool{Name: h.state.Pools[0].Name, Backends: []model.Backend{{}}}})
		if _, err := h.live.Change(&bad); err == nil {
			h.t.Fatal("a backend without an address is accepted")
		}
	}
	h.compile()
	patch, err := h.live.Change(change)
	if errors.Is(err, ErrFull) {
		h.begin()
		h.whole++
		return
	}
	if err != nil {
		h.t.Fatalf("change %+v: %v", change, err)
	}
	h.generation++
	if _, err := h.images.Patch(patch, h.generation); errors.Is(err, fib.ErrNoRoom) {
		h.live.Rollback()
		h.begin()
		h.whole++
		return
	} else if err != nil {
		h.t.Fatalf("change %+v: %v", change, err)
	}
	h.images.Commit()
	h.live.Commit()
	h.patched++
	if got, want := describe(h.images.Snapshot()), describe(h.oracle); got != want {
		h.t.Fatalf("after change %+v:\n%s", change, difference(got, want))
	}
	if got, want := h.live.Warnings(), h.full.Warnings; !sameStrings(got, want) {
		h.t.Fatalf("warnings are %q, want %q", got, want)
	}
	if unused := h.cache.Len() - len(h.live.placed); unused != 0 {
		h.t.Fatalf("%d tables are remembered that no pool has", unused)
	}
	ids := h.live.IDs().backends
	if !slices.Equal(ids.epochs, h.ids.backends.epochs) || !slices.Equal(ids.free, h.ids.backends.free) || !maps.EqualFunc(ids.pools, h.ids.backends.pools, slices.Equal) {
		h.t.Fatalf("identities are %+v, want %+v", ids, h.ids.backends)
	}
}

// sameStrings compares without order: pools that only drain come in another.
func sameStrings(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// TestLiveAgreesWithCompile takes random states through random changes: what is
// patched is what is compiled anew, with the same identities and warnings, and
// what is refused or taken back leaves no trace.
func TestLiveAgreesWithCompile(t *testing.T) {
	patched, whole, refused := 0, 0, 0
	for seed := range uint64(40) {
		h := newHistory(t, rand.New(rand.NewPCG(seed, 1)))
		for range 60 {
			h.step()
		}
		h.images.Close()
		patched, whole, refused = patched+h.patched, whole+h.whole, refused+h.refused
	}
	t.Logf("%d changes were patched, %d compiled, %d taken back", patched, whole, refused)
	if patched < 1500 || refused < 100 {
		t.Error("the changes do not reach the patches")
	}
}

// TestWayIndex compares the index with the map that it is made of.
func TestWayIndex(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	observed := make(map[netip.Addr]model.NextHop)
	some := func() netip.Addr {
		if n := r.Uint32N(40_000); n%2 == 0 {
			return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		} else {
			return ip(fmt.Sprintf("2001:db8::%x", n))
		}
	}
	for len(observed) < manyWays {
		observed[some()] = model.NextHop{Interface: "a", MAC: mac(byte(r.IntN(9))), Resolved: true}
	}
	x := indexWays(observed)
	for range 100_000 {
		a := some()
		want, there := observed[a]
		if i, ok := x.find(addr(a)); ok != there || ok && x.distinct[i] != want {
			t.Fatalf("%s is there: %v, in the index: %v", a, there, ok)
		}
	}
	delete(observed, some())
	for len(observed) >= manyWays {
		delete(observed, some())
	}
	if indexWays(observed) != nil {
		t.Error("few ways have an index")
	}
}

// FuzzLive is the same for any sequence of changes.
func FuzzLive(f *testing.F) {
	f.Add(uint64(1), uint8(20))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint8) {
		h := newHistory(t, rand.New(rand.NewPCG(seed, 2)))
		defer func() { h.images.Close() }()
		for range steps {
			h.step()
		}
	})
}
