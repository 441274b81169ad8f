package member_test

import (
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/identity"
	"fairlead/cluster/member"
)

// TestNameTaken has a second node of a name come: it ends, and the others say so.
func TestNameTaken(t *testing.T) {
	w := newWorld(t)
	nodes := w.cluster(3)
	cfg, host := w.config(9, "n3")
	_, err := w.start("second", cfg, host)
	var taken *member.NameTakenError
	if !errors.As(err, &taken) {
		t.Fatalf("the second node of a name: %v", err)
	}
	if want := `another node of the cluster, at 198.18.0.3:7946, has the name "n3" already: give this one a name of its own ([node] name), or stop the other one`; err.Error() != want {
		t.Errorf("the second node says %q, want %q", err, want)
	}
	if want := `msg="two nodes of the cluster have one name; the second one is refused" node=n3 refused=198.18.0.9:7946 known=198.18.0.3:7946`; !nodes[0].log.has(want) {
		t.Errorf("the seed does not log %s", want)
	}
	for _, n := range nodes {
		if n.count(cluster.Alive) != 3 || n.state("n3") != cluster.Alive {
			t.Errorf("%v has %v", n, n.All())
		}
		if len(n.Failed()) != 0 {
			t.Errorf("%v is to end: %v", n, <-n.Failed())
		}
	}
}

// TestFirstNodeTaken is the same with a seed that is alone and has the name itself:
// who has run for longer keeps it.
func TestFirstNodeTaken(t *testing.T) {
	w := newWorld(t)
	first := w.add(1)
	wait(t, 5*time.Millisecond) // started a millisecond later at least
	cfg, host := w.config(9, "n1")
	_, err := w.start("second", cfg, host)
	if !errors.As(err, new(*member.NameTakenError)) {
		t.Fatalf("the second node of a name: %v", err)
	}
	if len(first.Failed()) != 0 {
		t.Errorf("the first one is to end: %v", <-first.Failed())
	}
}

// TestNamesakesMeet joins two clusters that have a node of one name each: the one
// that has run for longer stays.
func TestNamesakesMeet(t *testing.T) {
	w := newWorld(t)
	w.Part([]string{"n1", "n2", "same"}, []string{"n3", "n4"})
	a, b := w.add(1), w.add(2)
	early, host := w.config(5, "same")
	first, err := w.start("same", early, host)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "three are together", func() bool { return first.count(cluster.Alive) == 3 && a.count(cluster.Alive) == 3 })

	wait(t, 5*time.Millisecond)
	c := w.add(3)
	late, host2 := w.config(6, "same")
	late.Seeds = []member.Seed{seedOf(streamAt(3)), seedOf(streamAt(1))}
	w.Part([]string{"n1", "n2", "first"}, []string{"n3", "n4", "same"})
	host.Rename("first") // hosts of one name are in two parts
	second, err := w.start("second", late, host2)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "two are together", func() bool { return second.count(cluster.Alive) >= 2 && c.count(cluster.Alive) >= 2 })
	w.Part()
	select {
	case err := <-second.Failed():
		if !errors.As(err, new(*member.NameTakenError)) || !strings.Contains(err.Error(), "198.18.0.5:7946") {
			t.Errorf("the second one ends with %v", err)
		}
	case err := <-first.Failed():
		t.Fatalf("the first one ends: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("both go on")
	}
	if err := errors.Join(second.Leave(t.Context()), second.Close()); err != nil {
		t.Error(err)
	}
	for _, n := range []*node{a, b, c} {
		eventually(t, "all have the first one", func() bool {
			for _, o := range n.All() {
				if o.Name == "same" {
					return o.Key.Equal(first.id.PublicKey()) && o.State == cluster.Alive
				}
			}
			return false
		})
	}
}

// TestIdentityOutlivesRestart starts a node again with its state directory, at once
// and after it was taken for dead, and with a clock that has jumped back by years.
func TestIdentityOutlivesRestart(t *testing.T) {
	w := newWorld(t)
	nodes := w.cluster(2)
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "key")
	write(t, keyFile, w.key.String()+"\n")
	start := func(now time.Time, at int) *node {
		id, err := identity.Load(filepath.Join(dir, "state"), "n3", keyFile, discard)
		if err != nil {
			t.Fatal(err)
		}
		cfg, host := w.config(at, "n3")
		cfg.Identity, cfg.Dir, cfg.Now = id, filepath.Join(dir, "state"), func() time.Time { return now }
		n, err := w.start("n3", cfg, host)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	has := func(n *node) func() bool {
		return func() bool {
			for _, o := range nodes[0].All() {
				if o.Name == "n3" {
					return o.State == cluster.Alive && o.Key.Equal(n.id.PublicKey()) && o.Gossip == n.Self().Gossip && o.Started.Equal(n.Self().Started.Truncate(time.Millisecond))
				}
			}
			return false
		}
	}
	now := time.Now()
	one := start(now, 3)
	eventually(t, "it is there", has(one))
	for i, c := range []struct {
		clock  time.Time
		at     int
		killed bool
	}{
		{now.Add(time.Second), 3, false},     // quicker than anybody notices
		{now.AddDate(-20, 0, 0), 3, false},   // with a clock that was wrong or is
		{now.AddDate(30, 0, 0), 3, false},    // the other way
		{now, 3, true},                       // after a while, with the clock right again
		{now.Add(2 * time.Second), 4, false}, // at another address, while it is taken for alive
	} {
		w.kill(one)
		if err := one.Close(); err != nil {
			t.Fatal(err)
		}
		if c.killed {
			eventually(t, "it is dead", func() bool { return nodes[0].state("n3") == cluster.Dead })
		}
		two := start(c.clock, c.at)
		if !two.id.PublicKey().Equal(one.id.PublicKey()) {
			t.Fatal("it has another key")
		}
		eventually(t, "it is there again, as it is now: "+string(rune('0'+i)), has(two))
		one = two
	}
	if got := nodes[0].Stats().Conflicts; got != 0 {
		t.Errorf("%d conflicts", got)
	}
}

// TestSeeds finds others by a name with several addresses of both families, one of
// which is this node's own and one nobody's.
func TestSeeds(t *testing.T) {
	w := newWorld(t)
	nodes := w.cluster(2)
	cfg, host := w.config(3, "n3")
	cfg.Seeds = []member.Seed{{Host: "gone.example", Port: 7947}, {Host: "lb.example", Port: 7947}}
	cfg.Resolve = resolver(map[string][]netip.Addr{"lb.example": {
		streamAt(3).Addr(), streamAt(77).Addr(), netip.MustParseAddr("2001:db8::1"), streamAt(2).Addr(),
	}})
	n, err := w.start("n3", cfg, host)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has found the others", func() bool { return n.count(cluster.Alive) == 3 && nodes[0].count(cluster.Alive) == 3 })
	if want := `msg="a seed of the cluster cannot be looked up" seed=gone.example error="no such host"`; !n.log.has(want) {
		t.Errorf("it does not log %s", want)
	}
}

// TestSeedComesLater has a node wait for the only seed there is.
func TestSeedComesLater(t *testing.T) {
	w := newWorld(t)
	second := w.add(2)
	if !second.log.has(`msg="no other node of the cluster answers; it is tried again and again" tried=1`) {
		t.Error("it does not say that it waits")
	}
	first := w.add(1)
	for _, n := range []*node{first, second} {
		eventually(t, "both are together", func() bool { return n.count(cluster.Alive) == 2 })
	}
	if !first.log.has("this node is the first of its cluster") && !first.log.has("the cluster is joined") {
		t.Error("the first one says nothing")
	}
}

// TestFindsWithoutSeeds starts a node whose seeds are all gone: it remembers the
// others.
func TestFindsWithoutSeeds(t *testing.T) {
	w := newWorld(t)
	nodes := w.cluster(2)
	cfg, host := w.config(3, "n3")
	cfg.Dir = t.TempDir()
	n, err := w.start("n3", cfg, host)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are together", func() bool { return n.count(cluster.Alive) == 3 })
	w.kill(nodes[0])
	w.kill(n)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	again, host := w.config(3, "n3")
	again.Dir, again.Identity = cfg.Dir, cfg.Identity
	if n, err = w.start("n3", again, host); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has found the one that is left", func() bool { return n.state("n2") == cluster.Alive && nodes[1].state("n3") == cluster.Alive })
}
