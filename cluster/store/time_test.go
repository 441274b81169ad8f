package store

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/clock"
)

// times are the clocks of the nodes.
type times struct {
	mu     sync.Mutex
	passed time.Duration            // for all
	wrong  map[string]time.Duration // by which a node's clock is ahead
	start  time.Time
}

func newTimes() *times { return &times{wrong: map[string]time.Duration{}, start: time.Now()} }

func (c *times) tune(config *Config) {
	name := config.Identity.Name()
	config.Wall = func() time.Time {
		c.mu.Lock()
		defer c.mu.Unlock()
		return time.Now().Add(c.passed + c.wrong[name])
	}
	config.Mono = func() time.Duration {
		c.mu.Lock()
		defer c.mu.Unlock()
		return time.Since(c.start) + c.passed
	}
}

// pass has time go by.
func (c *times) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passed += d
}

func (c *times) set(node string, ahead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong[node] = ahead
}

func (r *rig) sweep() {
	for _, s := range r.nodes {
		s.mu.Lock()
		s.sweep()
		s.mu.Unlock()
	}
}

// known waits until nodes remember of each other that they have everything.
func (r *rig) known() {
	r.t.Helper()
	r.same()
	for name, s := range r.nodes {
		for other, o := range r.nodes {
			eventually(r.t, name+" knows that "+other+" has everything", func() bool {
				o.mu.Lock()
				id := o.id
				o.mu.Unlock()
				s.mu.Lock()
				defer s.mu.Unlock()
				e := s.equals[other]
				return name == other || e.store == id && e.seq >= s.seq
			})
		}
	}
}

const day = 24 * time.Hour

// TestAwayForLong: a node that comes back after the tombstones are gone does not
// bring back what was deleted, and brings what was written on it meanwhile.
func TestAwayForLong(t *testing.T) {
	t.Parallel()
	c := newTimes()
	r := newRig(t, c.tune, "a", "b", "c")
	put(t, r.nodes["a"], "setting/deleted", "1")
	put(t, r.nodes["b"], "setting/kept", "1")
	r.known()
	r.stop("c")
	remove(t, r.nodes["a"], "setting/deleted")
	put(t, r.nodes["a"], "setting/new", "1")
	r.same()
	c.pass(40 * day)
	r.sweep()
	if st := r.nodes["a"].Stats(); st.Tombstones != 0 || st.Entries != 2 {
		t.Fatalf("%+v", st)
	}
	alone := r.open("c") // it does not reach the others yet
	if get(alone, "setting/deleted") != "1" {
		t.Fatal("c cannot know that")
	}
	var seen sync.Map
	defer alone.Watch("setting/deleted", func(list []cluster.Entry) {
		for _, e := range list {
			seen.Store(e.Deleted, true)
		}
	})()
	put(t, alone, "setting/alone", "1")
	c.pass(35 * day)
	r.world.Start("c")
	for _, s := range r.nodes {
		has(t, s, "setting/alone", "1")
		has(t, s, "setting/new", "1")
		has(t, s, "setting/deleted", "-")
		has(t, s, "setting/kept", "1")
	}
	r.same()
	eventually(t, "who watches sees it go", func() bool { _, ok := seen.Load(true); return ok })
	// A node that c has compared itself with before the one that knows may have
	// taken it, and drops it, too.
	if got := alone.Stats().Dropped + r.nodes["a"].Stats().Dropped + r.nodes["b"].Stats().Dropped; got == 0 {
		t.Fatal("none was dropped")
	}
	r.world.Kill("c")
	alone.Close()
	if s := r.start("c"); get(s, "setting/deleted") != "-" {
		t.Fatal("it is on disk yet")
	}
	r.same()
}

// TestLostDisk: a node whose disk is new has deleted nothing, however old what the
// others have is.
func TestLostDisk(t *testing.T) {
	c := newTimes()
	r := newRig(t, c.tune, "a", "b")
	put(t, r.nodes["a"], "setting/old", "1")
	put(t, r.nodes["b"], "node/b/old", "1")
	r.known()
	r.stop("b")
	c.pass(60 * day)
	if err := os.RemoveAll(filepath.Join(r.dir, "b")); err != nil {
		t.Fatal(err)
	}
	b := r.start("b")
	has(t, b, "setting/old", "1")
	has(t, b, "node/b/old", "1")
	r.same()
	if get(r.nodes["a"], "setting/old") != "1" {
		t.Fatal("a has dropped it")
	}
}

// TestWrongClock: a node whose clock is hours ahead does not write what the last
// writer wins; what it alone writes goes on.
func TestWrongClock(t *testing.T) {
	c := newTimes()
	r := newRig(t, c.tune, "a", "b", "c")
	put(t, r.nodes["a"], "setting/x", "1")
	r.known()
	c.set("c", 3*time.Hour)
	s := r.nodes["c"]
	var skew *clock.SkewError
	eventually(t, "c is told of it", func() bool { return errors.As(s.Put("setting/x", []byte("wrong")), &skew) })
	if st := s.Stats(); !skew.Most || st.Clock == nil || !strings.HasPrefix(st.Clock.Error(), "the clock of this node is 3h0m0s ahead of that of a, b ") {
		t.Fatalf("%+v", skew)
	}
	put(t, s, "live/c/x", "1")
	put(t, s, "node/c/x", "1")
	put(t, r.nodes["b"], "setting/x", "2")
	for _, s := range r.nodes {
		has(t, s, "setting/x", "2")
		has(t, s, "live/c/x", "1")
		has(t, s, "node/c/x", "1")
	}
	c.set("c", -3*time.Hour) // and what others write is not taken for the future
	put(t, r.nodes["a"], "setting/x", "3")
	has(t, s, "setting/x", "3")
	c.set("c", 0)
	put(t, s, "setting/x", "4")
	for _, s := range r.nodes {
		has(t, s, "setting/x", "4")
	}
	r.same()
}

// TestClockWasAhead: what a node wrote while it was alone with a wrong clock does
// not win for ever, and is not lost.
func TestClockWasAhead(t *testing.T) {
	t.Parallel()
	c := newTimes()
	r := newRig(t, c.tune, "a", "b", "c")
	put(t, r.nodes["a"], "setting/both", "right")
	r.world.Part([]string{"c"})
	s := r.nodes["c"]
	put(t, s, "setting/gone", "1")
	eventually(t, "c forgets what clocks others have", func() bool {
		s.clock.Keep(func(string) bool { return false })
		return s.clock.Wrong() == nil
	})
	c.set("c", 365*day)
	put(t, s, "setting/both", "wrong")
	put(t, s, "setting/alone", "1")
	put(t, s, "setting/alone", "2")
	put(t, s, "setting/removed", "1")
	remove(t, s, "setting/removed")
	c.set("c", 0)
	r.world.Heal()
	for _, s := range r.nodes {
		has(t, s, "setting/both", "right")
		has(t, s, "setting/alone", "2")
		has(t, s, "setting/removed", "-")
	}
	if !strings.Contains(r.log.String(), "entries were written by a clock that was ahead: they count as older than any other") {
		t.Error(r.log)
	}
	put(t, s, "setting/both", "now")
	put(t, r.nodes["a"], "setting/alone", "3")
	for _, s := range r.nodes {
		has(t, s, "setting/both", "now")
		has(t, s, "setting/alone", "3")
	}
	r.sweep() // the tombstone is older than any other
	r.same()
	r.stop("c")
	s = r.start("c")
	has(t, s, "setting/both", "now")
	put(t, s, "setting/both", "later")
	has(t, r.nodes["b"], "setting/both", "later")
}

// TestOwnThingsAfterClockWentBack: what a node alone writes is written again when
// others have something later from before its start.
func TestOwnThingsAfterClockWentBack(t *testing.T) {
	t.Parallel()
	c := newTimes()
	r := newRig(t, c.tune, "a", "b")
	c.set("a", 2*time.Hour)
	put(t, r.nodes["a"], "live/a/x", "before")
	put(t, r.nodes["a"], "live/a/y", "before")
	put(t, r.nodes["a"], "node/a/x", "before")
	r.same()
	r.stop("a")
	if err := os.RemoveAll(filepath.Join(r.dir, "a")); err != nil {
		t.Fatal(err)
	}
	c.set("a", 0)
	r.world.Add("z") // so that a, without its world, has somebody to be apart from
	a := r.open("a")
	put(t, a, "live/a/x", "after")
	put(t, a, "node/a/x", "after")
	r.world.Start("a")
	for _, s := range r.nodes {
		has(t, s, "live/a/x", "after")
		has(t, s, "node/a/x", "after")
	}
	has(t, a, "live/a/y", "before")
	a.forgetFormer()
	for _, s := range r.nodes {
		has(t, s, "live/a/x", "after")
		has(t, s, "live/a/y", "-")
	}
	r.same()
	if a.Stats().Restored < 2 {
		t.Fatalf("%+v", a.Stats())
	}
}

// TestLiveGoesWithItsNode: some time after the node, and comes back with it.
func TestLiveGoesWithItsNode(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.LiveKept = 20 * time.Millisecond }, "a", "b", "c")
	put(t, r.nodes["a"], "live/a/x", "1")
	put(t, r.nodes["a"], "node/a/x", "1")
	r.same()
	r.world.Part([]string{"a"})
	b := r.nodes["b"]
	gone := make(chan struct{}, 10)
	defer b.Watch("live/", func(list []cluster.Entry) {
		for _, e := range list {
			if e.Deleted {
				gone <- struct{}{}
			}
		}
	})()
	<-gone
	if get(b, "live/a/x") != "-" || get(b, "node/a/x") != "1" {
		t.Fatal("the wrong one has gone")
	}
	r.world.Heal()
	has(t, b, "live/a/x", "1")
	r.same()
}

// TestTombstonesGo: what was deleted is forgotten everywhere, and a replay does not
// bring it back.
func TestTombstonesGo(t *testing.T) {
	c := newTimes()
	r := newRig(t, c.tune, "a", "b")
	a := r.nodes["a"]
	put(t, a, "setting/x", "1")
	a.mu.Lock()
	replay := a.table.get("setting/x").appendEnvelope(frame(kindEntry), true)
	a.mu.Unlock()
	remove(t, a, "setting/x")
	r.same()
	c.pass(31 * day)
	r.sweep()
	r.same()
	for _, s := range r.nodes {
		if st := s.Stats(); st.Tombstones != 0 {
			t.Fatalf("%+v", st)
		}
	}
	a.receive(replay)
	eventually(t, "the replay is refused", func() bool { return a.Stats().Refused[Old] == 1 })
	r.stop("a")
	if a = r.start("a"); get(a, "setting/x") != "-" {
		t.Fatal("it is back")
	}
}

// outdated is an identity to which what a node has signed is not good enough.
type outdated struct {
	Identity
	mu      sync.Mutex
	revoked string
}

func (o *outdated) VerifyProof(name string, proof []byte) (ed25519.PublicKey, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if name == o.revoked {
		return nil, errors.New("revoked")
	}
	return o.Identity.VerifyProof(name, proof)
}

// TestSignedAnew: what a node has written that is not vouched for any more stays,
// in the name of another.
func TestSignedAnew(t *testing.T) {
	ids := map[string]*outdated{}
	r := newRig(t, func(c *Config) {
		o := &outdated{Identity: c.Identity}
		ids[c.Identity.Name()], c.Identity = o, o
	}, "a", "b", "c")
	put(t, r.nodes["c"], "setting/x", "1")
	put(t, r.nodes["c"], "setting/y", "1")
	put(t, r.nodes["c"], "node/c/x", "1")
	remove(t, r.nodes["c"], "setting/y")
	r.same()
	for name, s := range r.nodes {
		<-s.Synced()
		ids[name].mu.Lock()
		ids[name].revoked = "c"
		ids[name].mu.Unlock()
		s.signAnew()
	}
	for _, s := range r.nodes {
		eventually(t, "it is a's", func() bool { e, ok := s.Get("setting/x"); return ok && e.Writer == "a" && string(e.Value) == "1" })
		if e, _ := s.Get("node/c/x"); e.Writer != "c" {
			t.Fatal("another signed what is c's alone")
		}
	}
	r.same()
}
