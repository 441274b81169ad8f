package quorum

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

// oracle is what core works out, worked out anew of everything each time.
type oracle struct {
	self          string
	rules         rules
	live, drained map[string]bool
	suspected     map[string]bool
	views         map[string]map[model.BackendKey]State
	targets       map[model.BackendKey]Target
	state         map[model.BackendKey]State
	up, down      map[model.BackendKey]int
	until         map[model.BackendKey]time.Time
	mine          map[model.BackendKey]bool
}

func (o *oracle) candidates(withSelf bool) []string {
	heeded := func(n string) bool { return o.live[n] && !o.suspected[n] }
	var out []string
	for n := range o.live {
		if heeded(n) && !o.drained[n] {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		for n := range o.live {
			if heeded(n) {
				out = append(out, n)
			}
		}
	}
	if withSelf && o.suspected[o.self] && !o.drained[o.self] {
		out = append(out, o.self)
	}
	return out
}

// able are those who do not say that they cannot check a backend.
func (o *oracle) able(k model.BackendKey, nodes []string, but string) []string {
	return slices.DeleteFunc(nodes, func(n string) bool { return o.views[n][k] == Unable && n != but })
}

func (o *oracle) chosen(candidates []string, k model.BackendKey, n int) []string {
	slices.SortFunc(candidates, func(a, b string) int {
		x, y := score(nodeHash(a), IDOf(k)), score(nodeHash(b), IDOf(k))
		if x != y {
			if x > y {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	if n > 0 && n < len(candidates) {
		candidates = candidates[:n]
	}
	return candidates
}

func (o *oracle) step(now time.Time) {
	for k, t := range o.targets {
		for again := true; again; {
			again = false
			up, down, wide := 0, 0, false
			for n, views := range o.views {
				wide = wide || o.live[n] && views[k] == Down
				if !o.live[n] || o.suspected[n] {
					continue
				}
				switch views[k] {
				case Up:
					up++
				case Down:
					down++
				}
			}
			o.up[k], o.down[k] = up, down
			wanted := o.rules.checkers
			if t.Tunnel {
				wanted = o.rules.tunnelCheckers
			}
			number := wanted
			if wanted > 0 && wide && number < 3 {
				number = 3
			}
			if down == 0 {
				delete(o.until, k)
			} else if _, is := o.until[k]; !is {
				o.until[k] = now.Add(t.Patience)
			}
			awaited := 0
			if number != wanted && down > 0 && now.Before(o.until[k]) {
				for _, n := range o.chosen(o.able(k, o.candidates(false), ""), k, number) {
					if o.views[n][k] == Unknown {
						awaited++
					}
				}
			}
			// By the rule's words: what can no answer change any more?
			worst, best := verdictOf(up, down+awaited), verdictOf(up+awaited, down)
			switch {
			case up+down == 0:
			case worst == best:
				o.state[k] = worst
			case o.state[k] == Unknown:
				o.state[k] = verdictOf(up, down)
			}
			o.mine[k] = slices.Contains(o.chosen(o.able(k, o.candidates(true), o.self), k, number), o.self)
			if !o.mine[k] && o.views[o.self][k] != Unknown {
				delete(o.views[o.self], k)
				again = true
			}
		}
	}
}

func verdictOf(up, down int) State {
	if down > up {
		return Down
	}
	return Up
}

// TestCoreIsItsOracle: after any changes of members, drains, views, targets and
// suspicions, in any order, what was worked out of the changes is what everything
// together says; and what was told of the changes adds up to that.
func TestCoreIsItsOracle(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		r := rules{checkers: random.IntN(5), tunnelCheckers: random.IntN(3), grace: 10 * time.Second}
		nodes := []string{"self"}
		for i := range random.IntN(8) {
			nodes = append(nodes, fmt.Sprint("node-", i))
		}
		backends := 1 + random.IntN(30)
		c := newCore("self", r)
		o := &oracle{self: "self", rules: r, live: map[string]bool{"self": true}, drained: map[string]bool{}, suspected: map[string]bool{},
			views: map[string]map[model.BackendKey]State{}, targets: map[model.BackendKey]Target{}, state: map[model.BackendKey]State{},
			up: map[model.BackendKey]int{}, down: map[model.BackendKey]int{}, until: map[model.BackendKey]time.Time{}, mine: map[model.BackendKey]bool{}}
		for _, n := range nodes {
			o.views[n] = map[model.BackendKey]State{}
		}
		told, mine := map[model.BackendKey]State{}, map[model.BackendKey]bool{}
		now := time.Unix(1_000_000, 0)
		down := random.IntN(100) // percent of views
		for op := range 600 {
			n := nodes[random.IntN(len(nodes))]
			switch what := random.IntN(40); {
			case what == 0 && n != "self":
				o.live[n] = !o.live[n]
				c.setLive(c.voter(n), o.live[n])
			case what == 1:
				o.drained = maps.Clone(o.drained)
				o.drained[n] = !o.drained[n]
				c.setDrained(o.drained)
			case what == 2:
				var list []Target
				clear(o.targets)
				for i := range backends {
					if random.IntN(5) > 0 {
						target := Target{Key: key(i), Tunnel: i%3 == 0, Patience: 2 * time.Second}
						list, o.targets[key(i)] = append(list, target), target
					}
				}
				_, end, refused := c.setTargets(list, nil, now)
				if len(refused) > 0 {
					t.Fatalf("refused %v", refused)
				}
				for _, k := range end {
					delete(mine, k)
				}
				for i := range backends {
					if k := key(i); o.targets[k].Key != k {
						delete(o.views["self"], k)
						delete(o.state, k)
						delete(o.until, k)
						delete(o.mine, k)
						delete(told, k)
					}
				}
			case what == 3 && (n != "self" || random.IntN(4) == 0):
				o.suspected[n] = !o.suspected[n]
				c.voter(n).suspected, c.changed = o.suspected[n], true
			case what < 8:
				now = now.Add(time.Duration(random.IntN(1500)) * time.Millisecond)
			default:
				k, state := key(random.IntN(backends)), State(random.IntN(2))
				if random.IntN(100) < down {
					state = Down
				}
				if random.IntN(12) == 0 {
					state = Unable
				}
				if n == "self" && !o.mine[k] {
					continue
				}
				if state == Unknown {
					delete(o.views[n], k)
				} else {
					o.views[n][k] = state
				}
				c.say(IDOf(k), vote{voter: c.voter(n), state: state})
			}
			if random.IntN(3) > 0 {
				continue
			}
			e := c.step(now)
			o.step(now)
			for _, v := range e.verdicts {
				told[v.Key] = v.State
			}
			for _, a := range e.begin {
				if mine[a.Key] {
					t.Fatalf("seed %d, op %d: %v begins twice", seed, op, a.Key)
				}
				mine[a.Key] = true
			}
			for _, k := range e.end {
				if !mine[k] {
					t.Fatalf("seed %d, op %d: %v ends and had not begun", seed, op, k)
				}
				delete(mine, k)
			}
			for k := range o.targets {
				r := c.keys[k]
				if r == nil || r.state != o.state[k] || r.mine != o.mine[k] || r.up != o.up[k] || r.down != o.down[k] {
					t.Fatalf("seed %d, op %d, %v: core %+v; oracle: %v, mine %v, %d up, %d down", seed, op, k, r, o.state[k], o.mine[k], o.up[k], o.down[k])
				}
				if told[k] != r.state || mine[k] != r.mine {
					t.Fatalf("seed %d, op %d, %v: it was told %v, mine %v; it is %v, %v", seed, op, k, told[k], mine[k], r.state, r.mine)
				}
			}
			if len(c.keys) != len(o.targets) {
				t.Fatalf("seed %d, op %d: %d backends, want %d", seed, op, len(c.keys), len(o.targets))
			}
		}
	}
}

// TestJudge: what the numbers of views mean.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		before            State
		up, down, awaited int
		want              State
	}{
		{Unknown, 0, 0, 0, Unknown}, {Up, 0, 0, 0, Up}, {Down, 0, 0, 0, Down}, // nobody has a view: what was holds
		{Unknown, 1, 0, 0, Up}, {Up, 0, 1, 0, Down}, // one view is enough when it is the only one
		{Up, 1, 1, 0, Up}, {Down, 1, 1, 0, Up}, // a tie is no majority
		{Up, 1, 2, 0, Down}, {Down, 2, 1, 0, Up}, {Up, 2, 3, 0, Down},
		{Up, 0, 1, 2, Up}, {Down, 0, 1, 2, Down}, {Unknown, 0, 1, 2, Down}, // others have been asked to look
		{Up, 0, 2, 1, Down}, {Up, 1, 1, 1, Up}, {Down, 1, 1, 1, Down}, {Down, 2, 0, 1, Up}, {Down, 1, 0, 0, Up},
	} {
		if got := judge(c.before, c.up, c.down, c.awaited); got != c.want {
			t.Errorf("it was %v; %d up, %d down, %d awaited: %v, want %v", c.before, c.up, c.down, c.awaited, got, c.want)
		}
	}
}

// TestLittleMoves: backends are spread evenly over the nodes, and when a node comes
// or goes only those move that it gets or had.
func TestLittleMoves(t *testing.T) {
	const backends, k = 6000, 3
	var nodes []*voter
	for i := range 10 {
		n := fmt.Sprintf("node-%d", i)
		nodes = append(nodes, &voter{name: n, hash: nodeHash(n)})
	}
	share := map[string]int{}
	for i := range backends {
		id := IDOf(key(i))
		with := slices.Clone(pick(nodes, id, k, nil))
		without := pick(nodes[:9], id, k, nil)
		for _, n := range with {
			share[n.name]++
			if n != nodes[9] && !slices.Contains(without, n) {
				t.Fatalf("backend %d moved from %s, which stayed", i, n.name)
			}
		}
		if !slices.Contains(with, nodes[9]) && !slices.Equal(with, without) {
			t.Fatalf("backend %d moved although the node that went did not check it", i)
		}
		slices.SortFunc(with, func(a, b *voter) int { return strings.Compare(a.name, b.name) })
		if len(slices.Compact(with)) != k {
			t.Fatalf("backend %d is checked by %d nodes", i, len(with))
		}
	}
	for n, has := range share {
		if even := backends * k / len(nodes); has < even*9/10 || has > even*11/10 {
			t.Errorf("%s checks %d backends, want about %d", n, has, even)
		}
	}
}

// TestIDs: they are part of the wire format and stay what they are. These were worked
// out by another program.
func TestIDs(t *testing.T) {
	for want, k := range map[ID]model.BackendKey{
		0xece677062a57669f: key(0),
		0xc3935226d66acf9b: {Pool: "web", Endpoint: netip.MustParseAddrPort("[2001:db8::1]:443")},
		0xaa07b747cb902631: {Pool: "dns", Endpoint: netip.MustParseAddrPort("192.0.2.9:0")},
	} {
		if IDOf(k) != want {
			t.Errorf("%v: %#x, want %#x", k, IDOf(k), want)
		}
	}
	seen := map[ID]bool{}
	for i := range 50000 {
		seen[IDOf(key(i))] = true
	}
	if len(seen) != 50000 {
		t.Errorf("%d IDs of 50000 backends", len(seen))
	}
}
