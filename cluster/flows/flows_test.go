package flows

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead/cluster"
	"fairlead/cluster/clustertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so within 20 s: %s", what)
		}
	}
}

var (
	one, two, three = Share{end("198.18.0.1:80"), 1, 0}, Share{end("198.18.0.2:80"), 1, 0}, Share{end("198.18.0.3:80"), 1, 0}

	web = Pool{Name: "web", Declared: []Share{one, two}, Current: []Share{one, two}}
)

// flowAt is the n-th flow, at a backend.
func flowAt(n int, s Share) Flow {
	return Flow{
		Kind: Established, Proto: 6, Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n >> 8)}), uint16(n)),
		VIP: end("203.0.113.1:80"), Backend: s.Endpoint, Life: time.Minute, Timeout: time.Minute, Pool: "web",
	}
}

func (f Flow) ended() Flow {
	f.Kind, f.Backend, f.Life = Ended, netip.AddrPort{}, 0
	return f
}

// rig is rooms on the nodes of a world.
type rig struct {
	t     *testing.T
	world *clustertest.World
	paths map[string]*path
	rooms map[string]*Room
}

func newRig(t *testing.T, cfg Config, names ...string) *rig {
	r := &rig{t: t, world: clustertest.New(t, names...), paths: map[string]*path{}, rooms: map[string]*Room{}}
	for _, name := range names {
		r.start(cfg, name)
	}
	return r
}

func (r *rig) start(cfg Config, name string) {
	n := r.world.Node(name)
	if r.paths[name] == nil {
		r.paths[name] = newPath(web)
	}
	cfg.Members, cfg.Peers, cfg.Store, cfg.DataPath = n.Members(), n.Peers(), n.Store(), r.paths[name]
	cfg.coordinate = 20 * time.Millisecond
	cfg.Log = slog.New(slog.DiscardHandler)
	room := New(cfg)
	r.rooms[name] = room
	r.t.Cleanup(room.Close)
}

// has waits until a node has imported exactly these flows.
func (r *rig) has(name string, want ...Flow) {
	r.t.Helper()
	var got map[Key]Flow
	defer func() {
		if r.t.Failed() {
			r.t.Logf("%s has %v", name, got)
		}
	}()
	eventually(r.t, fmt.Sprintf("%s has %d flows", name, len(want)), func() bool {
		same := true
		r.paths[name].do(func() {
			got = r.paths[name].got
			same = len(got) == len(want)
			for _, f := range want {
				g, ok := got[f.Key()]
				same = same && ok && g.Backend == f.Backend
			}
		})
		return same
	})
}

// TestOthersAreTold: what happens to an exception reaches all other nodes, also
// those that were not there when it happened.
func TestOthersAreTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, "a", "b", "c")
	for _, room := range r.rooms {
		<-room.Told()
	}
	f, g := flowAt(1, one), flowAt(2, two)
	r.paths["a"].happens(f)
	r.paths["b"].happens(g)
	r.has("a", g)
	r.has("b", f)
	r.has("c", f, g)
	r.paths["c"].do(func() {
		if got := r.paths["c"].got[f.Key()]; got.Life != f.Life || got.Slack < got.Life/2 || got.Slack > got.Life {
			t.Errorf("a life of %s, and %s more: want %s, and somewhat more", got.Life, got.Slack, f.Life)
		}
	})
	r.paths["a"].happens(f.ended())
	r.has("b")
	r.has("c", g)

	r.world.Part([]string{"c"})
	h := flowAt(3, one)
	r.paths["b"].happens(h)
	r.has("a", g, h)
	r.world.Heal()
	r.has("c", g, h)

	r.world.Add("d")
	r.start(Config{}, "d")
	<-r.rooms["d"].Told()
	r.has("d", g, h)
	if s := r.rooms["b"].Stats(); s.Told[Established] < 2 || s.SentBytes == 0 || s.BadMessages != 0 {
		t.Errorf("statistics %+v", s)
	}
}

// TestNewcomersAreToldOfOthersFlows: a node that comes knows what a dead one has
// told, from those that live.
func TestNewcomersAreToldOfOthersFlows(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, "a", "b")
	f := flowAt(1, one)
	f.Told = true
	r.paths["b"].do(func() { r.paths["b"].own[f.Key()] = f })
	r.world.Add("c")
	r.start(Config{}, "c")
	r.has("c", f)
}

// TestOverflow: when the data path had more to say than room, all is told again.
func TestOverflow(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, "a", "b")
	<-r.rooms["a"].Told()
	eventually(t, "b is in step", func() bool { return len(r.rooms["a"].Stats().Behind) == 0 })
	f := flowAt(1, one)
	r.paths["a"].do(func() { r.paths["a"].own[f.Key()], r.paths["a"].lost = f, true })
	r.has("b", f)
	eventually(t, "one overflow is counted", func() bool { return r.rooms["a"].Stats().Overflows == 1 })
}

// TestFlowsWait: those for which there is no room, and those that cannot be
// resolved, come in when they can.
func TestFlowsWait(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, "a", "b")
	<-r.rooms["b"].Told()
	b := r.paths["b"]
	b.do(func() { b.full, b.unknown[two.Endpoint.String()] = true, true })
	var all, known []Flow
	for i := range 2000 {
		f := flowAt(i, one)
		if i%4 == 0 {
			f = flowAt(i, two)
		} else {
			known = append(known, f)
		}
		all = append(all, f)
	}
	r.paths["a"].happens(all...)
	udp := flowAt(9000, one)
	udp.Proto = 17
	r.paths["a"].happens(udp)
	eventually(t, "all are told", func() bool { return r.rooms["b"].Stats().Received[Established] >= 2001 })
	r.has("b")
	b.do(func() { b.full = false })
	r.has("b", known...)
	eventually(t, "500 wait", func() bool { return r.rooms["b"].Stats().Waiting == 500 })
	b.do(func() { clear(b.unknown); b.gen++ })
	r.has("b", all...)
	if s := r.rooms["b"].Stats(); s.ResolvedLater != 500 || s.Refused == 0 || s.Waiting != 0 || s.Taken < 2000 {
		t.Errorf("statistics %+v", s)
	}
}

// TestBaseFollows: a new pool gets a base, which is that of its backends as they
// were declared; when the pool changes, the base stays, and follows after a
// while, in steps.
func TestBaseFollows(t *testing.T) {
	t.Parallel()
	cfg := Config{Window: 300 * time.Millisecond, Hold: time.Millisecond, refresh: time.Hour}
	r := newRig(t, cfg, "a", "b", "c")
	for name, p := range r.paths {
		p.change(one) // the other is not alive yet
		eventually(t, name+" has a base", func() bool {
			b := p.base()
			return b.Phase == Steady && slices.Equal(b.Shares, []Share{one, two})
		})
	}
	down := two
	down.Withheld = 1000
	for _, p := range r.paths {
		p.change(three, one, down)
	}
	want := []Share{one, down, three}
	for name, p := range r.paths {
		eventually(t, name+" has the base of what the pool is now", func() bool {
			b := p.base()
			return b.Phase == Steady && slices.Equal(b.Shares, want)
		})
		p.do(func() {
			old, prepared := Base{Phase: Steady, Shares: []Share{one, two}}, false
			for _, b := range p.adopted {
				if !old.covers(&Base{Shares: b.Shares}) {
					t.Errorf("%s went from %+v to %+v", name, old, b)
				}
				prepared = prepared || b.Phase == Prepare
				old = b.Base
			}
			if !prepared {
				t.Errorf("%s did not prepare: %+v", name, p.adopted)
			}
		})
	}
	if !r.rooms["a"].Stats().Leads || r.rooms["b"].Stats().Leads {
		t.Error("a does not lead, or b does")
	}
}

// TestBaseWaits: no base is in force anywhere before all nodes know of all flows
// that it would send elsewhere.
func TestBaseWaits(t *testing.T) {
	t.Parallel()
	cfg := Config{Window: 300 * time.Millisecond, Hold: time.Millisecond, refresh: time.Hour}
	r := newRig(t, cfg, "a", "b", "c")
	for name, p := range r.paths {
		eventually(t, name+" has a base", func() bool { return p.base().Phase == Steady })
	}
	// From before the next base is prepared c is told of something: else all might be
	// ready before anything happens.
	r.paths["c"].do(func() { r.paths["c"].stuck = true })
	f, g := flowAt(1, three), flowAt(2, three)
	r.paths["a"].happens(f)
	r.has("c", f)
	for _, p := range r.paths {
		p.change(one, two, three)
	}
	for name, p := range r.paths {
		eventually(t, name+" prepares", func() bool { return p.base().Phase == Prepare })
	}
	r.paths["a"].happens(g)
	r.has("c", f, g)
	rounds := func() (n uint64) { return r.rooms["a"].core.stats.rounds.Load() }
	began := rounds()
	eventually(t, "three more rounds", func() bool { return rounds() >= began+3 })
	for name, p := range r.paths {
		if b := p.base(); b.Phase != Prepare {
			t.Fatalf("%s has %+v, though c's data path has not taken in what it was told", name, b)
		}
	}
	r.paths["c"].do(func() { r.paths["c"].stuck = false })
	for name, p := range r.paths {
		eventually(t, name+" has the other base", func() bool {
			b := p.base()
			return b.Phase == Steady && len(b.Shares) == 3
		})
	}
}

// TestBaseNeedNotFollow: a pool that becomes what it was keeps its base, and
// that of a pool which is no more goes.
func TestBaseNeedNotFollow(t *testing.T) {
	t.Parallel()
	cfg := Config{Window: 300 * time.Millisecond, Hold: time.Hour, refresh: time.Hour}
	r := newRig(t, cfg, "a", "b")
	p := r.paths["a"]
	eventually(t, "there is a base", func() bool { return p.base().Phase == Steady })
	r.rooms["a"].wait(func() { r.rooms["a"].core.coordinator.write("web", Base{Prepare, []Share{one, two}, []Share{one}}) })
	eventually(t, "it is given up", func() bool {
		steps := 0
		r.paths["b"].do(func() { steps = len(r.paths["b"].adopted) })
		return steps == 3 && r.paths["b"].base().Phase == Steady
	})
	p.do(func() { p.pools, p.gen = nil, 99 })
	eventually(t, "the entry is gone", func() bool {
		return len(r.world.Node("b").Store().List(cluster.BasePrefix)) == 0 && r.rooms["b"].Stats().Pools == 0 && len(r.paths["b"].base().Shares) == 0
	})
}

// TestWhoLeads: the live node with the least name, but none that is drained while
// there is another.
func TestWhoLeads(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, "a", "b", "c")
	leads := func(want string) {
		t.Helper()
		eventually(t, want+" leads", func() bool {
			for name, room := range r.rooms {
				if name != "gone" && room.Stats().Leads != (name == want) {
					return false
				}
			}
			return true
		})
	}
	leads("a")
	if err := r.world.Node("c").Store().Put(cluster.DrainPrefix+"a", nil); err != nil {
		t.Fatal(err)
	}
	leads("b")
	for _, name := range []string{"b", "c"} {
		if err := r.world.Node("c").Store().Put(cluster.DrainPrefix+name, nil); err != nil {
			t.Fatal(err)
		}
	}
	leads("a")
	if err := r.world.Node("c").Store().Delete(cluster.DrainPrefix + "c"); err != nil {
		t.Fatal(err)
	}
	leads("c")
}

// TestGarbage: what is not understood is counted, and changes nothing.
func TestGarbage(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, "a", "b")
	a := r.world.Node("a")
	for _, m := range [][]byte{nil, {1}, {1, 1, 255}, {9, 9, 9}} {
		if err := a.Peers().Send("b", Topic, m); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Store().Put(cluster.BasePrefix+"x", []byte("{")); err != nil {
		t.Fatal(err)
	}
	if err := a.Store().Put(cluster.BasePrefix+"y", []byte(`{"version":7}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Peers().Call(t.Context(), "b", Topic, []byte("{")); err == nil || err.Error() != "the question about bases of pools is not understood" {
		t.Errorf("a question that is garbage: %v", err)
	}
	eventually(t, "all is counted", func() bool {
		s := r.rooms["b"].Stats()
		return s.BadMessages == 4 && s.BasesBad == 1 && s.BasesNewer == 1
	})
	f := flowAt(1, one)
	r.paths["a"].happens(f)
	r.has("b", f)
}
