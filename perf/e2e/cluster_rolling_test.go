package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"fairlead/controlplane/api"
	"fairlead/perf/rig"
)

// TestRollingUpgrade replaces the binary of three nodes, one after the other, by one
// that reads a version of messages more, and takes one step back. While both are in
// one cluster, changes, drains and sums go from either to the other.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	next, err := rig.BuildWith(t.TempDir(), "-X fairlead/cluster.nextWire=yes -X fairlead/cmd/fairlead/internal/node.Version=next")
	if err != nil {
		t.Fatal(err)
	}
	w := newViewWorld(t)
	speak := func(i, wire int, newest ...int) {
		t.Helper()
		untilTold(w, i, fmt.Sprintf("version %d is spoken", wire), func(_ int, s *api.ClusterStatus) bool {
			var have []int
			for _, m := range s.Members {
				if m.State == "alive" && m.Error == "" {
					have = append(have, m.WireMax)
				}
			}
			return s.Wire == wire && slices.Equal(have, newest)
		}, "cluster", "status")
	}
	replace := func(i int, by string) {
		t.Helper()
		w.must(w.Nodes[i].Stop())
		w.Nodes[i].Binary = by
		w.must(w.Nodes[i].Launch(w.ctx))
	}
	apply := func(i int, pool string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "pool.toml")
		w.must(os.WriteFile(file, fmt.Appendf(nil, "[[pool]]\nname = %q\n[[pool.backend]]\naddress = \"%s:80\"\n", pool, w.Backends[0].IPv4), 0o600))
		var r api.ConfigResult
		if code, said := w.tell(i, &r, "config", "apply", file); code != 0 || !r.Changed {
			t.Fatalf("apply on node %d: %d, %s", i, code, said)
		}
		for j := range w.Nodes {
			untilTold(w, j, "pool "+pool+" is there", func(_ int, o *api.VersionedConfig) bool {
				return slices.ContainsFunc(o.Sources, func(s api.ConfigSource) bool { return s.Source == "api" && s.Pools == 1 })
			}, "config", "show")
			untilTold(w, j, "nothing differs but the software", func(_ int, d *api.ClusterDiff) bool {
				return len(d.Nodes) == 3 && !slices.ContainsFunc(d.Differences, func(o api.Difference) bool { return o.Kind != "software" && o.Kind != "wire" })
			}, "cluster", "diff")
		}
	}
	speak(0, 1, 1, 1, 1)

	replace(2, next)
	for i := range w.Nodes {
		speak(i, 1, 1, 1, 2)
	}
	w.untilSaid(2, []string{"connected to a node", "wire=1"}, 2)
	apply(2, "from-next")
	apply(0, "from-present")
	for _, by := range []int{0, 2} { // one is drained by the other, and put back
		var d api.MemberDrain
		other := w.Balancers[2-by].Name
		if code, said := w.tell(by, &d, "drain", other); code != 0 || d.State == nil {
			t.Fatalf("%d, %s: %+v", code, said, d)
		}
		d = api.MemberDrain{}
		if code, said := w.tell(by, &d, "undrain", other); code != 0 || d.Drained != nil {
			t.Fatalf("%d, %s: %+v", code, said, d)
		}
	}
	w.connect(3)

	replace(1, next)
	replace(0, next)
	for i := range w.Nodes {
		speak(i, 2, 2, 2, 2)
	}
	w.untilSaid(1, []string{"connected to a node", "wire=2"}, 1)
	if code, said := w.tell(0, &api.Status{}, "status", "--node", "lb2"); code != 0 {
		t.Errorf("between nodes of the next version: %d, %s", code, said)
	}
	apply(1, "all-next")

	replace(1, binary) // a step back
	for i := range w.Nodes {
		speak(i, 1, 2, 1, 2)
	}
	apply(1, "back-again")
}
