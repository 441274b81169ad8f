package e2e

import (
	"context"
	"testing"
	"time"

	"fairlead/perf/lab"
	"fairlead/perf/rig"
)

// clusterWorld is several nodes that are one cluster, on one segment with a client
// and backends. What it starts ends with its test.
type clusterWorld struct {
	*rig.Cluster
	t   *testing.T
	ctx context.Context
}

// newClusterWorld starts a cluster of so many nodes, with a configuration for each
// (without [node], [cluster] and [state]).
func newClusterWorld(t *testing.T, nodes int, cfg lab.Config, text func(rack *lab.Rack, i int) string) *clusterWorld {
	t.Helper()
	rack, err := lab.NewRack(nodes, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rack.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	w := &clusterWorld{t: t, ctx: ctx}
	t.Cleanup(func() {
		if !t.Failed() || w.Cluster == nil {
			return
		}
		for i, n := range w.Nodes {
			if n != nil && n.Process() != nil {
				t.Logf("the last words of %s:\n%s", w.Balancers[i].Name, last(n.Log(), 60))
			}
		}
	})
	w.Cluster, err = rig.StartCluster(ctx, binary, t.TempDir(), rack, func(i int) string { return text(rack, i) })
	w.must(err)
	return w
}

func (w *clusterWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// idle is the configuration of a node that serves nothing.
func idle(*lab.Rack, int) string { return "[[interface]]\nname = \"eth0\"\n[xdp]\npin_path = \"\"\n" }

// untilSaid waits until nodes have logged so many lines with all of these words.
func (w *clusterWorld) untilSaid(times int, words []string, nodes ...int) {
	w.t.Helper()
	for _, i := range nodes {
		w.must(w.UntilSaid(w.ctx, i, times, words...))
	}
}
