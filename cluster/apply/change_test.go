package apply

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/clustertest"
)

func TestChangeReachesAllNodes(t *testing.T) {
	t.Parallel()
	_, nodes := three(t)
	report, err := nodes[1].apply("one")
	if err != nil || report.Asked != 2 || len(report.Warnings()) > 0 {
		t.Fatalf("report %+v, error %v", report, err)
	}
	have(t, SourceAPI, "one", nodes...)
	nodes[2].must(nodes[2].apply("two"))
	have(t, SourceAPI, "two", nodes...)
	within(t, "the others know how far each is", func() bool {
		list := nodes[0].Nodes()
		return len(list) == 3 && !slices.ContainsFunc(list, func(n NodeStatus) bool { return n.InForce[SourceAPI] != Content{Text: "two"}.Digest() })
	})
	if how := nodes[0].adopted[len(nodes[0].adopted)-1]; how.Origin != "c" || how.User != "operator of c" {
		t.Errorf("adopted as %+v", how)
	}
	if s := nodes[0].Status(); len(s.Shared) != 1 || s.Shared[0].Origin != "c" || len(s.Conditions) != 0 {
		t.Errorf("status %+v", s)
	}
}

// TestOneRefusalIsEnough: what one node cannot put in force is put in force
// nowhere, and the operator reads which node it is, and why.
func TestOneRefusalIsEnough(t *testing.T) {
	t.Parallel()
	_, nodes := three(t)
	nodes[0].must(nodes[0].apply("good"))
	have(t, SourceAPI, "good", nodes...)
	_, err := nodes[0].apply("refuse c")
	if want := `node "c" refuses the change, and it is made nowhere: it is refused here`; err == nil || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	if _, err := nodes[1].apply("refuse a\nrefuse c"); err == nil || err.Error() != `node "a" refuses the change, and it is made nowhere: it is refused here` {
		t.Fatalf("got %v", err) // the first by name is asked first
	}
	if _, err := nodes[0].apply("refuse b\nrefuse c"); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Fatalf("got %v, want both nodes", err)
	}
	if _, err := nodes[0].apply("refuse a"); err == nil || err.Error() != "it is refused here" {
		t.Fatalf("got %v", err)
	}
	// Nothing is left of it: the next change is made.
	nodes[2].must(nodes[2].apply("better"))
	have(t, SourceAPI, "better", nodes...)
	for _, n := range nodes {
		for _, texts := range n.before {
			if strings.Contains(texts[SourceAPI].Text, "refuse") {
				t.Errorf("node %s has had %v in force", n.name, texts)
			}
		}
	}
}

func TestDryRunAsksAllNodes(t *testing.T) {
	t.Parallel()
	_, nodes := three(t)
	report, err := nodes[0].change(Change{DryRun: true}, SourceAPI, "one", 0)
	if err != nil || report.Asked != 2 {
		t.Fatalf("report %+v, error %v", report, err)
	}
	if _, err := nodes[0].change(Change{DryRun: true}, SourceAPI, "refuse b", 0); err == nil {
		t.Fatal("nobody refuses")
	}
	if _, there := nodes[0].cfg.Store.Get("desired/api"); there || nodes[0].text(SourceAPI) != "" {
		t.Fatal("a dry run has changed something")
	}
}

func TestDeadNodesAreNamed(t *testing.T) {
	t.Parallel()
	w, nodes := three(t)
	w.Part([]string{"a", "b"}, []string{"c"})
	within(t, "c is dead", func() bool { return !nodes[0].serves("c") })
	_, err := nodes[0].change(Change{RequireAll: true}, SourceAPI, "one", 0)
	if want := `the change is made nowhere: it needs all nodes, and these were not asked: "c" (dead)`; err == nil || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	report, err := nodes[0].apply("two")
	if want := []string{`node "c" was not asked (dead); it takes the change over when it is back`}; err != nil || !slices.Equal(report.Warnings(), want) {
		t.Fatalf("warnings %q, error %v, want %q", report.Warnings(), err, want)
	}
	have(t, SourceAPI, "two", nodes[:2]...)
	w.Heal()
	have(t, SourceAPI, "two", nodes[2])
	if m := nodes[2].condition(Replaced); m != "" {
		t.Errorf("node c had nothing, and says %q", m)
	}
}

// TestOneOfTwoAtATime: of changes on several nodes at the same time one is made,
// or they are made one after the other; who is refused is told that it is for
// another change.
func TestOneOfTwoAtATime(t *testing.T) {
	t.Parallel()
	w, nodes := three(t)
	w.Delay(0, 2*time.Millisecond)
	for round := range 20 {
		var running sync.WaitGroup
		errs := make([]error, len(nodes))
		for i, n := range nodes {
			running.Go(func() { _, errs[i] = n.apply(fmt.Sprintf("round %d of %s", round, n.name)) })
		}
		running.Wait()
		made := 0
		for _, err := range errs {
			conflict, refused := (*ConflictError)(nil), (*RefusedError)(nil)
			switch {
			case err == nil:
				made++
			case errors.As(err, &conflict):
			case errors.As(err, &refused) && refused.Conflict():
			default:
				t.Fatalf("round %d: %v", round, err)
			}
		}
		if made == 0 {
			t.Fatalf("round %d: nobody's change was made: %v", round, errs)
		}
		within(t, "all have the same", func() bool {
			e, _ := nodes[0].cfg.Store.Get("desired/api")
			d, err := decode(e.Value)
			return err == nil && nodes[0].text(SourceAPI) == d.Text && nodes[1].text(SourceAPI) == d.Text && nodes[2].text(SourceAPI) == d.Text
		})
		for _, n := range nodes {
			if m := n.condition(Replaced); m != "" {
				t.Fatalf("round %d, node %s: %s", round, n.name, m)
			}
		}
	}
}

// TestConflictIsWorded: a change that was prepared without knowledge of another is
// refused.
func TestConflictIsWorded(t *testing.T) {
	t.Parallel()
	_, nodes := three(t)
	nodes[1].making.set("1")
	if _, err := nodes[0].prepare(t.Context(), "b", &request{ID: "1", User: "bob", Within: time.Minute, Contents: map[string]Content{SourceAPI: {Text: "x"}}}); err != nil {
		t.Fatal(err)
	}
	_, err := nodes[2].apply("y")
	if want := `node "a" refuses the change, and it is made nowhere: node "b" is making a change of bob at the same time; try again when it is done`; err == nil || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	nodes[0].released("c", []byte("1")) // is not c's to release
	if _, err := nodes[2].apply("y"); err == nil {
		t.Fatal("the reservation is gone")
	}
	nodes[0].released("b", []byte("1"))
	nodes[2].must(nodes[2].apply("y"))
	have(t, SourceAPI, "y", nodes...)
	_, err = nodes[0].prepare(t.Context(), "b", &request{ID: "2", Within: time.Minute, Contents: map[string]Content{SourceAPI: {Text: "x"}}})
	if err == nil || !strings.HasPrefix(err.Error(), `operator of c has made another change on node "c" meanwhile (`) {
		t.Fatalf("got %v", err)
	}
}

// TestReservationThatNobodyHolds: that a change is over may get lost. Who waits for
// it asks.
func TestReservationThatNobodyHolds(t *testing.T) {
	t.Parallel()
	_, nodes := three(t)
	if _, err := nodes[0].prepare(t.Context(), "b", &request{ID: "1", Within: time.Hour, Contents: map[string]Content{SourceAPI: {Text: "x"}}}); err != nil {
		t.Fatal(err)
	}
	nodes[2].must(nodes[2].apply("y"))
	have(t, SourceAPI, "y", nodes...)
	if _, err := nodes[0].prepare(t.Context(), "a", &request{ID: "2", Within: time.Hour, Contents: map[string]Content{SourceAPI: {Text: "x"}}}); err == nil {
		t.Fatal("prepared without knowledge of what there is")
	}
}

// TestReservationEndsWithItsNode: a node that dies while it prepares a change
// holds up nobody.
func TestReservationEndsWithItsNode(t *testing.T) {
	t.Parallel()
	w, nodes := three(t)
	if _, err := nodes[0].prepare(t.Context(), "b", &request{ID: "1", Within: time.Hour, Contents: map[string]Content{SourceAPI: {Text: "x"}}}); err != nil {
		t.Fatal(err)
	}
	w.Kill("b")
	within(t, "b is dead", func() bool { return !nodes[0].serves("b") })
	nodes[2].must(nodes[2].apply("y"))
}

// failing is a store that stops to write.
type failing struct {
	cluster.Store
	mu  sync.Mutex
	err error
}

func (s *failing) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *failing) Put(key string, value []byte) error {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if err != nil && strings.HasPrefix(key, cluster.DesiredPrefix) {
		return err
	}
	return s.Store.Put(key, value)
}

func TestWhatCannotBeSharedIsUndone(t *testing.T) {
	t.Parallel()
	w := clustertest.New(t, "a", "b")
	store := &failing{Store: w.Node("a").Store()}
	a, b := start(t, w, "a", with{store: store}), start(t, w, "b", with{})
	a.begun()
	b.begun()
	a.must(a.apply("one"))
	store.fail(errors.New("no space left on device"))
	_, err := a.apply("two")
	if want := "the change cannot be shared with the other nodes and is undone: no space left on device"; err == nil || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	have(t, SourceAPI, "one", a, b)
	store.fail(nil)
	a.must(a.apply("two"))
	have(t, SourceAPI, "two", a, b)
}

func TestTooLargeIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	_, nodes := three(t)
	_, err := nodes[0].apply(strings.Repeat("x", MaxText+1))
	if want := "the change is made nowhere: the document has 33554433 bytes; nodes share at most 33554432"; err == nil || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	if nodes[0].text(SourceAPI) != "" || nodes[1].tried > 0 {
		t.Error("it was tried")
	}
}

// TestNodeDiesBeforeItShares: a change that was in force on one node and not yet
// shared is gone when that node is back.
func TestNodeDiesBeforeItShares(t *testing.T) {
	t.Parallel()
	w, nodes := three(t)
	nodes[0].must(nodes[0].apply("one"))
	have(t, SourceAPI, "one", nodes...)
	c := nodes[2]
	c.stop()
	w.Kill("c")
	c.local.mu.Lock()
	c.set(map[string]Content{SourceAPI: {Text: "half made"}})
	c.local.mu.Unlock()
	nodes[0].must(nodes[0].apply("two"))
	w.Start("c")
	again := start(t, w, "c", with{local: c.local})
	have(t, SourceAPI, "two", again, nodes[0], nodes[1])
}

func TestNodeDiesWhileItIsAsked(t *testing.T) {
	t.Parallel()
	w, nodes := three(t)
	w.Delay(50*time.Millisecond, 60*time.Millisecond)
	done := make(chan error, 1)
	go func() { _, err := nodes[0].apply("one"); done <- err }()
	w.Kill("c")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	have(t, SourceAPI, "one", nodes[0], nodes[1])
}

// TestUnknownKeysAreSaid: software of several releases in one cluster.
func TestUnknownKeysAreSaid(t *testing.T) {
	t.Parallel()
	w, nodes := three(t)
	report, err := nodes[0].apply("x\nnew pool.colour")
	if want := []string{`node "b" does not know and ignores: pool.colour`, `node "c" does not know and ignores: pool.colour`}; err != nil || !slices.Equal(report.Warnings(), want) {
		t.Fatalf("warnings %q, error %v", report.Warnings(), err)
	}
	within(t, "b says so", func() bool {
		return nodes[1].condition(UnknownKeys) == "this node's software does not know, and ignores: pool.colour"
	})
	// What another source declares does not hide it, nor does a restart.
	nodes[0].must(nodes[0].change(Change{}, SourceFile, "y", 0))
	have(t, SourceFile, "y", nodes...)
	nodes[1].stop()
	nodes[1] = start(t, w, "b", with{local: nodes[1].local})
	nodes[1].begun()
	within(t, "b says so again", func() bool { return nodes[1].condition(UnknownKeys) != "" })
	nodes[0].must(nodes[0].apply("x"))
	within(t, "it is over", func() bool { return nodes[1].condition(UnknownKeys) == "" })
}

func TestDocumentOfNewerFormat(t *testing.T) {
	t.Parallel()
	w, nodes := three(t)
	nodes[0].must(nodes[0].apply("one"))
	have(t, SourceAPI, "one", nodes...)
	d := &Document{Format: 2, Content: Content{Text: "two"}, Origin: "a", Time: time.Now()}
	value, err := d.encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Node("a").Store().Put("desired/api", value); err != nil {
		t.Fatal(err)
	}
	const want = `what all nodes share is not in force on this one: what node "a" has shared as "desired/api" cannot be read: it was written by newer software: format 2, this node reads up to 1`
	within(t, "b says so", func() bool { return nodes[1].condition(NotAdopted) == want })
	if nodes[1].text(SourceAPI) != "one" {
		t.Error("what was in force is not")
	}
}

// TestNodeThatCannotFollow: the others go on, it is tried again, and all nodes
// say which one it is.
func TestNodeThatCannotFollow(t *testing.T) {
	t.Parallel()
	_, nodes := three(t)
	nodes[0].must(nodes[0].apply("one"))
	have(t, SourceAPI, "one", nodes...)
	w := nodes[2].local
	w.mu.Lock()
	w.refuse = errors.New("198.18.0.1 is an address of this host")
	w.mu.Unlock()
	// The node was not asked, as it was not reached.
	d := nodes[0].document(SourceAPI, Content{Text: "two"}, "eve", "", version{})
	value, err := d.encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := nodes[0].cfg.Store.Put("desired/api", value); err != nil {
		t.Fatal(err)
	}
	have(t, SourceAPI, "two", nodes[:2]...)
	within(t, "c says so", func() bool {
		return nodes[2].condition(NotAdopted) == "what all nodes share is not in force on this one: 198.18.0.1 is an address of this host"
	})
	within(t, "a says so, too", func() bool {
		return nodes[0].condition(NodeBehind) == `node "c" does not have in force what all nodes share: 198.18.0.1 is an address of this host`
	})
	w.mu.Lock()
	w.refuse = nil
	w.mu.Unlock()
	have(t, SourceAPI, "two", nodes[2])
	within(t, "it is over", func() bool { return nodes[2].condition(NotAdopted)+nodes[0].condition(NodeBehind) == "" })
}

func TestHashSeedsDiffer(t *testing.T) {
	t.Parallel()
	w := clustertest.New(t, "a", "b")
	a, b := start(t, w, "a", with{seed: "1"}), start(t, w, "b", with{seed: "2"})
	const want = `hash_seed in [node] of this node is another than on "b"; flows that change nodes change backends until it is the same on all`
	within(t, "a says so", func() bool { return a.condition(SeedMismatch) == want && a.log.has("hash_seed") })
	within(t, "b says so", func() bool { return b.condition(SeedMismatch) != "" })
}
