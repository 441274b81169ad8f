package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/dataplane/ipc"
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
	rate    int // of counted, a second

	dropsBefore uint64 // frames that cables had lost before
}

// rate is how many datagrams are sent a second.
const rate = 20_000

// largeRings hold what comes in the better part of a second: on a machine that is
// busy with other tests a worker may wait for a CPU longer than the rings of the
// default size last, and that is not what these tests are about.
const (
	ringSize   = 16384
	largeRings = "ring_size = 16384\nframes = 32768\n"
)

// losslessConfig says what to build.
type losslessConfig struct {
	connections int // spread over four methods
	limit       time.Duration
	rate        int                                  // datagrams a second; 0: rate
	options     string                               // tables of the configuration
	prepare     func(w *world) func(*exec.Cmd) error // gives the world's prepare; may be nil
}

// newLossless starts a node and the traffic through it.
func newLossless(t *testing.T, connections int, limit time.Duration, options string) *lossless {
	t.Helper()
	return newLosslessWith(t, losslessConfig{connections: connections, limit: limit, options: options})
}

func newLosslessWith(t *testing.T, c losslessConfig) *lossless {
	t.Helper()
	connections := c.connections
	w := newWorld(t, worldConfig{limit: c.limit})
	w.config.PinPath = w.bpffs()
	w.config.Options = c.options
	if c.prepare != nil {
		w.prepare = c.prepare(w)
	}
	if c.rate == 0 {
		c.rate = rate
	}
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
	l := &lossless{world: w, rate: c.rate, dropsBefore: w.linkDrops()}
	// All connections together say some 2,000 things a second.
	l.pings = w.pingEvery(time.Duration(connections)*500*time.Microsecond, connections/len(sites), sites...)
	w.must(w.node.UntilSpare(w.ctx))
	var sinks []*lab.Host
	for _, b := range w.topo.Backends {
		sinks = append(sinks, b.Host)
	}
	var err error
	l.counted, err = traffic.StartCounted(w.ctx, w.topo.Client.Host, traffic.CountedConfig{
		Target: netip.AddrPortFrom(count, countPort), Flows: 64, Rate: c.rate,
	}, countPort, sinks...)
	w.must(err)
	l.more(uint64(c.rate / 10))
	return l
}

// inHand is how many frames dead processes had in their hands.
func (l *lossless) inHand() uint64 {
	l.t.Helper()
	n := l.status().Ledger.Reasons["restart_lost"]
	l.t.Logf("%d frames were in the hands of processes that were killed", n)
	return n
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
	l.more(uint64(l.rate/20 + rand.IntN(l.rate/20)))
}

// end stops the traffic and demands that at most so many datagrams were lost,
// none came twice, and no connection broke.
//
// On a machine that is busy with other things a worker may wait for a CPU until
// its rings are full, and the kernel until those of the cables are. What it
// counts as lost by that is told apart, and the former is only excused when no
// process was away for as long as the rings last.
func (l *lossless) end(most uint64) traffic.CountedReport {
	l.t.Helper()
	l.pings.await(1)
	ctx, cancel := context.WithTimeout(l.ctx, 10*time.Second)
	defer cancel()
	r, err := l.counted.Stop(ctx, time.Second)
	l.must(err)
	l.pings.stop()
	l.pauses()
	l.t.Logf("%d datagrams sent at %.0f/s, %d missing, %d doubled, longest gap %v, holes %v", r.Sent, r.Rate, r.Missing, r.Doubled, r.LongestGap.Round(time.Millisecond), r.Holes)
	full := lost(l.status())
	if full > 0 {
		l.t.Logf("rings were full %d times: this machine has not run the worker for a while", full)
		if longest := l.pauses(); longest.Seconds()*float64(l.rate) > ringSize/2 {
			l.t.Errorf("rings were full, and for %v nobody emptied them", longest)
		}
	}
	cables := l.linkDrops() - l.dropsBefore
	if r.Missing > most+full+cables {
		l.t.Errorf("%d datagrams are missing, at most %d may be; rings were full for %d, and cables lost %d", r.Missing, most, full, cables)
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
	l.end(l.inHand())
	status := l.balance("restart_lost")
	if status.Data.Restarts != kills {
		t.Errorf("%d replacements were counted, want %d", status.Data.Restarts, kills)
	}
	l.must(l.node.Stop())
}

// TestBothKilledAtOnce kills the control process and the data process at the same
// moment, again and again, without anybody who keeps descriptors: the one that
// stands by forwards, and the next control process finds it.
func TestBothKilledAtOnce(t *testing.T) {
	const kills = 20
	l := newLossless(t, 100, 3*time.Minute, "[dataplane]\nflow_memo = \"off\"\n"+largeRings)
	for n := range kills {
		l.sometime()
		l.must(l.node.UntilSpare(l.ctx))
		before := l.status()
		control := l.node.Process()
		first, second := control.Pid(), before.Data.PID
		if n%2 == 1 {
			first, second = second, first
		}
		l.must(rig.Kill(first))
		l.must(rig.Kill(second))
		<-control.Done()
		l.must(l.node.Launch(l.ctx))
		if after := l.status(); after.Data.PID != before.Data.Standby {
			t.Errorf("process %d forwards, %d had stood by", after.Data.PID, before.Data.Standby)
		}
	}
	l.end(l.inHand())
	l.balance("restart_lost")
	l.must(l.node.Stop())
	l.attached(false)
}

// TestUpgrade upgrades both processes again and again under traffic: nothing is
// lost.
func TestUpgrade(t *testing.T) {
	const upgrades = 20
	l := newLossless(t, 500, 4*time.Minute, "[dataplane]\nflow_memo = \"off\"\n"+largeRings)
	for range upgrades {
		l.sometime()
		l.must(l.node.Upgrade(l.ctx))
	}
	l.end(0)
	l.balance()
	if n := strings.Count(string(l.node.Log()), "data process upgraded"); n != upgrades {
		t.Errorf("the data process was upgraded %d times, want %d", n, upgrades)
	}
	l.must(l.node.Stop())
	l.attached(false)
}

// pauses logs for how long no data process forwarded, as the node says, and
// returns the longest.
func (l *lossless) pauses() (longest time.Duration) {
	l.t.Helper()
	var all []time.Duration
	for _, text := range regexp.MustCompile(`pause=(\S+)`).FindAllStringSubmatch(string(l.node.Log()), -1) {
		d, err := time.ParseDuration(text[1])
		l.must(err)
		if d > 0 {
			all = append(all, d)
		}
	}
	slices.Sort(all)
	if len(all) == 0 {
		return 0
	}
	longest = all[len(all)-1]
	l.t.Logf("%d pauses: median %v, longest %v", len(all), all[len(all)/2], longest)
	return longest
}

// heirVariable has the test binary play a control process that is prepared to
// take over, and ends when it is to.
const heirVariable = "FAIRLEAD_E2E_HEIR"

func brokenHeir() int {
	conn, err := ipc.Inherit(3)
	if err == nil {
		err = conn.Send("prepared", nil)
	}
	if err == nil {
		_, err = conn.Receive()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 9
}

// TestUpgradeToBrokenBinary installs binaries that do not work: what runs goes
// on, and says why.
func TestUpgradeToBrokenBinary(t *testing.T) {
	w := newWorld(t, worldConfig{})
	w.config.PinPath = w.bpffs()
	s := w.addSite(nat4)
	w.serve()
	dir, err := os.MkdirTemp("", "fairlead-broken-") // its parents, unlike those of TempDir, let anybody in
	w.must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	w.must(os.Chmod(dir, 0o755))
	installed, self := filepath.Join(dir, "fairlead"), os.Args[0]
	install := func(content []byte) {
		w.must(os.WriteFile(installed+".new", content, 0o755))
		w.must(os.Rename(installed+".new", installed))
	}
	good, err := os.ReadFile(binary)
	w.must(err)
	install(good)
	w.startBinary(installed)
	p := w.ping(20, s)
	before := w.status()
	for _, c := range []struct {
		name, script string
		dataOnly     bool
		want         string
	}{
		{"no program", "not a program\n", false, "exec format error"},
		{"one that ends at once", "#!/bin/sh\nexit 7\n", false, "ended before it was prepared: exit status 7"},
		{"one that is no data process", "#!/bin/sh\nexit 7\n", true, "ended before it was ready: exit status 7"},
		{"one that fails when it is to take over", "#!/bin/sh\n" + heirVariable + "=1 exec " + self + "\n", false, "ended before it was ready: exit status 9"},
	} {
		install([]byte(c.script))
		err := w.node.UpgradeTo(w.ctx, c.dataOnly)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the error is %v, want one with %q", c.name, err, c.want)
		}
		p.await(1)
		now := w.status()
		if now.Data.PID != before.Data.PID || now.Data.Restarts != 0 {
			t.Errorf("%s: the data process is %+v, it was %+v", c.name, now.Data, before.Data)
		}
	}
	install(good)
	w.must(w.node.Upgrade(w.ctx))
	p.await(1)
	p.stop()
	w.balance()
	w.must(w.node.Stop())
}
