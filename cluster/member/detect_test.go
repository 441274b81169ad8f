package member_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"fairlead/cluster"
)

// BenchmarkDetection kills a node of a cluster in one process, over a network that
// loses one of a hundred packets and takes up to a millisecond, and reports how long
// it takes until every other node takes it for dead: the median, the longest of 100,
// and how many nodes that lived were taken for dead meanwhile. What is recorded in
// docs/performance.md is
//
//	go test -run '^$' -bench Detection -benchtime 100x ./cluster/member
func BenchmarkDetection(b *testing.B) {
	for _, size := range []int{3, 10, 30, 100} {
		b.Run(fmt.Sprintf("nodes=%d", size), func(b *testing.B) {
			w := newWorld(b)
			w.Lose(0.01)
			w.Delay(100*time.Microsecond, time.Millisecond)
			var nodes []*node
			for i := 1; i <= size; i++ {
				nodes = append(nodes, w.add(i))
			}
			for _, n := range nodes {
				eventually(b, "all know all", func() bool { return n.count(cluster.Alive) == size })
			}
			var took []time.Duration
			wrong := 0
			for b.Loop() {
				victim := 1 + len(took)%(size-1) // not the seed
				name := nodes[victim].Self().Name
				var ended sync.WaitGroup
				var stops []func()
				var mu sync.Mutex
				dead := map[string]time.Time{}
				for i, n := range nodes {
					if i == victim {
						continue
					}
					ended.Add(1)
					stops = append(stops, n.Watch(func(all []cluster.Node) {
						for _, o := range all {
							mu.Lock()
							if o.Name == name && o.State == cluster.Dead && dead[n.Self().Name].IsZero() {
								dead[n.Self().Name] = time.Now()
								ended.Done()
							}
							mu.Unlock()
						}
					}))
				}
				begin := time.Now()
				w.kill(nodes[victim])
				ended.Wait()
				last := begin
				for _, at := range dead {
					if at.After(last) {
						last = at
					}
				}
				took = append(took, last.Sub(begin))
				for i, n := range nodes {
					if i != victim {
						wrong += n.count(cluster.Dead) - 1
					}
				}
				for _, stop := range stops {
					stop()
				}
				nodes[victim].Close()
				nodes[victim] = w.add(victim + 1)
				for _, n := range nodes {
					eventually(b, "all know all again", func() bool { return n.count(cluster.Alive, cluster.Suspect) == size })
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "median-ms")
			b.ReportMetric(float64(took[len(took)-1].Milliseconds()), "longest-ms")
			b.ReportMetric(float64(wrong), "wrongly-dead")
			b.ReportMetric(0, "ns/op")
		})
	}
}
