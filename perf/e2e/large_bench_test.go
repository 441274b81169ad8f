package e2e

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"fairlead/perf/lab"
	"fairlead/perf/rig"
)

var tookPart = regexp.MustCompile(`patched=(\w+) took=(\S+)`)

// BenchmarkLargeConfiguration runs a node of 10,000 services with 100 backends
// each: what a full image and what one backend less cost from the reconciler's
// call until every worker decides by it, in both processes, and the memory they
// take. Reading such a file takes far longer than either and is not counted.
func BenchmarkLargeConfiguration(b *testing.B) {
	for _, size := range []struct{ services, backends int }{{1000, 10}, {10_000, 10}, {1000, 100}, {10_000, 100}} {
		b.Run(fmt.Sprintf("%dx%d", size.services, size.backends), func(b *testing.B) {
			topo, err := lab.TwoArm(lab.Config{})
			if err != nil {
				b.Fatal(err)
			}
			defer topo.Close()
			toml := largeConfiguration(topo, size.services, size.backends)
			node, err := rig.Start(b.Context(), binary, b.TempDir(), topo.LB, toml)
			if err != nil {
				b.Fatal(err)
			}
			defer node.Stop()
			reload := func(patched string) time.Duration {
				if err := node.Reload(b.Context(), toml); err != nil {
					b.Fatal(err)
				}
				part := tookPart.FindStringSubmatch(inForce(node))
				if part == nil || part[1] != patched {
					b.Fatalf("patched is not %s: %s", patched, inForce(node))
				}
				took, err := time.ParseDuration(part[2])
				if err != nil {
					b.Fatal(err)
				}
				return took
			}
			toml += largeService(size.services, size.backends, topo.VIP4(1).String())
			full := reload("false")
			var patches []time.Duration
			for b.Loop() {
				toml = withoutBackend(toml)
				patches = append(patches, reload("true"))
			}
			b.ReportMetric(full.Seconds()*1e3, "ms/full")
			sum := time.Duration(0)
			for _, p := range patches {
				sum += p
			}
			b.ReportMetric(sum.Seconds()*1e3/float64(len(patches)), "ms/patch")
			s, err := node.Status(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			for name, pid := range map[string]int{"control": node.Process().Pid(), "data": s.Data.PID} {
				fields, err := rig.ProcessStatus(pid)
				if err != nil {
					b.Fatal(err)
				}
				for field, what := range map[string]string{"RssAnon": "anon", "RssShmem": "shared"} {
					var kib float64
					if _, err := fmt.Sscanf(fields[field], "%f kB", &kib); err != nil {
						b.Fatalf("%s is %q: %v", field, fields[field], err)
					}
					b.ReportMetric(kib/1024, name+"-"+what+"-MiB")
				}
			}
		})
	}
}
