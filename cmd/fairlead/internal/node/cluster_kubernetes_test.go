package node

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"fairlead/cluster/clustertest"
	"fairlead/k8ssync/report"
)

// The nodes of a cluster know what each of them tells of Kubernetes, who is dead,
// and who should write.
func TestClusterFellows(t *testing.T) {
	names := []string{"lb1", "lb2", "lb3"}
	w := clustertest.New(t, names...)
	fellows := map[string]*clusterFellows{}
	for _, name := range names {
		fellows[name] = newClusterFellows(w.Node(name).Members(), w.Node(name).Store())
		t.Cleanup(func() { fellows[name].close() })
	}
	eventually := func(what string, f func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within 30 s: %s", what)
			}
		}
	}
	var calls atomic.Int64
	stop := fellows["lb1"].Watch(func() { calls.Add(1) })
	for i, name := range names {
		if err := fellows[name].Publish(report.Report{Connected: true, Synced: true, Services: fmt.Sprint(i + 1)}.Encode()); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		f := fellows[name]
		eventually(name+" knows what all tell", func() bool {
			s := report.Of(f)
			return len(s.Connected()) == 3 && s.Nodes[2].Report.Services == "3"
		})
		if f.Self() != name || !slices.Equal(f.Live(), names) {
			t.Errorf("%s is %s among %v", name, f.Self(), f.Live())
		}
	}
	if calls.Load() == 0 {
		t.Error("nobody was told of changes")
	}
	stop()

	first := report.Candidate(fellows["lb1"], "fairlead")
	for _, name := range names {
		if got := report.Candidate(fellows[name], "fairlead"); got != first {
			t.Errorf("%s takes %s for the first, lb1 %s", name, got, first)
		}
	}
	w.Kill(first)
	rest := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == first })
	for _, name := range rest {
		f := fellows[name]
		eventually(name+" knows who is dead", func() bool { return slices.Equal(f.Live(), rest) && f.Gone(first) && len(f.Reports()) == 2 })
		if f.Gone(rest[0]) || f.Gone("stranger") {
			t.Error("others are taken for dead, too")
		}
		if next := report.Candidate(f, "fairlead"); next == first || !slices.Contains(rest, next) {
			t.Errorf("the next one is %q", next)
		}
	}
}
