package quorum

import (
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/controlplane/model"
)

// TestWorld: three nodes check a part each, and come to the same verdicts: when one
// of them sees nothing, when two do, when one dies, is drained, comes back.
func TestWorld(t *testing.T) {
	l := newLab(t, 60, Config{Checkers: 1, Grace: 200 * time.Millisecond}, "a", "b", "c")
	l.world.Delay(0, 5*time.Millisecond)
	l.everywhere("all are up", 60, 0)
	l.probers(1)

	blind := func(nodes ...string) func(string, model.BackendKey) State {
		return func(node string, _ model.BackendKey) State {
			if slices.Contains(nodes, node) {
				return Down
			}
			return Up
		}
	}
	l.see(blind("c"))
	eventually(t, "c is suspected by all, itself too", func() bool {
		for _, n := range l.all() {
			if s := n.q.Status(); !s.Nodes[2].Suspected || s.Nodes[2].Missed == 0 || s.Nodes[2].Differ != s.Nodes[2].Compared {
				return false
			}
		}
		return true
	})
	eventually(t, "c knows that it is unfit", func() bool { return strings.Contains(l.nodes["c"].q.Unfit(), "this node cannot reach") })
	l.everywhere("nothing is down", 60, 0)
	if v, views, ok := l.nodes["a"].q.Backend(key(3)); !ok || v.State != Up || v.Up < 1 || v.Down != 0 || len(views) == 0 {
		t.Errorf("backend: %+v, %+v", v, views)
	}
	l.see(blind())
	eventually(t, "c is trusted again", func() bool {
		return !l.nodes["a"].q.Status().Nodes[2].Suspected && !l.nodes["c"].q.Status().Nodes[2].Suspected && l.nodes["c"].q.Unfit() == ""
	})
	l.probers(1)

	odd := func(_ string, k model.BackendKey) State {
		if k.Endpoint.Addr().As4()[3]%2 == 1 {
			return Down
		}
		return Up
	}
	l.see(odd)
	l.everywhere("half of them is down", 30, 30)
	l.see(blind())
	l.everywhere("all are up again", 60, 0)

	// One dies: the others check what it has checked, and nothing is down.
	l.world.Kill("b")
	l.probers(1, "a", "c")
	l.everywhere("all are up", 60, 0, "a", "c")
	l.see(odd)
	l.everywhere("half of them is down", 30, 30, "a", "c")
	l.world.Start("b")
	l.everywhere("b knows it, too", 30, 30)
	l.see(blind())
	l.everywhere("all are up again", 60, 0)

	if err := l.world.Node("a").Store().Put(cluster.DrainPrefix+"c", nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the drained node checks nothing", func() bool { return l.nodes["c"].checked() == 0 })
	l.probers(1, "a", "b")
	l.see(odd)
	l.everywhere("half of them is down, on the drained node too", 30, 30)
	if err := l.world.Node("b").Store().Delete(cluster.DrainPrefix + "c"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "c checks again", func() bool { return l.nodes["c"].checked() > 0 })
	if got := l.nodes["a"].q.Status(); len(got.Nodes) != 3 || got.Backends != 60 || !got.Nodes[0].Self || !got.Nodes[2].Checks || got.Stats.Refused != 0 {
		t.Errorf("status %+v", got)
	}
}

// TestTwoOfThree: a backend that one of three nodes cannot reach is up everywhere,
// one that two cannot reach is down everywhere.
func TestTwoOfThree(t *testing.T) {
	l := newLab(t, 10, Config{Checkers: 3}, "a", "b", "c")
	l.everywhere("all are up", 10, 0)
	cut := func(nodes string) func(string, model.BackendKey) State {
		return func(node string, k model.BackendKey) State {
			if k == key(4) && strings.Contains(nodes, node) {
				return Down
			}
			return Up
		}
	}
	l.see(cut("b"))
	eventually(t, "b is seen to miss one backend", func() bool {
		for _, n := range l.all() {
			if s := n.q.Status(); s.Nodes[1].Missed != 1 || !slices.Equal(s.Nodes[1].Examples, []model.BackendKey{key(4)}) {
				return false
			}
		}
		return true
	})
	l.everywhere("all are up", 10, 0)
	l.see(cut("bc"))
	l.everywhere("one is down", 9, 1)
	v, views, _ := l.nodes["a"].q.Backend(key(4))
	if v.State != Down || v.Up != 1 || v.Down != 2 || v.Reason != "no answer in time (found by b)" || len(views) != 3 || views[0].State != Up || views[2].Reason != "no answer in time" {
		t.Errorf("%+v %+v", v, views)
	}
	l.see(cut("c"))
	l.everywhere("it is up again", 10, 0)
}

// TestPartition: each side goes by what its own nodes see, and when they meet again
// they agree.
func TestPartition(t *testing.T) {
	l := newLab(t, 20, Config{Checkers: 3}, "a", "b", "c", "d", "e")
	l.everywhere("all are up", 20, 0)
	l.world.Part([]string{"a", "b"})
	sees := func(node string, k model.BackendKey) State {
		if node < "c" && k.Endpoint.Addr().As4()[3] < 5 {
			return Down
		}
		return Up
	}
	l.see(sees)
	l.everywhere("the smaller side misses some", 15, 5, "a", "b")
	l.everywhere("the greater does not", 20, 0, "c", "d", "e")
	l.world.Heal()
	l.probers(3)
	eventually(t, "all agree", func() bool {
		for _, one := range l.targets {
			want, _, _ := l.nodes["c"].q.Backend(one.Key)
			for _, n := range l.all() {
				if got, _, _ := n.q.Backend(one.Key); got.State != want.State || got.Up != want.Up || got.Down != want.Down {
					return false
				}
			}
		}
		return true
	})
}

// TestLostMessages: what is lost, or cannot be sent at once, arrives in the end.
func TestLostMessages(t *testing.T) {
	l := newLab(t, 200, Config{Checkers: 2}, "a", "b", "c", "d")
	for _, n := range l.all() {
		n.lose.set(25, 25)
	}
	l.world.Delay(0, 10*time.Millisecond)
	for turn := range 6 {
		l.see(func(_ string, k model.BackendKey) State {
			if int(k.Endpoint.Addr().As4()[3])%6 == turn {
				return Down
			}
			return Up
		})
	}
	l.everywhere("the last state", 200-33, 33)
	var asked, wholes uint64
	for _, n := range l.all() {
		n.lose.set(0, 0)
		s := n.q.Status().Stats
		asked, wholes = asked+s.Asked, wholes+s.Wholes
	}
	if wholes == 0 {
		t.Errorf("asked %d times, told all %d times: nothing was lost", asked, wholes)
	}
}

// TestOthersSoftware: nodes that do not speak of health are not counted on to check,
// and messages of later versions are ignored and counted.
func TestOthersSoftware(t *testing.T) {
	l := newLab(t, 20, Config{Checkers: 1}, "a", "b")
	old := l.world.Add("old")
	l.probers(1)
	eventually(t, "a knows all", func() bool { return len(l.nodes["a"].q.Status().Nodes) == 3 })
	if s := l.nodes["a"].q.Status(); s.Nodes[2].Live || s.Nodes[2].Checks {
		t.Errorf("%+v", s.Nodes[2])
	}
	for _, bad := range []string{"", "\x02later", "\x01\x05", strings.Repeat("\xff", 1000)} {
		if err := old.Peers().Send("a", topic, []byte(bad)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "they are counted", func() bool { return l.nodes["a"].q.Status().Stats.Refused == 4 })
	l.everywhere("all are up", 20, 0)
}

// TestUnable: what a node cannot check, others check; it goes on trying, and checks
// again when it can.
func TestUnable(t *testing.T) {
	l := newLab(t, 30, Config{Checkers: 1}, "a", "b", "c")
	l.everywhere("all are up", 30, 0)
	l.probers(1)
	had := l.nodes["a"].checked()
	l.see(func(node string, _ model.BackendKey) State {
		if node == "a" {
			return Unable
		}
		return Up
	})
	l.probers(1, "b", "c")
	eventually(t, "all know that a cannot, and nothing is down", func() bool {
		for _, n := range l.all() {
			s := n.q.Status()
			if s.Nodes[0].Unable != had || s.Nodes[0].Up != 0 || s.Nodes[0].Suspected || n.count(Up) != 30 || n.q.Unfit() != "" {
				return false
			}
		}
		return true
	})
	// A backend that dies is found by those that can.
	l.see(func(node string, k model.BackendKey) State {
		switch {
		case node == "a":
			return Unable
		case k == key(5):
			return Down
		}
		return Up
	})
	l.everywhere("one is down", 29, 1)
	l.see(func(string, model.BackendKey) State { return Up })
	l.everywhere("all are up", 30, 0)
	l.probers(1)
	if got := l.nodes["a"].checked(); got != had {
		t.Errorf("a checks %d backends, want %d again", got, had)
	}
}

// TestHandover: who takes over begins with the verdict that holds, and until it has
// one of its own nothing changes.
func TestHandover(t *testing.T) {
	l := newLab(t, 40, Config{Checkers: 1}, "a", "b")
	down := func(_ string, k model.BackendKey) State {
		if k.Endpoint.Addr().As4()[3] < 10 {
			return Down
		}
		return Up
	}
	l.see(down)
	l.everywhere("ten are down", 30, 10)
	a := l.nodes["a"]
	a.mu.Lock()
	before := a.verdicts
	a.verdicts = map[model.BackendKey]State{}
	a.mu.Unlock()
	l.mu.Lock()
	l.sees = func(string, model.BackendKey) State { return Unknown } // checks take their time
	l.mu.Unlock()
	l.world.Kill("b")
	l.probers(1, "a")
	for _, one := range l.targets {
		if v, _, _ := a.q.Backend(one.Key); v.State != before[one.Key] {
			t.Errorf("%v is %v, and was %v", one.Key, v.State, before[one.Key])
		}
	}
	a.mu.Lock()
	verdicts := len(a.verdicts)
	a.mu.Unlock()
	if verdicts != 0 {
		t.Errorf("%d verdicts changed", verdicts)
	}
}

func TestBadConfig(t *testing.T) {
	if _, err := New(Config{}); err == nil || err.Error() != "quorum: Members, Peers, Store, Assign, Report and Log are needed" {
		t.Error(err)
	}
}
