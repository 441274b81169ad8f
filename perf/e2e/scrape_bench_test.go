package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"fairlead/perf/lab"
	"fairlead/perf/rig"
)

// BenchmarkScrape scrapes large nodes: what an answer takes until its last byte is
// read, how large it is, how many series it has, and what it leaves of the control
// process's memory. docs/metrics.md has the numbers.
func BenchmarkScrape(b *testing.B) {
	for _, c := range []struct {
		services, backends int
		series             bool // of single backends
	}{{10_000, 10, false}, {1000, 50, true}, {10_000, 100, false}} {
		b.Run(fmt.Sprintf("%dx%d/backends=%t", c.services, c.backends, c.series), func(b *testing.B) {
			topo, err := lab.TwoArm(lab.Config{})
			if err != nil {
				b.Fatal(err)
			}
			defer topo.Close()
			toml := metricsOptions + fmt.Sprintf("backends = %t\nbackend_limit = 10000000\n", c.series) + largeConfiguration(topo, c.services, c.backends)
			node, err := rig.Start(b.Context(), binary, b.TempDir(), topo.LB, toml)
			if err != nil {
				b.Fatal(err)
			}
			defer node.Stop()
			resident := func() float64 {
				fields, err := rig.ProcessStatus(node.Process().Pid())
				if err != nil {
					b.Fatal(err)
				}
				var kib float64
				if _, err := fmt.Sscanf(fields["RssAnon"], "%f kB", &kib); err != nil {
					b.Fatal(err)
				}
				return kib / 1024
			}
			before := resident()
			client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return topo.LB.Dial(ctx, "tcp", metricsAddress)
			}}}
			defer client.CloseIdleConnections()
			var bytes int64
			most := 0.0
			for b.Loop() {
				answer, err := client.Get("http://" + metricsAddress + "/metrics")
				if err != nil {
					b.Fatal(err)
				}
				bytes, err = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				if err != nil {
					b.Fatal(err)
				}
				most = max(most, resident())
			}
			b.ReportMetric(float64(bytes)/(1<<20), "MiB/scrape")
			b.ReportMetric(before, "MiB-before")
			b.ReportMetric(most, "MiB-after")
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/scrape")
		})
	}
}
