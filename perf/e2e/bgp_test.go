package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
	"fairlead/perf/lab/router"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
	"fairlead/xdp/decap"
)

// Addresses of the tests of BGP: VIPs that nothing but BGP gives the router a
// way to, and the numbers of the nodes in both segments.
var (
	bgpVIP4 = netip.MustParseAddr("203.0.113.80")
	bgpVIP6 = netip.MustParseAddr("2001:db8:113::80")
)

const (
	secondNode = 2 // host number; the first node's is 1
	routerNode = 254
)

// bgpWorld is one node, or two side by side, and a real router between them and
// the client.
type bgpWorld struct {
	*world
	bird    *router.Bird
	nodes   []*bgpNode
	servers []*traffic.HTTPServer
}

// bgpNode is one node.
type bgpNode struct {
	*rig.Node
	host   *lab.Host
	front4 netip.Addr
	front6 netip.Addr
	back4  netip.Addr
	extra  string // lines of [bgp]
	peer   string // lines of its peers
}

const birdForNodes = `
router id 198.18.0.254;
log stderr all;
protocol device { }
protocol kernel { ipv4 { export where source = RTS_BGP; import none; }; merge paths on; }
protocol kernel { ipv6 { export where source = RTS_BGP; import none; }; merge paths on; }
filter nodes {
	if (65535, 0) ~ bgp_community then bgp_local_pref = 0; # RFC 8326
	accept;
}
protocol bfd { interface "*" { min rx interval 300 ms; min tx interval 300 ms; multiplier 3; }; }
template bgp node4 { local 198.18.0.254 as 65000; passive on; ipv4 { import filter nodes; export none; }; }
template bgp node6 { local 2001:db8::fe as 65000; passive on; ipv6 { import filter nodes; export none; }; }
`

// newBGPWorld makes the lab, the router with what its configuration says of the
// nodes, and backends that decapsulate.
func newBGPWorld(t *testing.T, birdNodes string) *bgpWorld {
	t.Helper()
	w := &bgpWorld{world: newWorld(t, worldConfig{lab: lab.Config{Router: true, Backends: 2}, limit: 3 * time.Minute})}
	var err error
	w.must(w.topo.Router.Sysctl("net.ipv4.fib_multipath_hash_policy", "1"))
	w.must(w.topo.Router.Sysctl("net.ipv6.fib_multipath_hash_policy", "1"))
	w.bird, err = router.StartBird(w.ctx, w.topo.Router, t.TempDir(), birdForNodes+birdNodes)
	w.must(err)
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := w.bird.Ask(context.Background(), "show protocols")
			routes, _ := w.bird.Ask(context.Background(), "show route all")
			t.Logf("BIRD says:\n%s\n%s\n%s", last(w.bird.Output(), 40), out, routes)
		}
	})
	return w
}

// serveBGP starts a web server on every backend, which decapsulates for the VIPs
// and owns them.
func (w *bgpWorld) serveBGP() {
	w.t.Helper()
	for _, b := range w.topo.Backends {
		w.must(rig.Own(b, bgpVIP4, bgpVIP6))
		var tunnels []netip.Prefix
		for _, n := range w.nodes {
			tunnels = append(tunnels, netip.PrefixFrom(n.back4, 32))
		}
		_, err := rig.Decapsulate(b, decap.Config{VIPs: []netip.Addr{bgpVIP4, bgpVIP6}, LoadBalancers: tunnels})
		w.must(err)
		s, err := traffic.ServeHTTP(b.Host, ":80")
		w.must(err)
		w.servers = append(w.servers, s)
	}
}

// first is the node that the lab has anyway.
func (w *bgpWorld) first() *bgpNode {
	n := &bgpNode{host: w.topo.LB, front4: w.topo.Front.IPv4, front6: w.topo.Front.IPv6, back4: w.topo.Back.IPv4}
	w.nodes = append(w.nodes, n)
	return n
}

// second puts another node beside the first.
func (w *bgpWorld) second() *bgpNode {
	w.t.Helper()
	h, err := w.topo.AddHost("lb2")
	w.must(err)
	n := &bgpNode{host: h, front4: w.topo.Front.Segment.Addr4(secondNode), front6: w.topo.Front.Segment.Addr6(secondNode), back4: w.topo.Back.Segment.Addr4(secondNode)}
	for _, arm := range []struct {
		sw   *lab.Switch
		name string
		seg  lab.Segment
	}{{w.topo.FrontSwitch, "eth0", w.topo.Front.Segment}, {w.topo.BackSwitch, "eth1", w.topo.Back.Segment}} {
		ifc, err := arm.sw.Plug(h, arm.name, lab.LinkConfig{})
		w.must(err)
		w.must(ifc.AddAddress(netip.PrefixFrom(arm.seg.Addr4(secondNode), arm.seg.IPv4.Bits())))
		w.must(ifc.AddAddress(netip.PrefixFrom(arm.seg.Addr6(secondNode), arm.seg.IPv6.Bits())))
	}
	w.must(h.AddDefaultRoute(w.topo.Front.Segment.Addr4(routerNode)))
	w.must(h.AddDefaultRoute(w.topo.Front.Segment.Addr6(routerNode)))
	w.nodes = append(w.nodes, n)
	return n
}

// text is a node's configuration: one service per family, by tunnel, so that a
// flow that changes nodes keeps its backend.
func (w *bgpWorld) text(n *bgpNode) string {
	var b strings.Builder
	peer := n.peer
	if peer == "" {
		peer = "[[bgp.peer]]\naddress = \"198.18.0.254\"\nasn = 65000\n[[bgp.peer]]\naddress = \"2001:db8::fe\"\nasn = 65000\n"
	}
	fmt.Fprintf(&b, `[node]
log_level = "debug"
[xdp]
pin_path = ""
[tunnel]
source_ipv4 = %q
[bgp]
asn = 65010
router_id = %q
connect_retry = "2s"
%s
%s
[[interface]]
name = "eth0"
[[interface]]
name = "eth1"
[[pool]]
name = "web"
[pool.health]
type = "tcp"
path = "direct"
interval = "200ms"
timeout = "150ms"
fall = 2
`, n.back4, n.front4, n.extra, peer)
	for _, k := range w.topo.Backends {
		fmt.Fprintf(&b, "[[pool.backend]]\naddress = \"%s:80\"\nname = %q\n", k.IPv4, k.Name)
	}
	for name, vip := range map[string]netip.Addr{"web4": bgpVIP4, "web6": bgpVIP6} {
		fmt.Fprintf(&b, "[[service]]\nname = %q\nvip = %q\nprotocol = \"tcp\"\nport = 80\npool = \"web\"\nmethod = \"ipip\"\n", name, vip)
	}
	return b.String()
}

func (w *bgpWorld) startNode(n *bgpNode) {
	w.t.Helper()
	var err error
	n.Node, err = rig.Start(w.ctx, binary, w.t.TempDir(), n.host, w.text(n))
	w.t.Cleanup(func() {
		if w.t.Failed() && n.Node != nil {
			w.t.Logf("%s's last words:\n%s", n.host.Name, last(n.Log(), 60))
		}
	})
	w.must(err)
}

// hops waits until the router sends a VIP to these nodes and no others.
func (w *bgpWorld) hops(vip netip.Addr, want ...netip.Addr) {
	w.t.Helper()
	var got []netip.Addr
	w.until(fmt.Sprintf("the router sends %s to %v", vip, want), func() bool {
		var err error
		got, err = router.NextHops(w.topo.Router, netip.PrefixFrom(vip, vip.BitLen()))
		w.must(err)
		return slices.Equal(got, want)
	})
}

// command runs a client command against a node and decodes its JSON.
func (w *bgpWorld) command(n *bgpNode, out any, args ...string) {
	w.t.Helper()
	args = append(args, "--socket", n.Socket, "-o", "json")
	text, err := exec.CommandContext(w.ctx, binary, args...).Output()
	if err != nil {
		w.t.Fatalf("fairlead %s: %v: %s", strings.Join(args, " "), err, text)
	}
	if out != nil {
		w.must(json.Unmarshal(text, out))
	}
}

// load makes connections through the router for as long as f runs, and demands
// that every one is answered.
func (w *bgpWorld) load(f func()) *traffic.Tally {
	w.t.Helper()
	over, result := make(chan struct{}), make(chan *traffic.Tally)
	sum := func(all, more *traffic.Tally) {
		all.Answers += more.Answers
		for name, n := range more.ByServer {
			all.ByServer[name] += n
		}
	}
	go func() {
		all := &traffic.Tally{ByServer: map[string]int{}}
		for {
			t := traffic.HTTPLoad{Target: netip.AddrPortFrom(bgpVIP4, 80), Connections: 40, Parallel: 4}.Run(w.ctx, w.topo.Client.Host)
			if err := t.Err(); err != nil {
				w.t.Errorf("%d of %d requests failed: %v", t.Failed(), t.Failed()+t.Answers, err)
			}
			sum(all, t)
			select {
			case <-over:
				result <- all
				return
			default:
			}
		}
	}()
	f()
	close(over)
	return <-result
}

func (w *bgpWorld) answers(vip netip.Addr) {
	w.t.Helper()
	t := traffic.HTTPLoad{Target: netip.AddrPortFrom(vip, 80), Connections: 40, Parallel: 4}.Run(w.ctx, w.topo.Client.Host)
	if err := t.Err(); err != nil {
		w.t.Errorf("%s: %v", vip, err)
	}
}

// TestBGPAnnounces runs a node beside BIRD: the router finds the VIPs, and only
// while there is a backend that is alive and a data process.
func TestBGPAnnounces(t *testing.T) {
	t.Parallel()
	w := newBGPWorld(t, `
protocol bgp one4 from node4 { neighbor 198.18.0.1 as 65010; }
protocol bgp one6 from node6 { neighbor 2001:db8::1 as 65010; }
`)
	n := w.first()
	n.extra = `communities = ["65000:100", "65010:1:2"]`
	w.serveBGP()
	w.startNode(n)
	w.hops(bgpVIP4, n.front4)
	w.hops(bgpVIP6, n.front6)
	w.answers(bgpVIP4)
	w.answers(bgpVIP6)
	out, err := w.bird.Ask(w.ctx, "show route all for 203.0.113.80")
	w.must(err)
	if !strings.Contains(out, "(65000,100)") || !strings.Contains(out, "(65010, 1, 2)") {
		t.Errorf("the router knows the route as\n%s", out)
	}

	var peers api.BGP
	w.command(n, &peers, "bgp", "peers")
	if len(peers.Peers) != 2 || peers.Peers[0].State != "established" || peers.Peers[0].Advertised["ipv4"] != 1 {
		t.Errorf("the sessions are %+v", peers)
	}

	// No backend: the node has nothing to send clients to.
	begin := time.Now()
	for _, s := range w.servers {
		w.must(s.Close())
	}
	w.hops(bgpVIP4)
	t.Logf("withdrawn %v after the last server was closed, with checks every 200 ms, of which two must fail", time.Since(begin).Round(time.Millisecond))
	var routes api.Announcements
	w.command(n, &routes, "bgp", "routes")
	if len(routes.VIPs) != 2 || routes.VIPs[0].Reason != "no_backends" || !slices.Equal(routes.VIPs[0].Services, []string{"web4"}) {
		t.Errorf("the announcements are %+v", routes)
	}
	for _, b := range w.topo.Backends {
		_, err := traffic.ServeHTTP(b.Host, ":80")
		w.must(err)
	}
	w.hops(bgpVIP4, n.front4)
	w.hops(bgpVIP6, n.front6)
	w.answers(bgpVIP4)

	// Another [bgp]: the sessions stay.
	n.extra = `communities = ["65000:200"]`
	w.must(n.Reread(w.text(n)))
	w.until("the router has the other community", func() bool {
		out, err := w.bird.Ask(w.ctx, "show route all for 203.0.113.80")
		return err == nil && strings.Contains(out, "(65000,200)") && !strings.Contains(out, "(65000,100)")
	})
	w.command(n, &peers, "bgp", "peers")
	for _, p := range peers.Peers {
		if p.Established != 1 {
			t.Errorf("after the change there were %d sessions with %s", p.Established, p.Name)
		}
	}
	w.must(n.Process().Stop(60 * time.Second))
	w.hops(bgpVIP4)
}

// bgp asks the node for its sessions.
func (n *bgpNode) bgp(ctx context.Context) (s api.BGP, err error) {
	err = n.Client().Call(ctx, "GET", "/v1/bgp", nil, nil, &s)
	return s, err
}

// TestBGPTwoNodes has the router spread over two nodes, and takes one out of
// service under traffic, by its operator and by a stop: not one request fails.
func TestBGPTwoNodes(t *testing.T) {
	t.Parallel()
	w := newBGPWorld(t, `
protocol bgp one4 from node4 { neighbor 198.18.0.1 as 65010; }
protocol bgp one6 from node6 { neighbor 2001:db8::1 as 65010; }
protocol bgp two4 from node4 { neighbor 198.18.0.2 as 65010; }
protocol bgp two6 from node6 { neighbor 2001:db8::2 as 65010; }
`)
	one, two := w.first(), w.second()
	one.extra, two.extra = "drain_delay = \"2s\"", "drain_delay = \"2s\""
	w.serveBGP()
	w.startNode(one)
	w.startNode(two)
	w.hops(bgpVIP4, one.front4, two.front4)
	w.hops(bgpVIP6, one.front6, two.front6)
	tally := w.load(func() {}) // one round
	t.Logf("over two nodes: %d answers %v", tally.Answers, tally.ByServer)
	for _, n := range w.nodes {
		s, err := n.Status(w.ctx)
		w.must(err)
		if s.Ledger.Transmitted == 0 {
			t.Errorf("%s has had no traffic", n.host.Name)
		}
	}

	var state api.DrainState
	tally = w.load(func() {
		w.command(one, &state, "drain")
		if state.Phase != "leaving" {
			t.Errorf("the drain has begun with %+v", state)
		}
		w.until("the router is asked for other ways", func() bool {
			out, err := w.bird.Ask(w.ctx, "show route all for 203.0.113.80 protocol one4")
			return err == nil && strings.Contains(out, "(65535,0)")
		})
		w.hops(bgpVIP4, two.front4)
		w.command(one, &state, "drain", "--wait")
	})
	if state.Phase != "drained" {
		t.Errorf("the drain has ended with %+v", state)
	}
	t.Logf("while one was drained: %d answers", tally.Answers)
	tally = w.load(func() {
		w.command(one, &state, "undrain")
		w.hops(bgpVIP4, one.front4, two.front4)
	})
	t.Logf("while it came back: %d answers", tally.Answers)
	tally = w.load(func() {
		w.must(two.Process().Stop(60 * time.Second))
		w.hops(bgpVIP4, one.front4)
	})
	t.Logf("while the other was stopped: %d answers", tally.Answers)
	if log := string(two.Log()); !strings.Contains(log, "the node is drained") {
		t.Error("the stopped node has not drained")
	}
}

// TestBFDFindsDeadNode stops a node's process without a word: the router's BFD
// finds out long before the hold time of BGP is over.
func TestBFDFindsDeadNode(t *testing.T) {
	t.Parallel()
	w := newBGPWorld(t, `protocol bgp one4 from node4 { neighbor 198.18.0.1 as 65010; bfd on; hold time 90; error wait time 1, 2; }`)
	n := w.first()
	n.extra = `hold_time = "90s"`
	n.peer = "[[bgp.peer]]\naddress = \"198.18.0.254\"\nasn = 65000\nbfd = { enabled = true }\n"
	w.serveBGP()
	w.startNode(n)
	w.hops(bgpVIP4, n.front4)
	w.until("BFD is up at both ends", func() bool {
		out, err := w.bird.Ask(w.ctx, "show bfd sessions")
		w.must(err)
		peers, err := n.bgp(w.ctx)
		w.must(err)
		return strings.Contains(out, "Up") && len(peers.Peers) == 1 && peers.Peers[0].BFD != nil && peers.Peers[0].BFD.State == "up"
	})
	begin := time.Now()
	w.must(n.Process().Signal(syscall.SIGSTOP))
	w.hops(bgpVIP4)
	t.Logf("the router has forgotten the node %v after its process was stopped", time.Since(begin).Round(time.Millisecond))
	w.must(n.Process().Signal(syscall.SIGCONT))
	w.hops(bgpVIP4, n.front4)
}
