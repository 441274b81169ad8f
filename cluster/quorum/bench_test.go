package quorum

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

// BenchmarkSharing has three nodes check 20,000 backends, each by all three: what it
// takes to tell a node that comes everything, what is said while nothing changes, and
// what and how fast while a hundred backends change in a second. Bytes are those of
// messages, without what the stream adds.
func BenchmarkSharing(b *testing.B) {
	const backends = 20000
	for b.Loop() {
		l := newLab(b, backends, Config{Checkers: 3}, "a", "b", "c")
		l.everywhere("all are up", backends, 0)
		l.probers(3)
		a := l.nodes["a"]
		sent := func() (bytes, messages int) {
			a.lose.mu.Lock()
			defer a.lose.mu.Unlock()
			return a.lose.bytes, a.lose.messages
		}
		quiet := func() {
			for was, _ := sent(); ; {
				time.Sleep(4 * time.Second)
				is, _ := sent()
				if is-was < 1000 {
					return
				}
				was = is
			}
		}
		quiet()

		before, _ := sent()
		begin := time.Now()
		l.world.Kill("c")
		l.world.Start("c")
		eventually(b, "c is told everything", func() bool {
			s := l.nodes["c"].q.Status()
			return len(s.Nodes) == 3 && s.Nodes[0].Live && s.Nodes[0].Up == backends && s.Nodes[1].Live && s.Nodes[1].Up == backends
		})
		took := time.Since(begin)
		quiet()
		after, _ := sent()
		b.ReportMetric(float64(after-before), "bytes/whole")
		b.ReportMetric(took.Seconds()*1000, "ms/whole")

		before, beats := sent()
		time.Sleep(12 * time.Second)
		after, messages := sent()
		b.ReportMetric(float64(after-before)/12/2, "bytes/s/peer-idle")
		b.ReportMetric(float64(messages-beats)/12/2, "messages/s/peer-idle")

		// A hundred changes in a second: each node finds each of them.
		var mu sync.Mutex
		found := map[model.BackendKey]time.Time{}
		know := map[model.BackendKey]int{}
		var delays []time.Duration
		for _, n := range l.all() {
			n.mu.Lock()
			n.heard = func(k model.BackendKey, _ State) {
				mu.Lock()
				defer mu.Unlock()
				if know[k]++; know[k] == len(l.nodes) {
					delays = append(delays, time.Since(found[k]))
				}
			}
			n.mu.Unlock()
		}
		before, _ = sent()
		const changes = 1000
		down := map[model.BackendKey]bool{}
		l.mu.Lock()
		l.sees = func(_ string, k model.BackendKey) State {
			if down[k] {
				return Down
			}
			return Up
		}
		l.mu.Unlock()
		ticker := time.NewTicker(10 * time.Millisecond)
		begin = time.Now()
		for i := range changes {
			<-ticker.C
			k := key(i * 7)
			l.mu.Lock()
			down[k] = true
			l.mu.Unlock()
			mu.Lock()
			found[k] = time.Now()
			mu.Unlock()
			for _, n := range l.all() {
				n.find([]model.BackendKey{k})
			}
		}
		ticker.Stop()
		elapsed := time.Since(begin).Seconds()
		l.everywhere("the changes are known", backends-changes, changes)
		after, _ = sent()
		b.ReportMetric(float64(after-before)/elapsed/2, "bytes/s/peer-churn")
		slices.Sort(delays)
		b.ReportMetric(delays[len(delays)/2].Seconds()*1000, "ms/p50")
		b.ReportMetric(delays[len(delays)*99/100].Seconds()*1000, "ms/p99")
		for _, n := range l.all() {
			n.q.Close()
		}
	}
}

// BenchmarkMemberChange works everything out anew, as when a node comes or goes.
func BenchmarkMemberChange(b *testing.B) {
	const backends = 20000
	for _, nodes := range []int{3, 10, 100} {
		b.Run(fmt.Sprint(nodes), func(b *testing.B) {
			c := nodesSee(nodes, backends, 3, func(int, int) State { return Up })
			last := c.voter(fmt.Sprint("node-", nodes-1))
			for b.Loop() {
				c.setLive(last, !last.live)
				c.step(start)
			}
		})
	}
}
