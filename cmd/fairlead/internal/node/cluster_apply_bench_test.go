package node

import (
	"fmt"
	"strings"
	"testing"

	"fairlead/cluster/clustertest"
	"fairlead/controlplane/api"
)

// BenchmarkClusterApply is a change of 10,000 services with 10 backends each on
// three nodes of one process, from the text to all of them having it: reading,
// validating and compiling it for the two steps on each, and no data path.
func BenchmarkClusterApply(b *testing.B) {
	w := clustertest.New(b, "a", "b", "c")
	nodes := []*sharer{share(b, w, "a", ""), share(b, w, "b", ""), share(b, w, "c", "")}
	for _, n := range nodes {
		soon(b, "it takes changes", func() bool { _, err := send(n, "", api.ApplyConfig{}); return err == nil })
	}
	round := 0
	for b.Loop() {
		round++
		var text strings.Builder
		for i := range 10_000 {
			fmt.Fprintf(&text, "[[pool]]\nname = \"p%d-%d\"\n", round, i)
			for j := range 10 {
				fmt.Fprintf(&text, "[[pool.backend]]\naddress = \"198.%d.%d.%d:80\"\n", 18+i%2, i/200%256, 1+(i*10+j)%250)
			}
			fmt.Fprintf(&text, "[[service]]\nname = \"s%d\"\nvip = \"203.%d.%d.%d\"\nprotocol = \"tcp\"\nport = 80\npool = \"p%d-%d\"\nmethod = \"l2\"\n", i, i/60000, i/250%256, 1+i%250, round, i)
		}
		if _, err := send(nodes[0], text.String(), api.ApplyConfig{Force: true}); err != nil {
			b.Fatal(err)
		}
		for _, n := range nodes {
			soon(b, "it has it", func() bool {
				n.mu.Lock()
				defer n.mu.Unlock()
				return len(n.inForce.State.Pools) == 10_000 && n.inForce.State.Pools[0].Name == fmt.Sprintf("p%d-0", round)
			})
		}
		b.ReportMetric(float64(text.Len())/1e6, "MB")
	}
}
