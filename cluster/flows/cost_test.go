package flows

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkCost compares telling peers of exceptions with telling them of every
// flow, in the same encoding and the same world: three nodes, 1,000 new connections
// a second for an hour of that world's time, a pool of five backends of which one
// comes, goes, or drains, so often on average. Everything is counted that nodes send
// each other of flows.
func BenchmarkCost(b *testing.B) {
	for _, often := range []time.Duration{0, 10 * time.Minute} {
		name := "never"
		if often > 0 {
			name = fmt.Sprint(often)
		}
		b.Run("changes="+name, func(b *testing.B) {
			for range b.N {
				run := simRun{seed: 11, duration: time.Hour, nodes: 3, backends: 5, rate: 10, changes: often}
				few := newSim(run)
				few.run()
				run.everything = true
				all := newSim(run)
				all.run()
				told := func(s *sim) float64 {
					return float64(s.sum(func(c *counters) uint64 { return c.told[Established].Load() }))
				}
				seconds := run.duration.Seconds()
				b.ReportMetric(float64(few.count)/seconds, "flows/s")
				b.ReportMetric(told(few)/seconds, "exceptions/s")
				b.ReportMetric(float64(few.bytes)/seconds, "B/s")
				b.ReportMetric(float64(all.bytes)/seconds, "B/s-all")
				b.ReportMetric(100*float64(few.bytes)/float64(all.bytes), "%-bytes")
				b.ReportMetric(100*told(few)/told(all), "%-told")
			}
		})
	}
}
