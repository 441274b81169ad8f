package owner

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"fairlead/cluster/clustertest"
)

// rig is a cluster of rooms in memory.
type rig struct {
	t     *testing.T
	world *clustertest.World
	hold  time.Duration
	vips  []netip.Addr

	mu    sync.Mutex
	rooms map[string]*seat
}

// seat is one node's room, and what it has told.
type seat struct {
	*Room
	mu      sync.Mutex
	renewed int
	drained []bool
	owned   map[netip.Addr]bool // when last told
}

var front = []netip.Prefix{netip.MustParsePrefix("198.18.0.0/16"), netip.MustParsePrefix("2001:db8::/64")}

var fine = Fitness{Forwards: true, Networks: front}

func newRig(t *testing.T, hold time.Duration, names ...string) *rig {
	t.Helper()
	r := &rig{t: t, world: clustertest.New(t, names...), hold: hold, rooms: map[string]*seat{}}
	for i := range 60 {
		r.vips = append(r.vips, addr4(i), netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", 0x100+i)))
	}
	t.Cleanup(func() {
		for _, s := range r.rooms {
			s.Close()
		}
	})
	for _, name := range names {
		r.open(name, func(c *Config) { c.Settled = true }) // as if they had been there before
	}
	return r
}

func (r *rig) open(name string, change func(*Config)) *seat {
	r.t.Helper()
	n := r.world.Node(name)
	s := &seat{}
	cfg := Config{
		Members: n.Members(), Peers: n.Peers(), Store: n.Store(), HoldDown: r.hold,
		Changed: func(renew bool) { s.changed(name, renew) },
		Drained: func(d bool) { s.mu.Lock(); s.drained = append(s.drained, d); s.mu.Unlock() },
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if s.Room, err = New(cfg); err != nil {
		r.t.Fatal(err)
	}
	s.SetVIPs(r.vips)
	s.SetFitness(fine)
	r.mu.Lock()
	r.rooms[name] = s
	r.mu.Unlock()
	s.Start()
	return s
}

func (s *seat) changed(self string, renew bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if renew {
		s.renewed++
	}
	now := make(map[netip.Addr]bool)
	for v, owner := range s.Owners() {
		if owner == self {
			now[v] = true
		}
	}
	s.owned = now
}

// kill ends a node without a word.
func (r *rig) kill(name string) {
	r.rooms[name].Close()
	delete(r.rooms, name)
	r.world.Kill(name)
}

func (r *rig) start(name string) *seat {
	r.world.Start(name)
	return r.open(name, nil)
}

// owners are the nodes among some that answer for a VIP.
func (r *rig) owners(vip netip.Addr, among ...string) (list []string) {
	for name, s := range r.rooms {
		if s.Owns(vip) && (len(among) == 0 || contains(among, name)) {
			list = append(list, name)
		}
	}
	return list
}

func contains(list []string, name string) bool {
	for _, n := range list {
		if n == name {
			return true
		}
	}
	return false
}

// until waits for a condition.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			for name, s := range r.rooms {
				r.t.Logf("%s: %+v", name, s.Nodes())
			}
			r.t.Fatalf("not so within 15 s: %s", what)
		}
	}
}

// settled waits until every VIP has exactly one owner among some nodes, and all of
// these own some.
func (r *rig) shared(among ...string) {
	r.t.Helper()
	r.until(fmt.Sprintf("%v share all VIPs", among), func() bool {
		parts := map[string]int{}
		for _, v := range r.vips {
			list := r.owners(v, among...)
			if len(list) != 1 {
				return false
			}
			parts[list[0]]++
		}
		return len(parts) == len(among)
	})
}

// alone waits until one node owns all VIPs and no other owns any.
func (r *rig) alone(name string) {
	r.t.Helper()
	r.until(name+" owns all VIPs", func() bool {
		for _, v := range r.vips {
			if list := r.owners(v); len(list) != 1 || list[0] != name {
				return false
			}
		}
		return true
	})
}

func (r *rig) where() map[netip.Addr]string {
	m := make(map[netip.Addr]string)
	for _, v := range r.vips {
		if list := r.owners(v); len(list) == 1 {
			m[v] = list[0]
		}
	}
	return m
}

func TestDeathMovesItsVIPsAndNoOthers(t *testing.T) {
	r := newRig(t, 300*time.Millisecond, "a", "b", "c")
	r.shared("a", "b", "c")
	before := r.where()
	yielded := map[string]uint64{}
	for name, s := range r.rooms {
		yielded[name] = s.Stats().Yielded
	}
	r.kill("b")
	r.shared("a", "c")
	for v, owner := range r.where() {
		if was := before[v]; was != "b" && was != owner {
			t.Errorf("%s moved from %s to %s", v, was, owner)
		}
	}
	for _, name := range []string{"a", "c"} {
		if n := r.rooms[name].Stats().Yielded - yielded[name]; n != 0 {
			t.Errorf("%s has given up %d VIPs", name, n)
		}
	}
	begin := time.Now()
	r.start("b")
	r.shared("a", "b", "c")
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("b took VIPs from others after %v: want a hold-down of 300ms", took)
	}
	if after := r.where(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("with b back, VIPs are elsewhere than before")
	}
}

// TestFirstNodesDoNotWait: who has nobody to take VIPs from takes them at once.
func TestFirstNodesDoNotWait(t *testing.T) {
	r := newRig(t, time.Hour)
	for _, name := range []string{"b", "a"} {
		r.world.Add(name)
		r.open(name, nil)
		r.alone("b") // from which a does not take them before the hour is over
	}
	r.kill("b")
	r.alone("a")
}

func TestBothHalvesServeAndOneYields(t *testing.T) {
	r := newRig(t, 400*time.Millisecond, "a", "b", "c", "d", "e")
	r.shared("a", "b", "c", "d", "e")
	before := r.where()
	r.world.Part([]string{"b", "e"})
	// Each half has both halves' VIPs.
	r.until("both halves serve all VIPs", func() bool {
		for _, v := range r.vips {
			if len(r.owners(v, "a", "c", "d")) != 1 || len(r.owners(v, "b", "e")) != 1 {
				return false
			}
		}
		return true
	})
	yielded := map[string]uint64{}
	renewed := map[string]int{}
	for name, s := range r.rooms {
		s.mu.Lock()
		yielded[name], renewed[name] = s.Stats().Yielded, s.renewed
		s.mu.Unlock()
	}
	r.world.Heal()
	// The larger half goes on with all of them; the smaller one leaves them to it.
	r.shared("a", "c", "d")
	r.until("b and e own nothing", func() bool {
		for _, v := range r.vips {
			if len(r.owners(v, "b", "e")) > 0 {
				return false
			}
		}
		return true
	})
	for _, name := range []string{"a", "c", "d"} {
		s := r.rooms[name]
		if n := s.Stats().Yielded - yielded[name]; n != 0 {
			t.Errorf("%s, of the larger half, has given up %d VIPs when the network healed", name, n)
		}
		r.until(name+" has its VIPs announced anew", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.renewed > renewed[name] })
	}
	r.shared("a", "b", "c", "d", "e")
	if after := r.where(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("after the partition, VIPs are elsewhere than before")
	}
}

// TestTwoNodesPart has one of two nodes yield each time, the same one.
func TestTwoNodesPart(t *testing.T) {
	r := newRig(t, 200*time.Millisecond, "b", "a")
	r.shared("a", "b")
	for range 3 {
		r.world.Part([]string{"a"})
		r.until("both own all", func() bool { return len(r.owners(r.vips[0])) == 2 && len(r.owners(r.vips[1])) == 2 })
		r.world.Heal()
		r.alone("a") // the first by name goes on
		r.shared("a", "b")
	}
}

func TestDrainMovesVIPs(t *testing.T) {
	r := newRig(t, 200*time.Millisecond, "a", "b", "c")
	r.shared("a", "b", "c")
	before := r.where()
	if err := r.rooms["a"].Drain("b", "root"); err != nil {
		t.Fatal(err)
	}
	r.shared("a", "c")
	b := r.rooms["b"]
	r.until("b is told that it is drained", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.drained) > 0 && b.drained[len(b.drained)-1]
	})
	if d := r.rooms["c"].Drained()["b"]; d.By != "root" || d.On != "a" || time.Since(d.Since) > time.Minute {
		t.Errorf("c knows of the drain of b: %+v", d)
	}
	// A restart does not put it back.
	r.kill("b")
	b = r.start("b")
	r.until("b knows that it is drained", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.drained) > 0 && b.drained[0]
	})
	r.shared("a", "c")
	// An undrained node that has settled owns its VIPs at once.
	r.until("b has settled", func() bool { return nodeOf(b, "b").Settled })
	if err := r.rooms["c"].Undrain("b"); err != nil {
		t.Fatal(err)
	}
	r.shared("a", "b", "c")
	if after := r.where(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("after the drain, VIPs are elsewhere than before")
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{r.rooms["c"].Undrain("b"), `node "b": the node is not drained`},
		{r.rooms["c"].Drain("x", ""), `node "x": there is no such node in the cluster; there are a, b, c`},
		{r.rooms["c"].Undrain("x"), `node "x": there is no such node in the cluster; there are a, b, c`},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("got %v, want %s", c.err, c.want)
		}
	}
}

func nodeOf(s *seat, name string) NodeStatus {
	for _, n := range s.Nodes() {
		if n.Name == name {
			return n
		}
	}
	return NodeStatus{}
}

// TestRatherThanNobody has the last nodes of a cluster own VIPs that are drained,
// impaired, or in hold-down, and nobody those of nodes that do not forward.
func TestRatherThanNobody(t *testing.T) {
	r := newRig(t, time.Hour, "a", "b")
	r.shared("a", "b")
	must(t, r.rooms["a"].Drain("a", ""))
	r.alone("b")
	r.rooms["b"].SetFitness(Fitness{Forwards: true, Networks: front, Impaired: "interface eth1 has no carrier"})
	r.alone("a") // drained, but it serves
	must(t, r.rooms["a"].Undrain("a"))
	must(t, r.rooms["a"].Drain("b", ""))
	r.rooms["b"].SetFitness(fine)
	r.alone("a")
	r.rooms["a"].SetFitness(Fitness{Networks: front})
	r.alone("b")
	r.rooms["b"].SetFitness(Fitness{})
	r.until("nobody owns anything", func() bool {
		for _, v := range r.vips {
			if len(r.owners(v)) > 0 {
				return false
			}
		}
		return true
	})
	r.until("a knows that nobody does", func() bool { _, ok := r.rooms["a"].Owner(r.vips[0]); return !ok })
	r.rooms["a"].SetFitness(fine)
	r.alone("a")
}

// TestSegments has a VIP owned by nodes that are on its segment, and others by all.
func TestSegments(t *testing.T) {
	r := newRig(t, 0, "a", "b", "c")
	r.rooms["b"].SetFitness(Fitness{Forwards: true, Networks: []netip.Prefix{netip.MustParsePrefix("2001:db8::/64")}})
	r.rooms["c"].SetFitness(Fitness{Forwards: true, Networks: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/16")}})
	elsewhere := netip.MustParseAddr("203.0.113.9")
	r.vips = append(r.vips, elsewhere)
	for _, s := range r.rooms {
		s.SetVIPs(r.vips)
	}
	r.until("VIPs are owned on their segments", func() bool {
		for _, v := range r.vips {
			list := r.owners(v)
			if len(list) != 1 || v != elsewhere && (v.Is4() && list[0] == "b" || v.Is6() && list[0] == "c") {
				return false
			}
		}
		return true
	})
}

// TestLeave: when Leave returns, the others own everything, and who leaves owns
// nothing.
func TestLeave(t *testing.T) {
	r := newRig(t, time.Hour, "a", "b", "c")
	r.world.Delay(0, 5*time.Millisecond)
	r.shared("a", "b", "c")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	must(t, r.rooms["b"].Leave(ctx))
	for _, v := range r.vips {
		if list := r.owners(v); len(list) != 1 || list[0] == "b" {
			t.Fatalf("%s is owned by %v when b has left", v, list)
		}
	}
	r.kill("b")
	r.shared("a", "c")
}

// TestGoesOn: a process that continues another keeps what that one answered for,
// until it knows better, and takes no hold-down.
func TestGoesOn(t *testing.T) {
	r := newRig(t, time.Hour, "a", "b")
	r.shared("a", "b")
	before, moved := r.where(), func() uint64 { s := r.rooms["a"].Stats(); return s.Taken + s.Yielded }
	was := moved()
	old := r.rooms["b"]
	old.Close()
	kept := func(v netip.Addr) bool { return before[v] == "b" }
	var wrong int
	var mu sync.Mutex
	b := r.open("b", func(c *Config) {
		c.Before, c.Settled = kept, true
		told := c.Changed
		c.Changed = func(renew bool) {
			mu.Lock()
			for v, owner := range before {
				if r.rooms["b"].Owns(v) != (owner == "b") {
					wrong++
				}
			}
			mu.Unlock()
			told(renew)
		}
	})
	r.until("b has decided", func() bool { return b.Owners() != nil })
	r.shared("a", "b")
	mu.Lock()
	defer mu.Unlock()
	if wrong > 0 {
		t.Errorf("%d times a VIP moved when one process followed another", wrong)
	}
	if n := moved() - was; n != 0 {
		t.Errorf("a has taken or given up %d VIPs", n)
	}
}

// TestLackedVIPs: a node does not own what its configuration does not have.
func TestLackedVIPs(t *testing.T) {
	r := newRig(t, 0, "a", "b")
	r.shared("a", "b")
	more := append(r.vips[:len(r.vips):len(r.vips)], netip.MustParseAddr("198.18.9.9"), netip.MustParseAddr("198.18.9.10"), netip.MustParseAddr("198.18.9.11"), netip.MustParseAddr("198.18.9.12"))
	r.rooms["a"].SetVIPs(more)
	r.until("a owns what b lacks", func() bool {
		for _, v := range more[len(r.vips):] {
			if !r.rooms["a"].Owns(v) {
				return false
			}
		}
		return true
	})
	r.shared("a", "b")
	r.rooms["b"].SetVIPs(more)
	r.vips = more
	r.until("both share all", func() bool {
		n := 0
		for _, v := range more {
			if len(r.owners(v)) != 1 {
				return false
			}
			if r.rooms["b"].Owns(v) {
				n++
			}
		}
		return n > 0
	})
}

// TestChaos: after any deaths, returns, partitions and drains, over a network that
// loses and delays, each VIP has one owner again and all agree on it.
func TestChaos(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e"}
	r := newRig(t, 50*time.Millisecond, names...)
	r.world.Lose(0.3)
	r.world.Delay(0, 3*time.Millisecond)
	random := newRandom(t)
	drained := map[string]bool{}
	for range 60 {
		name := names[random.IntN(len(names))]
		_, runs := r.rooms[name]
		switch random.IntN(6) {
		case 0:
			if runs && len(r.rooms) > 1 {
				r.kill(name)
			}
		case 1:
			if !runs {
				r.start(name)
			}
		case 2:
			r.world.Part([]string{name, names[random.IntN(len(names))]})
		case 3:
			r.world.Heal()
		case 4:
			if runs {
				drained[name] = true
				must(t, r.rooms[name].Drain(name, ""))
			}
		case 5:
			if runs {
				r.rooms[name].SetFitness(Fitness{Forwards: random.IntN(3) > 0, Networks: front})
			}
		}
		// How far the last step has come when the next is made is left to chance.
		time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
	}
	r.world.Heal()
	for _, name := range names {
		if _, runs := r.rooms[name]; !runs {
			r.start(name)
		}
		r.rooms[name].SetFitness(fine)
	}
	// A parted half may have drained what the other undrained: the last word holds.
	r.until("nobody is drained", func() bool {
		for _, name := range names {
			_ = r.rooms["a"].Undrain(name)
		}
		for _, s := range r.rooms {
			if len(s.Drained()) > 0 {
				return false
			}
		}
		return true
	})
	r.shared(names...)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
