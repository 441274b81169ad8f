package e2e

import (
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
