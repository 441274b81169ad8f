package ledger

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"fairlead/k8ssync/kube"
)

// oracle is a second, slow ledger's worth of knowledge: every address of the pools is
// in a list. It says what may be and what has to be, and not which address is chosen.
type oracle struct {
	pools []kube.AddressPool
	// owner is the pool that gives an address out: the first by name that lists it.
	owner map[netip.Addr]int
}

func newOracle(pools []kube.AddressPool) *oracle {
	o := &oracle{pools: slices.Clone(pools), owner: map[netip.Addr]int{}}
	slices.SortFunc(o.pools, func(a, b kube.AddressPool) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	for i, p := range o.pools {
		for _, r := range p.Ranges {
			for a := r.First; a.IsValid() && !r.Last.Less(a); a = a.Next() {
				if _, taken := o.owner[a]; !taken {
					o.owner[a] = i
				}
			}
		}
	}
	// Who lists an address first has it, even if it does not give it out.
	for a, i := range o.owner {
		if o.pools[i].AvoidBuggy && a.Is4() && (a.As4()[3] == 0 || a.As4()[3] == 255) {
			delete(o.owner, a)
		}
	}
	return o
}

// may is whether a pool is for an object; selectors are "a=b" here.
func (o *oracle) may(p kube.AddressPool, r Request) bool {
	selects := func(selector string, labels map[string]string) bool {
		return selector == "" || labels[selector[:1]] == selector[2:]
	}
	return (len(p.Namespaces) == 0 || slices.Contains(p.Namespaces, r.Key.Namespace)) &&
		selects(p.NamespaceSelector, r.NamespaceLabels) && selects(p.ServiceSelector, r.Labels)
}

// share is whether two holders may have one address.
func share(a, b Holder) bool {
	if a.SharingKey == "" || a.SharingKey != b.SharingKey {
		return false
	}
	allows := func(h Holder, namespace string) bool {
		return namespace == h.Key.Namespace || slices.Contains(h.SharingNamespaces, namespace) || slices.Contains(h.SharingNamespaces, "*")
	}
	if !allows(a, b.Key.Namespace) || !allows(b, a.Key.Namespace) {
		return false
	}
	for _, p := range a.Ports {
		for _, q := range b.Ports {
			if p == q {
				return false
			}
		}
	}
	return true
}

// game is a ledger that is played with, and what its objects' statuses say.
type game struct {
	t      *testing.T
	pick   func(n int) int
	oracle *oracle
	ledger *Ledger
	wishes map[kube.Key]Request // with Held as in the status
	steps  []string             // what was done
}

func (g *game) fail(format string, args ...any) {
	g.t.Helper()
	for _, s := range g.steps {
		g.t.Log(s)
	}
	g.t.Fatalf(format, args...)
}

func (g *game) chance(percent int) bool { return g.pick(100) < percent }

// randomPools are one to four pools, which overlap now and then.
func (g *game) randomPools() []kube.AddressPool {
	var all []kube.AddressPool
	for i := range 1 + g.pick(4) {
		p := kube.AddressPool{
			Name: string(rune('a' + i)), AutoAssign: !g.chance(20), AvoidBuggy: g.chance(30), Priority: g.pick(3),
		}
		for range 1 + g.pick(2) {
			base := [4]byte{192, 0, 2, byte(248 + g.pick(7))}
			first := netip.AddrFrom4(base)
			if g.chance(35) {
				first = netip.MustParseAddr("2001:db8::").Next()
				for range g.pick(5) {
					first = first.Next()
				}
			}
			last := first
			for range g.pick(7) {
				last = last.Next()
			}
			p.Ranges = append(p.Ranges, kube.Range{First: first, Last: last})
		}
		if g.chance(15) {
			p.Namespaces = []string{"x"}
		}
		if g.chance(15) {
			p.NamespaceSelector = "n=1"
		}
		if g.chance(15) {
			p.ServiceSelector = "s=1"
		}
		all = append(all, p)
	}
	return all
}

// address is one of those that pools may have.
func (g *game) address() netip.Addr {
	a := netip.MustParseAddr("192.0.2.246")
	if g.chance(35) {
		a = netip.MustParseAddr("2001:db8::")
	}
	for range g.pick(16) {
		a = a.Next()
	}
	return a
}

func (g *game) key() kube.Key {
	kind := kube.Service
	if g.chance(10) {
		kind = kube.Gateway
	}
	return kube.Key{Kind: kind, Namespace: []string{"x", "y"}[g.pick(2)], Name: string(rune('k' + g.pick(6)))}
}

// wish is what an object asks for; sometimes much like it has asked before.
func (g *game) wish(key kube.Key) Request {
	r, known := g.wishes[key]
	if known && g.chance(50) {
		return r
	}
	held := r.Held
	r = Request{Key: key, Held: held, Ports: []Port{{"TCP", uint16(80 + g.pick(3))}}}
	r.Families = [][]Family{{IPv4}, {IPv4}, {IPv6}, {IPv4, IPv6}, {IPv6, IPv4}}[g.pick(5)]
	r.Required = len(r.Families) > 1 && g.chance(50)
	r.One = len(r.Families) > 1 && !r.Required && g.chance(30)
	if g.chance(30) {
		r.Options.Addresses = []netip.Addr{g.address()}
	}
	if g.chance(20) {
		r.Options.Pool = string(rune('a' + g.pick(5)))
	}
	if g.chance(50) {
		r.Options.SharingKey = []string{"s", "t"}[g.pick(2)]
	}
	r.Options.SharingNamespace = [][]string{nil, {"x"}, {"y"}, {"*"}}[g.pick(4)]
	r.Options.Retain, r.Options.Hold = g.chance(20), g.chance(5)
	r.NamespaceLabels = map[string]string{"n": fmt.Sprint(g.pick(2))}
	r.Labels = map[string]string{"s": fmt.Sprint(g.pick(2))}
	return r
}

func (g *game) step() {
	switch n := g.pick(100); {
	case n < 60:
		r := g.wish(g.key())
		g.assign(r)
	case n < 75:
		// The object is gone.
		key := g.key()
		g.steps = append(g.steps, fmt.Sprint("release ", key))
		g.ledger.Release(key)
		delete(g.wishes, key)
	case n < 85:
		// It has left what it was to leave.
		key := g.key()
		if r, ok := g.wishes[key]; ok && len(r.Held) > 0 {
			g.steps = append(g.steps, fmt.Sprint("release ", key, " but ", r.Held))
			g.ledger.Release(key, r.Held...)
		}
	case n < 90:
		// An operator reserves a free address, or gives one back.
		a := g.address()
		r, there := g.ledger.Reservation(a)
		switch {
		case !there:
			r = Reservation{Address: a}
			if g.chance(50) {
				key := g.key()
				r.For = &key
			}
			g.steps = append(g.steps, fmt.Sprint("reserve ", a, " ", r.For))
			g.ledger.Record(r)
		case len(r.Holders) == 0:
			g.steps = append(g.steps, fmt.Sprint("unreserve ", a))
			g.ledger.Erase(a)
		}
	case n < 94:
		pools := g.randomPools()
		g.steps = append(g.steps, fmt.Sprint("pools ", pools))
		g.oracle = newOracle(pools)
		g.ledger.SetPools(pools)
	default:
		g.restart()
	}
	g.check()
}

// restart has another ledger begin with what is recorded, in two orders.
func (g *game) restart() {
	g.steps = append(g.steps, "restart")
	var requests []Request
	for _, r := range g.wishes {
		requests = append(requests, r)
	}
	before := g.ledger.Reservations()
	var after [2]*Ledger
	for i := range after {
		after[i] = New(g.oracle.pools)
		for _, r := range before {
			after[i].Record(r)
		}
		slices.SortFunc(requests, func(a, b Request) int { return a.Key.Compare(b.Key) * (1 - 2*i) })
		after[i].Adopt(requests)
	}
	if a, b := after[0].Reservations(), after[1].Reservations(); !reflect.DeepEqual(a, b) {
		g.fail("the order of adoption matters:\n%v\n%v", a, b)
	}
	// What a status says is still held, and nothing was taken from anybody.
	for key := range g.wishes {
		if was, is := g.ledger.Holds(key), after[0].Holds(key); !slices.Equal(was, is) {
			g.fail("%s has held %v, and holds %v after a restart", key, was, is)
		}
	}
	g.ledger = after[0]
}

func (g *game) assign(r Request) {
	before := g.ledger.Reservations()
	recorded := g.ledger.Holds(r.Key)
	d := g.ledger.Assign(r)
	g.steps = append(g.steps, fmt.Sprintf("assign %+v: %s", r, d.says()))
	for _, a := range d.Addresses {
		if !slices.Contains(r.Families, FamilyOf(a)) {
			g.fail("%s of a family that it has not asked for", a)
		}
		if slices.Contains(r.Held, a) || slices.Contains(recorded, a) {
			continue
		}
		g.checkNew(r, a, before)
	}
	for i, a := range d.Addresses {
		for _, b := range d.Addresses[:i] {
			if a.Is4() == b.Is4() {
				g.fail("two addresses of one family")
			}
		}
	}
	g.checkKept(r, d, before)
	g.checkMissing(r, d, before)
	r.Held = d.Addresses
	g.wishes[r.Key] = r
}

// checkNew: what is newly assigned is of a pool that may give it, is not reserved for
// others, and is shared only with those that share.
func (g *game) checkNew(r Request, a netip.Addr, before []Reservation) {
	if why := g.forbidden(r, a, before); why != "" {
		g.fail("%s is assigned to %s: %s", a, r.Key, why)
	}
	p := g.oracle.pools[g.oracle.owner[a]]
	asked := slices.Contains(r.Options.Addresses, a) || r.Options.Pool == p.Name
	if !asked && !p.AutoAssign {
		kept := slices.ContainsFunc(before, func(o Reservation) bool { return o.Address == a && o.For != nil && *o.For == r.Key })
		if !kept {
			g.fail("%s is of a pool that has to be named", a)
		}
	}
	if r.Options.Hold {
		g.fail("a request that holds has got %s", a)
	}
}

// forbidden is why an object must not be given an address; "" if it may.
func (g *game) forbidden(r Request, a netip.Addr, before []Reservation) string {
	i, ok := g.oracle.owner[a]
	if !ok {
		return "no pool has it"
	}
	p := g.oracle.pools[i]
	if !g.oracle.may(p, r) {
		return "the pool is not for it"
	}
	if r.Options.Pool != "" && r.Options.Pool != p.Name {
		return "another pool was asked for"
	}
	for _, o := range before {
		if o.Address != a {
			continue
		}
		if len(o.Holders) == 0 && (o.For == nil || *o.For != r.Key) {
			return "it is reserved"
		}
		for _, h := range o.Holders {
			if h.Key != r.Key && !share(r.holder(), h) {
				return fmt.Sprintf("%s holds it", h.Key)
			}
		}
	}
	return ""
}

// checkKept: what a status says stays, unless the object asks for something else, or
// does not share well.
func (g *game) checkKept(r Request, d Decision, before []Reservation) {
	for _, a := range r.Held {
		if slices.Contains(d.Addresses, a) || !slices.Contains(r.Families, FamilyOf(a)) || r.One {
			continue
		}
		other := slices.ContainsFunc(d.Addresses, func(b netip.Addr) bool {
			return b.Is4() == a.Is4() && (slices.Contains(r.Options.Addresses, b) || r.Options.Pool != "")
		})
		if other {
			continue
		}
		shares := true
		for _, o := range before {
			for _, h := range o.Holders {
				if o.Address == a && h.Key != r.Key && !share(r.holder(), h) {
					shares = false
				}
			}
		}
		if shares {
			g.fail("%s has lost %s for nothing", r.Key, a)
		}
	}
}

// checkMissing: nothing is refused that could be had.
func (g *game) checkMissing(r Request, d Decision, before []Reservation) {
	if r.Options.Hold || r.One || r.Required {
		return
	}
	for _, f := range r.Families {
		if slices.ContainsFunc(d.Addresses, func(a netip.Addr) bool { return FamilyOf(a) == f }) {
			continue
		}
		asked := slices.IndexFunc(r.Options.Addresses, func(a netip.Addr) bool { return FamilyOf(a) == f })
		for a, i := range g.oracle.owner {
			if FamilyOf(a) != f || asked >= 0 && a != r.Options.Addresses[asked] {
				continue
			}
			if p := g.oracle.pools[i]; asked < 0 && r.Options.Pool == "" && !p.AutoAssign {
				continue
			}
			if g.forbidden(r, a, before) == "" {
				g.fail("%s could have %s and has no %s address", r.Key, a, f)
			}
		}
		if len(d.Refusals) == 0 && len(d.Addresses) == 0 {
			g.fail("%s has got nothing and no reason", r.Key)
		}
	}
}

// check looks at the whole ledger.
func (g *game) check() {
	used := map[int]map[Family][2]int64{}
	for i := range g.oracle.pools {
		used[i] = map[Family][2]int64{}
	}
	for _, r := range g.ledger.Reservations() {
		for i, h := range r.Holders {
			for _, other := range r.Holders[:i] {
				if !share(h, other) {
					g.fail("%s has two owners: %s and %s", r.Address, h.Key, other.Key)
				}
			}
			if !slices.Contains(g.ledger.Holds(h.Key), r.Address) {
				g.fail("%s does not hold %s", h.Key, r.Address)
			}
		}
		if len(r.Holders) == 0 && r.Retained && r.For == nil {
			g.fail("%s is retained for nobody", r.Address)
		}
		if i, ok := g.oracle.owner[r.Address]; ok {
			n := used[i][FamilyOf(r.Address)]
			if len(r.Holders) > 0 {
				n[0]++
			} else {
				n[1]++
			}
			used[i][FamilyOf(r.Address)] = n
		}
	}
	for key, r := range g.wishes {
		for _, a := range r.Held {
			if !slices.Contains(g.ledger.Holds(key), a) {
				g.fail("the status of %s says %s, which it does not hold", key, a)
			}
		}
	}
	for i, s := range g.ledger.Pools() {
		total := map[Family]int64{}
		for a, owner := range g.oracle.owner {
			if owner == i {
				total[FamilyOf(a)]++
			}
		}
		for f, c := range map[Family]*Counts{IPv4: s.IPv4, IPv6: s.IPv6} {
			if c == nil {
				if total[f] > 0 {
					g.fail("pool %s has %s addresses", s.Name, f)
				}
				continue
			}
			want := Counts{Total: total[f], Assigned: used[i][f][0], Reserved: used[i][f][1]}
			want.Free = want.Total - want.Assigned - want.Reserved
			if *c != want {
				g.fail("pool %s has %+v of %s, and should have %+v", s.Name, *c, f, want)
			}
		}
	}
}

func play(t *testing.T, steps int, pick func(n int) int) {
	g := &game{t: t, pick: pick, wishes: map[kube.Key]Request{}}
	pools := g.randomPools()
	g.steps = append(g.steps, fmt.Sprint("pools ", pools))
	g.oracle, g.ledger = newOracle(pools), New(pools)
	for range steps {
		g.step()
	}
}

// TestLedgerAgainstOracle plays random games.
func TestLedgerAgainstOracle(t *testing.T) {
	for seed := range uint64(250) {
		random := rand.New(rand.NewPCG(seed, 1))
		play(t, 100, random.IntN)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// FuzzLedger plays games that the fuzzer finds.
func FuzzLedger(f *testing.F) {
	f.Add([]byte("0123456789 a ledger says who holds what"))
	f.Fuzz(func(t *testing.T, moves []byte) {
		at := 0
		pick := func(n int) int {
			if at >= len(moves) {
				return 0
			}
			at++
			return int(moves[at-1]) % n
		}
		play(t, min(len(moves)/4, 60), pick)
	})
}
