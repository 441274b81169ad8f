package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/perf/lab"
	"fairlead/perf/lab/router"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
)

// manyConnections is how many live through TestClusterFlowsSurvive.
const manyConnections = 10_000

// serveVariable has the test binary be a server of that name, on port 80 of the
// host it runs on.
const serveVariable = "FAIRLEAD_E2E_SERVE"

func serveHere(name string) int {
	ln, err := net.Listen("tcp", ":80")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	server := traffic.NewStreamServer(name, ln)
	defer server.Close()
	fmt.Println("serving")
	select {} // until it is killed with its host
}

// flowsWorld is a cluster behind a router (BIRD), which is the client as well and
// spreads connections over the nodes by ECMP.
type flowsWorld struct {
	*clusterWorld
	all []*traffic.Pinger
}

// flowsConfig is a node's configuration with these backends, by number.
func flowsConfig(rack *lab.Rack, i int, backends ...int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `[[interface]]
name = "eth0"
[xdp]
pin_path = ""
[bgp]
asn = 65010
router_id = %q
connect_retry = "2s"
[[bgp.peer]]
address = %q
asn = 65000
bfd = { enabled = true }
[[pool]]
name = "web"
`, rack.Balancers[i].IPv4, rack.Client.IPv4)
	for _, n := range backends {
		fmt.Fprintf(&b, "[[pool.backend]]\naddress = \"%s:80\"\nname = \"b%d\"\n", rack.Backends[n-1].IPv4, n)
	}
	fmt.Fprintf(&b, "[[service]]\nname = \"web\"\nvip = %q\nprotocol = \"tcp\"\nport = 80\npool = \"web\"\nmethod = \"l2\"\n", bgpVIP4)
	return b.String()
}

func newFlowsWorld(t *testing.T) *flowsWorld {
	t.Helper()
	w := &flowsWorld{clusterWorld: newClusterWorld(t, 3, lab.Config{Backends: 6}, func(rack *lab.Rack, i int) string {
		return flowsConfig(rack, i, 1, 2, 3, 4, 5)
	})}
	for _, b := range w.Backends {
		w.must(rig.Own(b, bgpVIP4))
		// Processes of their own: one may not have as many sockets as both ends of
		// all connections take.
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), serveVariable+"="+b.Name)
		p, err := b.Start(cmd)
		w.must(err)
		w.must(p.WaitOutput(w.ctx, "serving"))
	}
	for name, value := range map[string]string{"net.ipv4.fib_multipath_hash_policy": "1", "net.ipv4.ip_local_port_range": "10000 65000"} {
		w.must(w.Client.Sysctl(name, value))
	}
	var bird strings.Builder
	fmt.Fprintf(&bird, `router id %s;
log stderr all;
protocol device { }
protocol kernel { ipv4 { export where source = RTS_BGP; import none; }; merge paths on; }
protocol bfd { interface "*" { min rx interval 300 ms; min tx interval 300 ms; multiplier 3; }; }
`, w.Client.IPv4)
	for _, lb := range w.Balancers {
		fmt.Fprintf(&bird, "protocol bgp %s { local %s as 65000; passive on; neighbor %s as 65010; bfd on; hold time 90; error wait time 1, 2; ipv4 { import all; export none; }; }\n", lb.Name, w.Client.IPv4, lb.IPv4)
	}
	_, err := router.StartBird(w.ctx, w.Client.Host, t.TempDir(), bird.String())
	w.must(err)
	return w
}

// hops waits until the router sends the VIP to these nodes and no others.
func (w *flowsWorld) hops(nodes ...int) {
	w.t.Helper()
	for {
		got, err := router.NextHops(w.Client.Host, netip.PrefixFrom(bgpVIP4, 32))
		w.must(err)
		same := len(got) == len(nodes)
		for i, n := range nodes {
			same = same && got[i] == w.Balancers[n].IPv4
		}
		if same {
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-w.ctx.Done():
			w.t.Fatalf("the router sends the VIP to %v, not to nodes %v", got, nodes)
		}
	}
}

// open makes so many further connections, on which something is said again and
// again.
func (w *flowsWorld) open(n int) {
	w.t.Helper()
	var mu sync.Mutex
	var running sync.WaitGroup
	next := make(chan struct{}, n)
	for range n {
		next <- struct{}{}
	}
	close(next)
	for range 32 {
		running.Go(func() {
			for range next {
				p, err := traffic.StartPinger(w.ctx, w.Client.Host, traffic.PingerConfig{Target: netip.AddrPortFrom(bgpVIP4, 80), Interval: 2 * time.Second})
				if err != nil {
					w.t.Error(err)
					return
				}
				mu.Lock()
				w.all = append(w.all, p)
				mu.Unlock()
			}
		})
	}
	running.Wait()
	if w.t.Failed() {
		w.t.FailNow()
	}
}

// hear waits until every connection has had another echo, or is broken.
func (w *flowsWorld) hear() {
	w.t.Helper()
	before := make([]uint64, len(w.all))
	for i, p := range w.all {
		before[i] = p.Received()
	}
	for i, p := range w.all {
		for p.Received() == before[i] {
			select {
			case <-p.Broken():
			case <-time.After(5 * time.Millisecond):
				continue
			case <-w.ctx.Done():
				w.t.Fatal("some connections say nothing any more")
			}
			break
		}
	}
}

// die ends a node as a power failure does.
func (w *flowsWorld) die(i int) {
	w.t.Helper()
	w.must(w.Kill(w.ctx, i))
	w.must(w.Balancers[i].Interface.SetDown())
}

func (w *flowsWorld) fairlead(i int, args ...string) {
	w.t.Helper()
	args = append(args, "--socket", w.Nodes[i].Socket)
	if out, err := exec.CommandContext(w.ctx, binary, args...).CombinedOutput(); err != nil {
		w.t.Fatalf("fairlead %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// report says what nodes have told each other so far, against what telling of
// every flow once would have taken.
func (w *flowsWorld) report(nodes ...int) {
	w.t.Helper()
	sums := map[string]float64{}
	for _, i := range nodes {
		for line := range strings.Lines(w.scrape(i)) {
			var value float64
			name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			if _, err := fmt.Sscan(rest, &value); err == nil && strings.HasPrefix(name, "fairlead_cluster_flows_") {
				sums[name] += value
			}
		}
	}
	established, ended := sums[`fairlead_cluster_flows_told_total{kind="established"}`], sums[`fairlead_cluster_flows_told_total{kind="ended"}`]
	bytes, messages := sums[`fairlead_cluster_flows_bytes_total{direction="sent"}`], sums[`fairlead_cluster_flows_messages_total{direction="sent"}`]
	w.t.Logf("%d connections; nodes %v told of %.0f that they lived and of %.0f that they ended, in %.0f messages of %.0f bytes; looked through the flow table %.0f times, told all %.0f times",
		len(w.all), nodes, established, ended, messages, bytes, sums["fairlead_cluster_flows_scans_total"], sums["fairlead_cluster_flows_resyncs_total"])
	if established == 0 || sums[`fairlead_cluster_flows_bases{state="steady"}`] == 0 {
		w.t.Errorf("nothing was told, or there is no base: %v", sums)
	}
}

// TestClusterFlowsSurvive has ten thousand connections live through the death of a
// node in the same second in which one of five backends is drained and another
// added, and through the death of the next node, too, when there are connections
// that only telling lets the last one know of.
func TestClusterFlowsSurvive(t *testing.T) {
	w := newFlowsWorld(t)
	w.hops(0, 1, 2)
	begin := time.Now()
	w.open(manyConnections * 8 / 10)
	t.Logf("%d connections open after %v", len(w.all), time.Since(begin).Round(time.Millisecond))

	begin = time.Now()
	var changes sync.WaitGroup
	changes.Go(func() { w.fairlead(0, "backend", "drain", "web", "b2") })
	changes.Go(func() {
		full := strings.TrimSuffix(w.Config(0), flowsConfig(w.Rack, 0, 1, 2, 3, 4, 5)) + flowsConfig(w.Rack, 0, 1, 2, 3, 4, 5, 6)
		if err := w.Nodes[0].Reread(full); err != nil {
			t.Error(err)
		}
	})
	w.die(1)
	changes.Wait()
	t.Logf("a node is dead, a backend drains, and one is new after %v", time.Since(begin).Round(time.Millisecond))
	w.hops(0, 2)
	w.hear()
	w.open(manyConnections - len(w.all))
	w.hear()
	w.report(0, 2)
	w.die(2)
	w.hops(0)
	w.hear()

	servers := map[string]int{}
	broken := 0
	var mu sync.Mutex
	var running sync.WaitGroup
	limit := make(chan struct{}, 64)
	ctx, cancel := context.WithTimeout(w.ctx, 30*time.Second)
	defer cancel()
	for i, p := range w.all {
		limit <- struct{}{}
		running.Go(func() {
			defer func() { <-limit }()
			_, err := p.Stop(ctx)
			mu.Lock()
			defer mu.Unlock()
			kind := "old"
			if i >= manyConnections*8/10 {
				kind = "new"
			}
			servers[kind+" "+p.Server()]++
			if err != nil {
				if broken++; broken <= 10 {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	t.Logf("%d of %d connections broke; by server: %v", broken, len(w.all), servers)
	if servers["new b2"] > 0 || servers["new b6"] == 0 {
		t.Errorf("new connections went to the backend that drains, or none to the one that is new: %v", servers)
	}
}
