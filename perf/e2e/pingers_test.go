package e2e

import (
	"slices"
	"sync"
	"time"

	"fairlead/perf/lab/traffic"
)

// pingers are long-lived TCP connections on which something is always said.
type pingers struct {
	w     *world
	all   []*traffic.Pinger
	sites []*site // of each of all, where ping opened them
}

// ping opens n long-lived connections through each site.
func (w *world) ping(n int, sites ...*site) *pingers {
	w.t.Helper()
	return w.pingEvery(50*time.Millisecond, n, sites...)
}

// pingEvery is ping with so long between two messages of a connection.
func (w *world) pingEvery(interval time.Duration, n int, sites ...*site) *pingers {
	w.t.Helper()
	p := &pingers{w: w}
	for range n {
		for _, s := range sites {
			one, err := traffic.StartPinger(w.ctx, w.topo.Client.Host, traffic.PingerConfig{Target: s.at(streamPort), Interval: interval})
			w.must(err)
			p.all, p.sites = append(p.all, one), append(p.sites, s)
		}
	}
	p.await(1)
	return p
}

// received is how many echoes have come on all connections together.
func (p *pingers) received() uint64 {
	var sum uint64
	for _, one := range p.all {
		sum += one.Received()
	}
	return sum
}

// await returns when every connection has had n more echoes, or is broken,
// which stop reports.
func (p *pingers) await(n uint64) {
	p.w.t.Helper()
	from := make([]uint64, len(p.all))
	for i, one := range p.all {
		from[i] = one.Received()
	}
	for i, one := range p.all {
		p.w.until("every pinger has had more echoes", func() bool {
			select {
			case <-one.Broken():
				return true
			default:
				return one.Received() >= from[i]+n
			}
		})
	}
}

// servers counts the connections of each server.
func (p *pingers) servers() map[string]int {
	count := make(map[string]int)
	for _, one := range p.all {
		count[one.Server()]++
	}
	return count
}

// stop ends the connections and demands that each brought back everything that
// was said.
func (p *pingers) stop() {
	p.w.t.Helper()
	errs := make([]error, len(p.all))
	reports := make([]traffic.PingReport, len(p.all))
	var wg sync.WaitGroup
	for i, one := range p.all {
		wg.Go(func() { reports[i], errs[i] = one.Stop(p.w.ctx) })
	}
	wg.Wait()
	broken := 0
	for _, err := range errs {
		if err != nil {
			if broken++; broken <= 5 {
				p.w.t.Error(err)
			}
		}
	}
	if broken > 0 {
		p.w.t.Errorf("%d of %d connections broke", broken, len(errs))
	}
	longest := slices.MaxFunc(reports, func(a, b traffic.PingReport) int { return int(a.LongestGap - b.LongestGap) })
	var sum uint64
	for _, r := range reports {
		sum += r.Received
	}
	p.w.t.Logf("%d connections, %d echoes, longest gap %v", len(reports), sum, longest.LongestGap.Round(time.Millisecond))
}

// until polls cond until it holds, or ends the test with the context.
func (w *world) until(what string, cond func() bool) {
	w.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-w.ctx.Done():
			w.t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}
