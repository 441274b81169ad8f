package quorum

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// nodesSee makes a core of nodes with views: see gives what a node finds.
func nodesSee(nodes, backends, checkers int, see func(node, backend int) State) *core {
	c := newCore("node-0", rules{checkers: checkers, tunnelCheckers: checkers, grace: 10 * time.Second})
	var targets []Target
	for i := range backends {
		targets = append(targets, Target{Key: key(i), Patience: time.Second})
	}
	c.setTargets(targets, nil, start)
	for n := range nodes {
		c.setLive(c.voter(fmt.Sprint("node-", n)), true)
	}
	observe(c, nodes, backends, see)
	return c
}

var start = time.Unix(1_000_000, 0)

// observe gives the nodes the views that they come to: those of the backends that
// they are to check. What is assigned depends on the views, so it takes some turns.
func observe(c *core, nodes, backends int, see func(node, backend int) State) {
	for range 5 {
		c.changed = true
		c.step(start)
		for b := range backends {
			r := c.keys[key(b)]
			wide := checkers(c.cfg.checkers, r.wide)
			for n := range nodes {
				v := c.voter(fmt.Sprint("node-", n))
				among := append([]*voter(nil), c.candidates...)
				if v.suspected {
					among = append(among, v)
				}
				state := Unknown
				for _, chosen := range pick(among, r.id, wide, nil) {
					if chosen == v {
						state = see(n, b)
					}
				}
				if v == c.self && !r.mine {
					state = Unknown
				}
				c.say(r.id, vote{voter: v, state: state})
			}
		}
	}
	c.step(start)
}

// suspects are the nodes that are suspected after a time.
func suspects(c *core, after time.Duration) (list []int) {
	c.compare(start)
	c.compare(start.Add(after))
	c.step(start.Add(after))
	for n := range len(c.voters) {
		if c.voter(fmt.Sprint("node-", n)).suspected {
			list = append(list, n)
		}
	}
	return list
}

// TestSuspicion: who is suspected of what.
func TestSuspicion(t *testing.T) {
	truly := func(down func(backend int) bool, liars map[int]func(State) State) func(int, int) State {
		return func(n, b int) State {
			state := Up
			if down(b) {
				state = Down
			}
			if lie := liars[n]; lie != nil {
				state = lie(state)
			}
			return state
		}
	}
	none := func(int) bool { return false }
	odd := func(b int) bool { return b%2 == 1 }
	all := func(int) bool { return true }
	blind := func(State) State { return Down }
	inverse := func(s State) State {
		if s == Up {
			return Down
		}
		return Up
	}
	for _, c := range []struct {
		name                      string
		nodes, backends, checkers int
		see                       func(int, int) State
		want                      []int
	}{
		{"all agree", 3, 20, 3, truly(none, nil), nil},
		{"half of the backends are down", 3, 20, 3, truly(odd, nil), nil},
		{"all are down", 3, 20, 3, truly(all, nil), nil},
		{"one sees nothing", 3, 20, 3, truly(none, map[int]func(State) State{2: blind}), []int{2}},
		{"this node sees nothing", 3, 20, 3, truly(none, map[int]func(State) State{0: blind}), []int{0}},
		{"one sees nothing, half is down indeed", 3, 20, 3, truly(odd, map[int]func(State) State{1: blind}), []int{1}},
		{"one sees the opposite", 3, 20, 3, truly(odd, map[int]func(State) State{1: inverse}), []int{1}},
		{"one sees nothing, and it is so", 3, 20, 3, truly(all, map[int]func(State) State{1: blind}), nil},
		{"two of three see nothing", 3, 20, 3, truly(none, map[int]func(State) State{1: blind, 2: blind}), []int{0}},
		{"one of two", 2, 20, 3, truly(none, map[int]func(State) State{1: blind}), nil},
		{"two of four", 4, 20, 0, truly(none, map[int]func(State) State{1: blind, 2: blind}), nil},
		{"two of five, three of which check", 5, 200, 3, truly(none, map[int]func(State) State{1: blind, 2: blind}), []int{1, 2}},
		{"two of five, all of which check", 5, 20, 0, truly(none, map[int]func(State) State{1: blind, 2: blind}), []int{1, 2}},
		{"one of five, one of which checks", 5, 200, 1, truly(none, map[int]func(State) State{3: blind}), []int{3}},
		{"one of ten, two of which check", 10, 400, 2, truly(odd, map[int]func(State) State{7: blind}), []int{7}},
		{"one backend of many", 3, 20, 3, func(n, b int) State {
			if n == 1 && b == 7 {
				return Down
			}
			return Up
		}, nil},
		{"the only backend", 3, 1, 3, truly(none, map[int]func(State) State{1: blind}), []int{1}},
	} {
		core := nodesSee(c.nodes, c.backends, c.checkers, c.see)
		if got := suspects(core, 9*time.Second); len(got) > 0 {
			t.Errorf("%s: suspected too early: %v", c.name, got)
		}
		core = nodesSee(c.nodes, c.backends, c.checkers, c.see)
		if got := suspects(core, 10*time.Second); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: suspected %v, want %v", c.name, got, c.want)
		}
	}
}

// TestBlindNodes: less than a third of the nodes, which see nothing, take down no
// backend that is up, whatever the rest is, and however few check each.
func TestBlindNodes(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 2))
		nodes := 3 + random.IntN(8)
		blind := map[int]bool{}
		for range random.IntN((nodes-1)/3 + 1) {
			blind[random.IntN(nodes)] = true
		}
		checkers, backends := random.IntN(4), 40+random.IntN(100)
		down := map[int]bool{}
		for range random.IntN(backends) {
			down[random.IntN(backends)] = true
		}
		see := func(n, b int) State {
			if blind[n] || down[b] {
				return Down
			}
			return Up
		}
		c := nodesSee(nodes, backends, checkers, see)
		for i := range 4 { // who is suspected is looked at again when others check in its place
			now := start.Add(time.Duration(i) * 15 * time.Second)
			c.compare(now)
			c.compare(now.Add(10 * time.Second))
			observe(c, nodes, backends, see)
		}
		wrong := 0
		for b := range backends {
			want := Up
			if down[b] {
				want = Down
			}
			if r := c.keys[key(b)]; r.state != want {
				wrong++
			}
		}
		up := backends - len(down)
		if wrong > 0 && up > 12 {
			t.Errorf("seed %d: %d nodes, %v blind, %d check each, %d of %d backends down: %d wrong verdicts", seed, nodes, blind, checkers, len(down), backends, wrong)
		}
	}
}

// TestTrustReturns: a node that sees again is trusted again, once that has lasted.
func TestTrustReturns(t *testing.T) {
	sees := false
	see := func(n, _ int) State {
		if n == 2 && !sees {
			return Down
		}
		return Up
	}
	c := nodesSee(4, 40, 1, see)
	if got := suspects(c, 10*time.Second); fmt.Sprint(got) != "[2]" {
		t.Fatalf("suspected %v", got)
	}
	sees = true
	observe(c, 4, 40, see)
	if got := suspects(c, 9*time.Second); fmt.Sprint(got) != "[2]" {
		t.Fatalf("trusted too early: %v", got)
	}
	if got := suspects(c, 10*time.Second); len(got) != 0 {
		t.Fatalf("still suspected: %v", got)
	}
}
