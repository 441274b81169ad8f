package clock

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"fairlead/cluster"
)

// machine is a machine whose clock can be set.
type machine struct {
	wall time.Time
	mono time.Duration
}

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func newMachine() *machine { return &machine{wall: noon} }

func (m *machine) clock(name string) *Clock {
	return New(Config{Writer: name, Wall: func() time.Time { return m.wall }, Mono: func() time.Duration { return m.mono }})
}

func (m *machine) pass(d time.Duration) { m.wall, m.mono = m.wall.Add(d), m.mono+d }

func stamp(t *testing.T, c *Clock) cluster.Version {
	t.Helper()
	v, err := c.Stamp()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestNeverGoesBack(t *testing.T) {
	m, r := newMachine(), rand.New(rand.NewPCG(1, 1))
	c := m.clock("a")
	last := stamp(t, c)
	for range 10_000 {
		switch r.IntN(4) {
		case 0:
			m.wall = m.wall.Add(time.Duration(r.Int64N(int64(8*time.Hour))) - 4*time.Hour)
		case 1:
			m.pass(time.Duration(r.Int64N(int64(time.Second))))
		case 2:
			seen := cluster.Version{Wall: m.wall.UnixMilli() + r.Int64N(600_000) - 300_000, Counter: r.Uint32N(10), Writer: "z"}
			c.Observe(seen)
			if seen.Compare(last) > 0 {
				last = seen
			}
		}
		next := stamp(t, c)
		if next.Compare(last) <= 0 {
			t.Fatalf("%v came after %v", next, last)
		}
		last = next
	}
	// A restart with a clock that was set back: what is on disk is shown to it.
	m.wall = noon.Add(-24 * time.Hour)
	c = m.clock("a")
	c.Observe(last)
	if next := stamp(t, c); next.Compare(last) <= 0 {
		t.Fatalf("%v came after %v and a restart", next, last)
	}
}

func TestCounterOverflows(t *testing.T) {
	m := newMachine()
	c := m.clock("a")
	full := cluster.Version{Wall: noon.UnixMilli(), Counter: math.MaxUint32, Writer: "b"}
	c.Observe(full)
	if got := stamp(t, c); got != (cluster.Version{Wall: full.Wall + 1, Writer: "a"}) {
		t.Fatalf("after a full counter: %v", got)
	}
	if got := c.StampAfter(full); got != (cluster.Version{Wall: full.Wall + 1, Writer: "a"}) {
		t.Fatalf("after a full counter: %v", got)
	}
}

func TestFutureIsRefused(t *testing.T) {
	m := newMachine()
	c := m.clock("a")
	at := func(d time.Duration) cluster.Version {
		return cluster.Version{Wall: noon.Add(d).UnixMilli(), Writer: "b"}
	}
	if err := c.Check(at(5 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	err := c.Check(at(5*time.Minute + time.Millisecond))
	if want := "its version is 5m0.001s ahead of this node's clock: at most 5m0s are accepted"; err == nil || err.Error() != want {
		t.Fatalf("error %v, want %s", err, want)
	}
	if err := c.Check(cluster.Version{Wall: math.MaxInt64}); err == nil {
		t.Fatal("the end of time was accepted")
	}
	// What was accepted once stays acceptable when the clock is set back.
	c.Observe(at(4 * time.Minute))
	m.wall = noon.Add(-6 * time.Hour)
	if err := c.Check(at(4 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := c.Check(at(4*time.Minute + 1)); err != nil {
		t.Fatal(err) // the same millisecond
	}
	if err := c.Check(at(5 * time.Minute)); err == nil {
		t.Fatal("a later one was accepted")
	}
}

// TestWrongClockDoesNotWrite: the node that is alone with its opinion does not
// write, and judges by the time of the others.
func TestWrongClockDoesNotWrite(t *testing.T) {
	m := newMachine()
	c := m.clock("a")
	c.Heard("b", noon)
	c.Heard("c", noon.Add(time.Second))
	stamp(t, c)

	m.wall = m.wall.Add(3 * time.Hour)
	_, err := c.Stamp()
	var skew *SkewError
	if !errors.As(err, &skew) || !skew.Most {
		t.Fatalf("error %v", err)
	}
	want := "the clock of this node is 2h59m59s ahead of that of b, c (at most 5m0s are allowed): nothing that nodes share can be changed here until it is right"
	if err.Error() != want || c.Wrong().Error() != want {
		t.Fatalf("error %v, want %s", err, want)
	}
	if err := c.Check(cluster.Version{Wall: noon.Add(time.Hour).UnixMilli()}); err == nil {
		t.Fatal("what is in the future for most was accepted")
	}
	if v := c.StampAfter(cluster.Version{}); v.Wall != noon.Add(time.Second).UnixMilli() {
		t.Fatalf("its own things are stamped %v", time.UnixMilli(v.Wall))
	}
	m.wall = noon.Add(-3 * time.Hour)
	if err := c.Check(cluster.Version{Wall: noon.UnixMilli()}); err != nil {
		t.Fatalf("behind, and refuses what is the present for most: %v", err)
	}
	m.wall = noon
	if stamp(t, c); c.Wrong() != nil {
		t.Fatal("the clock is right again")
	}
	// One that is wrong among three does not matter to the two others.
	c.Heard("b", noon.Add(time.Hour))
	stamp(t, c)
	// With two nodes nobody can tell who is right.
	c.Keep(func(node string) bool { return node == "b" })
	_, err = c.Stamp()
	want = "the clock of this node is 1h0m0s behind that of b (at most 5m0s are allowed): nothing that nodes share can be changed until they agree"
	if err == nil || err.Error() != want {
		t.Fatalf("error %v, want %s", err, want)
	}
	c.Keep(func(string) bool { return false })
	stamp(t, c)
}

func TestManyNames(t *testing.T) {
	m := newMachine()
	c := m.clock("a")
	for _, name := range []string{"f", "b", "e", "c", "d"} {
		c.Heard(name, noon.Add(time.Hour))
	}
	want := "the clock of this node is 1h0m0s behind that of b, c, d and 2 more (at most 5m0s are allowed): nothing that nodes share can be changed here until it is right"
	if err := c.Wrong(); err == nil || err.Error() != want {
		t.Fatalf("error %v, want %s", err, want)
	}
}

// TestAdrift: a clock that was ahead has given versions that others refuse; that
// is known once another node agrees with what it says now.
func TestAdrift(t *testing.T) {
	m := newMachine()
	c := m.clock("a")
	m.wall = noon.Add(24 * time.Hour)
	future := stamp(t, c)
	m.wall = noon
	if c.Adrift() {
		t.Fatal("alone, it cannot know which of the two was wrong")
	}
	c.Heard("b", noon.Add(24*time.Hour))
	if c.Adrift() {
		t.Fatal("the other says that it was right")
	}
	c.Heard("b", noon)
	if !c.Adrift() {
		t.Fatal("it is a day ahead of all")
	}
	c.Restart(cluster.Version{Wall: noon.UnixMilli() - 5})
	if v := stamp(t, c); c.Adrift() || v.Wall != noon.UnixMilli() || v.Compare(future) >= 0 {
		t.Fatalf("after the restart: %v", v)
	}
	c.Restart(cluster.Version{})
	stamp(t, c)
}
