package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"fairlead/perf/lab"
)

// TestClusterMembers has three nodes find each other, kills one with -9, and starts
// it again: everybody knows within moments.
func TestClusterMembers(t *testing.T) {
	t.Parallel()
	w := newClusterWorld(t, 3, lab.Config{Backends: 1}, idle)
	w.untilSaid(2, []string{"a member is in the cluster"}, 0, 1, 2)
	begin := time.Now()
	w.must(w.Kill(w.ctx, 2))
	w.untilSaid(1, []string{"a member of the cluster is dead", "node=lb3"}, 0, 1)
	t.Logf("dead for all after %v", time.Since(begin))
	w.must(w.Nodes[2].Launch(w.ctx))
	w.untilSaid(2, []string{"a member is in the cluster", "node=lb3"}, 0, 1)
	begin = time.Now()
	w.must(w.Nodes[1].Stop())
	w.untilSaid(1, []string{"a member is about to leave", "node=lb2"}, 0, 2)
	w.untilSaid(1, []string{"a member has left the cluster", "node=lb2"}, 0, 2)
	t.Logf("stopped in %v", time.Since(begin))
}

// TestClusterPartition parts three nodes for so long that the halves have given each
// other up, and demands that they are one cluster within ten seconds of the network's
// healing, by none of their seeds' doing: the seed is alone in its half.
func TestClusterPartition(t *testing.T) {
	t.Parallel()
	const forgotten = 5500 * time.Millisecond // a hundred probe intervals, and some
	w := newClusterWorld(t, 3, lab.Config{Backends: 1}, func(rack *lab.Rack, i int) string {
		return "probe_interval = \"50ms\"\n" + idle(rack, i)
	})
	w.untilSaid(2, []string{"a member is in the cluster"}, 0, 1, 2)
	w.must(w.Part(w.Balancers[:1], w.Balancers[1:]))
	w.untilSaid(2, []string{"a member of the cluster is dead"}, 0)
	w.untilSaid(1, []string{"a member of the cluster is dead", "node=lb1"}, 1, 2)
	for end := time.Now().Add(forgotten); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if w.Said(0, "a member is in the cluster") != 2 || w.Said(1, "a member is in the cluster") != 2 {
			t.Fatal("the halves have found each other")
		}
	}
	begin := time.Now()
	w.must(w.Part())
	w.untilSaid(4, []string{"a member is in the cluster"}, 0)
	w.untilSaid(3, []string{"a member is in the cluster"}, 1, 2)
	took := time.Since(begin)
	t.Logf("one cluster after %v", took)
	if took > 10*time.Second {
		t.Errorf("it took %v, and may take 10 s", took)
	}
}

// TestClusterNameTaken starts a second node of a name: it ends with the reason, the
// others say so and go on. Afterwards the name is that of a new machine, once the
// old one is dead.
func TestClusterNameTaken(t *testing.T) {
	t.Parallel()
	w := newClusterWorld(t, 3, lab.Config{Backends: 1}, patient)
	w.untilSaid(2, []string{"a member is in the cluster"}, 0, 1, 2)
	w.must(w.Nodes[2].Stop())
	w.untilSaid(1, []string{"has left the cluster", "node=lb3"}, 0, 1)
	// The third machine is to be lb2, and has no memory of another name.
	w.must(os.RemoveAll(w.StateDirectory(2)))
	w.must(w.Nodes[2].Write(strings.Replace(w.Config(2), `name = "lb3"`, `name = "lb2"`, 1)))
	err := w.Nodes[2].Launch(w.ctx)
	want := fmt.Sprintf(`fairlead: another node of the cluster, at %s:7946, has the name "lb2" already: give this one a name of its own ([node] name), or stop the other one`, w.Balancers[1].IPv4)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("a second node of a name: %v, want %s", err, want)
	}
	w.untilSaid(1, []string{"two nodes of the cluster have one name; the second one is refused", "node=lb2",
		fmt.Sprintf("refused=%s:7946", w.Balancers[2].IPv4), fmt.Sprintf("known=%s:7946", w.Balancers[1].IPv4)}, 0)
	if w.Said(0, "a member of the cluster is dead") > 0 || w.Said(0, "node=lb2", "a member is in the cluster") != 1 {
		t.Error("the first node of the name was lost for a while")
	}
	w.must(w.Kill(w.ctx, 1))
	w.untilSaid(1, []string{"a member of the cluster is dead", "node=lb2"}, 0)
	w.must(w.Nodes[2].Launch(w.ctx))
	w.untilSaid(1, []string{"a member is in the cluster", "node=lb2", fmt.Sprintf("address=%s:7946", w.Balancers[2].IPv4)}, 0)
}

// TestClusterKeyRotation rotates the gossip key of a running cluster three times, one
// of them while a node is down: no node is taken for dead by it, and the one that was
// down has the last key when it comes back.
func TestClusterKeyRotation(t *testing.T) {
	t.Parallel()
	w := newClusterWorld(t, 3, lab.Config{Backends: 1}, patient)
	w.untilSaid(2, []string{"a member is in the cluster"}, 0, 1, 2)
	dead := func(i int) int { return w.Said(i, "a member of the cluster is dead") }
	rotate := func(i int) {
		t.Helper()
		_, err := w.Nodes[i].Client().RotateClusterKey(w.ctx)
		w.must(err)
		w.untilSaid(1, []string{"the gossip key is rotated"}, i)
	}
	used := func(i int) string {
		t.Helper()
		var key string
		for line := range strings.Lines(string(w.Nodes[i].Log())) {
			if strings.Contains(line, `msg="gossip keys"`) && strings.Contains(line, "phase=settled") {
				_, key, _ = strings.Cut(strings.TrimSpace(line), "used=")
			}
		}
		return key
	}
	rotate(0)
	rotate(1)
	if used(0) == "" || used(0) != used(1) || used(1) != used(2) {
		t.Errorf("the nodes use the keys %q, %q and %q", used(0), used(1), used(2))
	}
	for i := range 3 {
		if dead(i) > 0 {
			t.Errorf("%s was without a member", w.Balancers[i].Name)
		}
	}
	w.must(w.Kill(w.ctx, 2))
	w.untilSaid(1, []string{"a member of the cluster is dead", "node=lb3"}, 0, 1)
	rotate(0)
	w.must(w.Nodes[2].Launch(w.ctx))
	w.untilSaid(2, []string{"a member is in the cluster", "node=lb3"}, 0, 1)
	w.untilSaid(1, []string{`msg="gossip keys"`, "phase=settled", "used=" + used(0)}, 2)
	if dead(0) != 1 || dead(1) != 1 {
		t.Errorf("members were taken for dead %d and %d times, want once each", dead(0), dead(1))
	}
}

// patient is idle with more time for nodes to answer: for tests that demand that none
// is taken for dead that is not, on machines that are busy with other tests.
func patient(rack *lab.Rack, i int) string { return "probe_interval = \"300ms\"\n" + idle(rack, i) }
