package e2e

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
)

// countPort is the port of a service of numbered datagrams, and of its sinks.
const countPort = 5555

// lossless is a world in which every packet is counted: numbered datagrams at
// 20,000 a second beside long-lived TCP connections.
type lossless struct {
	*world
	counted *traffic.Counted
	pings   *pingers
}

// rate is how many datagrams are sent a second.
const rate = 20_000

// largeRings hold what comes in the better part of a second: on a machine that is
// busy with other tests a worker may wait for a CPU longer than the rings of the
// default size last, and that is not what these tests are about.
const largeRings = "ring_size = 16384\nframes = 32768\n"

// newLossless starts a node and the traffic through it: so many TCP connections,
// spread over four methods. Options are tables of the configuration.
func newLossless(t *testing.T, connections int, limit time.Duration, options string) *lossless {
	t.Helper()
	w := newWorld(t, worldConfig{limit: limit})
	w.config.PinPath = w.bpffs()
	w.config.Options = options
	sites := []*site{w.addSite(nat4), w.addSite(ipip4), w.addSite(nat6), w.addSite(gue6)}
	count := w.topo.VIP4(len(sites) + 1)
	pool := rig.Pool{Name: "count"}
	for _, b := range w.topo.Backends {
		pool.Backends = append(pool.Backends, rig.Backend{Address: b.IPv4, Port: countPort, Weight: 1, Name: b.Name})
	}
	w.config.Pools = append(w.config.Pools, pool)
	w.config.Services = append(w.config.Services, rig.Service{Name: "count", VIP: count, Protocol: "udp", Port: countPort, Pool: "count", Method: "nat"})
	w.serve()
	w.start()
	l := &lossless{world: w, pings: w.ping(connections/len(sites), sites...)}
	w.must(w.node.UntilSpare(w.ctx))
	var sinks []*lab.Host
	for _, b := range w.topo.Backends {
		sinks = append(sinks, b.Host)
	}
	var err error
	l.counted, err = traffic.StartCounted(w.ctx, w.topo.Client.Host, traffic.CountedConfig{
		Target: netip.AddrPortFrom(count, countPort), Flows: 64, Rate: rate,
	}, countPort, sinks...)
	w.must(err)
	l.more(2000)
	return l
}

// more returns when so many more datagrams have been sent.
func (l *lossless) more(n uint64) {
	l.t.Helper()
	from := l.counted.Sent()
	l.until("datagrams are sent", func() bool { return l.counted.Sent() >= from+n })
}

// sometime lets a random time pass, by the datagrams sent in it, so that what
// comes next hits the worker anywhere.
func (l *lossless) sometime() {
	l.t.Helper()
	l.more(uint64(rate/20 + rand.IntN(rate/20)))
}

// end stops the traffic and demands that at most so many datagrams were lost,
// none came twice, and no connection broke. What was lost is in the ledger.
func (l *lossless) end(lost uint64) traffic.CountedReport {
	l.t.Helper()
	l.pings.await(1)
	ctx, cancel := context.WithTimeout(l.ctx, 10*time.Second)
	defer cancel()
	r, err := l.counted.Stop(ctx, time.Second)
	l.must(err)
	l.pings.stop()
	l.t.Logf("%d datagrams sent at %.0f/s, %d missing, %d doubled, longest gap %v, holes %v", r.Sent, r.Rate, r.Missing, r.Doubled, r.LongestGap.Round(time.Millisecond), r.Holes)
	if r.Missing > lost {
		l.t.Errorf("%d datagrams are missing, at most %d may be", r.Missing, lost)
	}
	if r.Doubled > 0 {
		l.t.Errorf("%d datagrams came twice", r.Doubled)
	}
	return r
}

// TestKillControlProcess kills the control process again and again under
// traffic. The data process does not notice, and every successor goes on with
// it: nothing is lost.
func TestKillControlProcess(t *testing.T) {
	const kills = 20
	l := newLossless(t, 100, 3*time.Minute, "[dataplane]\nflow_memo = \"off\"\n"+largeRings)
	before := l.status()
	for range kills {
		l.sometime()
		l.must(l.node.KillControl(l.ctx))
	}
	l.end(0)
	after := l.balance()
	if after.Data.PID != before.Data.PID || after.Data.Restarts != 0 {
		t.Errorf("the data process was replaced: %+v before, %+v after", before.Data, after.Data)
	}
	if after.Generation.Published <= before.Generation.Published {
		t.Errorf("generation %d followed on %d", after.Generation.Published, before.Generation.Published)
	}
	l.must(l.node.Stop())
	if !rig.Ended(after.Data.PID) {
		t.Errorf("data process %d is left after the stop", after.Data.PID)
	}
	l.attached(false)
}

// TestKillDataProcessLosesNothing kills the data process again and again under
// traffic. The one that stands by goes on at once.
func TestKillDataProcessLosesNothing(t *testing.T) {
	const kills = 20
	l := newLossless(t, 100, 3*time.Minute, "[dataplane]\nflow_memo = \"off\"\n"+largeRings)
	for range kills {
		l.sometime()
		l.must(l.node.UntilSpare(l.ctx))
		l.must(l.node.KillData(l.ctx))
	}
	l.end(0)
	status := l.balance("restart_lost")
	if status.Data.Restarts != kills {
		t.Errorf("%d replacements were counted, want %d", status.Data.Restarts, kills)
	}
	l.must(l.node.Stop())
}
