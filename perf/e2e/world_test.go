package e2e

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/api"
	"fairlead/dataplane/reason"
	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
	"fairlead/xdp/decap"
)

// Ports of the services of a site, and of the servers behind NAT.
const (
	webPort    = 80
	namePort   = 53
	streamPort = 7
	natOffset  = 8000 // NAT changes the port: 80 is 8080 on the backend
)

// world is a lab with a running node. What it starts ends with its test.
type world struct {
	t    *testing.T
	ctx  context.Context
	topo *lab.Topology
	node *rig.Node

	prepare func(*exec.Cmd) error // done to the node's command before it is started; may be nil
	sites   []*site
	config  rig.Config // what sites do not say
	servers map[string]bool

	// rebound says that sockets or XDP programs were made anew, and with them
	// the counters of the kernel's: they no longer add up with the ledger's.
	rebound bool
}

// worldConfig says what to build.
type worldConfig struct {
	shape func(lab.Config) (*lab.Topology, error) // nil: lab.TwoArm
	lab   lab.Config
	limit time.Duration // of the whole test; 0: one minute
}

func newWorld(t *testing.T, cfg worldConfig) *world {
	t.Helper()
	if cfg.shape == nil {
		cfg.shape = lab.TwoArm
	}
	if cfg.limit == 0 {
		cfg.limit = time.Minute
	}
	topo, err := cfg.shape(cfg.lab)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := topo.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), cfg.limit)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, topo: topo, servers: map[string]bool{}}
	w.config = rig.Config{
		Neighbors: rig.Neighbors(topo.Back.Interface, topo.Backends...),
		SNAT:      []netip.Addr{topo.SNAT4(1), topo.SNAT6(1)},
		Tunnel4:   topo.Back.IPv4, Tunnel6: topo.Back.IPv6,
		Interfaces: []rig.Interface{{Name: topo.Front.Interface.Name}},
	}
	if topo.Back.Interface != topo.Front.Interface {
		w.config.Interfaces = append(w.config.Interfaces, rig.Interface{Name: topo.Back.Interface.Name})
	}
	return w
}

// method is a way of forwarding and the families it is used with.
type method struct {
	name            string
	vip6, backends6 bool
}

func (m method) String() string {
	family := func(is6 bool) string {
		if is6 {
			return "6"
		}
		return "4"
	}
	if m.tunnel() {
		return m.name + " " + family(m.vip6) + "in" + family(m.backends6)
	}
	return m.name + " " + family(m.vip6)
}

func (m method) tunnel() bool { return m.name == "ipip" || m.name == "gue" }
func (m method) direct() bool { return m.name != "nat" }

var (
	nat4    = method{"nat", false, false}
	nat6    = method{"nat", true, true}
	ipip4   = method{"ipip", false, false}
	ipip6   = method{"ipip", true, true}
	gue4    = method{"gue", false, false}
	gue6    = method{"gue", true, true}
	direct4 = method{"l2", false, false}
	direct6 = method{"l2", true, true}
)

// site is a virtual address with three services (web, name, stream) and the
// backends of all three.
type site struct {
	method
	name    string
	vip     netip.Addr
	members []member
	options string // lines for each of its services
	health  string // lines for each of its pools
}

// member is a backend of a site.
type member struct {
	*lab.Node
	weight int
}

// members are nodes with weight 1.
func members(nodes ...*lab.Node) []member {
	var all []member
	for _, n := range nodes {
		all = append(all, member{n, 1})
	}
	return all
}

// addSite makes a site of all backends with the next free routed VIP.
func (w *world) addSite(m method) *site {
	w.t.Helper()
	n := len(w.sites) + 1
	vip := w.topo.VIP4(n)
	if m.vip6 {
		vip = w.topo.VIP6(n)
	}
	return w.addSiteAt(m, vip)
}

func (w *world) addSiteAt(m method, vip netip.Addr) *site {
	w.t.Helper()
	s := &site{method: m, name: fmt.Sprintf("s%d", len(w.sites)+1), vip: vip, members: members(w.topo.Backends...)}
	w.sites = append(w.sites, s)
	return s
}

func (s *site) at(port uint16) netip.AddrPort { return netip.AddrPortFrom(s.vip, port) }

func (s *site) service(port uint16) string {
	return s.name + "-" + map[uint16]string{webPort: "web", namePort: "name", streamPort: "stream"}[port]
}

// text is the configuration of the sites as they are now.
func (w *world) text() string {
	c := w.config
	for _, s := range w.sites {
		for _, port := range []uint16{webPort, namePort, streamPort} {
			protocol := "tcp"
			if port == namePort {
				protocol = "udp"
			}
			pool := s.name
			if !s.direct() {
				pool = s.service(port)
			}
			if s.direct() && port == webPort || !s.direct() {
				c.Pools = append(c.Pools, s.pool(pool, port))
			}
			c.Services = append(c.Services, rig.Service{
				Name: s.service(port), VIP: s.vip, Protocol: protocol, Port: port, Pool: pool, Method: s.method.name, Options: s.options,
			})
		}
	}
	return c.Text()
}

func (s *site) pool(name string, port uint16) rig.Pool {
	p := rig.Pool{Name: name, Options: s.health}
	for _, m := range s.members {
		b := rig.Backend{Address: m.IPv4, Weight: m.weight, Name: m.Name}
		if s.backends6 {
			b.Address = m.IPv6
		}
		if !s.direct() {
			b.Port = natOffset + port
		}
		p.Backends = append(p.Backends, b)
	}
	return p
}

// serve starts the servers on all backends and makes them backends of the
// sites: owners of the VIPs that packets still carry when they arrive, and
// decapsulating.
func (w *world) serve() {
	w.t.Helper()
	for _, b := range w.topo.Backends {
		w.serveOn(b)
	}
}

func (w *world) serveOn(b *lab.Node) {
	w.t.Helper()
	if w.servers[b.Name] {
		return
	}
	w.servers[b.Name] = true
	var vips []netip.Addr
	tunnels := false
	for _, s := range w.sites {
		if s.direct() {
			vips = append(vips, s.vip)
		}
		tunnels = tunnels || s.tunnel()
	}
	if len(vips) > 0 {
		w.must(rig.Own(b, vips...))
	}
	if tunnels {
		_, err := rig.Decapsulate(b, decap.Config{VIPs: vips, LoadBalancers: []netip.Prefix{
			netip.PrefixFrom(w.config.Tunnel4, 32), netip.PrefixFrom(w.config.Tunnel6, 128),
		}})
		w.must(err)
	}
	for _, offset := range []int{0, natOffset} {
		_, err := traffic.ServeHTTP(b.Host, fmt.Sprintf(":%d", offset+webPort))
		w.must(err)
		_, err = traffic.ServeUDP(b.Host, fmt.Sprintf(":%d", offset+namePort))
		w.must(err)
		_, err = traffic.ServeStream(b.Host, fmt.Sprintf(":%d", offset+streamPort))
		w.must(err)
	}
}

// start runs fairlead with the sites' configuration.
func (w *world) start() {
	w.t.Helper()
	w.startBinary(binary)
}

// startBinary is start with another binary.
func (w *world) startBinary(binary string) {
	w.t.Helper()
	node, err := rig.StartPrepared(w.ctx, binary, w.t.TempDir(), w.topo.LB, w.text(), w.prepare)
	w.node = node
	w.t.Cleanup(func() {
		if w.t.Failed() && w.node != nil {
			w.t.Logf("the node's last words:\n%s", last(w.node.Log(), 100))
		}
	})
	w.must(err)
}

// last is the last n lines of a text.
func last(text []byte, n int) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n-1):], nil)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// reload puts the sites' present configuration in force.
func (w *world) reload() {
	w.t.Helper()
	w.must(w.node.Reload(w.ctx, w.text()))
}

func (w *world) status() *api.Status {
	w.t.Helper()
	s, err := w.node.Status(w.ctx)
	w.must(err)
	return s
}

// balance waits until the ledger balances and every worker decides by the
// latest generation. It demands that no frame was dropped for a reason other
// than those given, and that the kernel's counters add up with the ledger.
func (w *world) balance(drops ...string) *api.Status {
	w.t.Helper()
	s, err := w.node.Balance(w.ctx)
	w.must(err)
	if !w.rebound {
		// A frame may be on its way from the XDP program to the worker.
		ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
		defer cancel()
		if err := w.node.Until(ctx, func(now *api.Status) bool { s = now; return settled(now) }); err != nil {
			w.t.Errorf("the XDP program redirected %d frames and forwarded %d, received are %d, and sockets lost %d",
				s.Steering["redirected"], s.Steering["memo"], s.Ledger.Received, lost(s))
		}
	}
	known := map[string]bool{}
	for _, r := range drops {
		known[r] = true
	}
	for name, n := range s.Ledger.Reasons {
		if why, ok := reason.Parse(name); (!ok || why.Action() == reason.Drop) && !known[name] {
			w.t.Errorf("%d frames were dropped: %s", n, name)
		}
	}
	w.t.Logf("ledger: received %d + created %d = transmitted %d + dropped %d; %s; XDP program %v; sockets %v",
		s.Ledger.Received, s.Ledger.Created, s.Ledger.Transmitted, s.Ledger.Dropped, reasons(s), s.Steering, s.Sockets)
	for _, bad := range []string{"rx_invalid", "tx_invalid"} {
		if n := s.Sockets[bad]; n != 0 {
			w.t.Errorf("sockets counted %d %s", n, bad)
		}
	}
	return s
}

// flows demands that a site's service, and with NAT, where it has a pool of its
// own, that pool's backends together, counted from least to most new flows.
func (w *world) flows(status *api.Status, s *site, port uint16, least, most uint64) {
	w.t.Helper()
	i := slices.IndexFunc(status.Services, func(v api.Service) bool { return v.Name == s.service(port) })
	if i < 0 {
		w.t.Errorf("%s: the status does not know %s", s.method, s.service(port))
		return
	}
	service := &status.Services[i]
	if service.Flows < least || service.Flows > most {
		w.t.Errorf("%s: %s counted %d flows, want %d to %d", s.method, service.Name, service.Flows, least, most)
	}
	var sum uint64
	for _, b := range service.Backends {
		sum += b.Flows
	}
	if !s.direct() && sum != service.Flows {
		w.t.Errorf("%s: %s counted %d flows, its backends %d", s.method, service.Name, service.Flows, sum)
	}
}

// lost is how many frames the kernel could not put into a socket's ring.
func lost(s *api.Status) uint64 { return s.Sockets["rx_dropped"] + s.Sockets["rx_ring_full"] }

// settled reports whether every frame that the XDP program took, for a worker or
// to forward it by itself, is accounted for.
func settled(s *api.Status) bool {
	return s.Ledger.Difference == 0 && s.Ledger.InFlight == 0 && s.Ledger.Received+lost(s) == s.Steering["redirected"]+s.Steering["memo"]
}

func reasons(s *api.Status) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(s.Ledger.Reasons)) {
		all = append(all, fmt.Sprintf("%s %d", name, s.Ledger.Reasons[name]))
	}
	return strings.Join(all, ", ")
}

// http makes n connections through a site and demands that all are answered.
func (w *world) http(s *site, n int) *traffic.Tally {
	w.t.Helper()
	tally := traffic.HTTPLoad{Target: s.at(webPort), Connections: n, Parallel: 8}.Run(w.ctx, w.topo.Client.Host)
	if err := tally.Err(); err != nil {
		w.t.Errorf("%s: HTTP: %v", s.method, err)
	}
	return tally
}

// udp asks n questions of each of so many flows and demands all answers.
func (w *world) udp(s *site, flows, n int) *traffic.Tally {
	w.t.Helper()
	tally := traffic.UDPLoad{Target: s.at(namePort), Flows: flows, Parallel: 10, PerFlow: n}.Run(w.ctx, w.topo.Client.Host)
	if err := tally.Err(); err != nil {
		w.t.Errorf("%s: UDP: %v", s.method, err)
	}
	if tally.Moves > 0 {
		w.t.Errorf("%s: UDP: %d answers came from another server than the one before", s.method, tally.Moves)
	}
	return tally
}

// transfer moves bytes and demands that they are the right ones.
func (w *world) transfer(s *site, d traffic.Direction, bytes int64) {
	w.t.Helper()
	r, err := traffic.Transfer{Target: s.at(streamPort), Direction: d, Bytes: bytes, Seed: uint64(bytes)}.Run(w.ctx, w.topo.Client.Host)
	if err != nil {
		w.t.Errorf("%s: %v", s.method, err)
		return
	}
	w.t.Logf("%s: %s of %d MB in %v, %.0f MB/s", s.method, d, bytes>>20, r.Elapsed.Round(time.Millisecond),
		float64(bytes)/1e6/r.Elapsed.Seconds())
}

// spread demands that every member of a site got a fair part of the answers.
func (w *world) spread(s *site, tally *traffic.Tally) {
	w.t.Helper()
	for _, m := range s.members {
		if got, fair := tally.ByServer[m.Name], tally.Answers/len(s.members); got < fair/3 {
			w.t.Errorf("%s: %s gave %d of %d answers", s.method, m.Name, got, tally.Answers)
		}
	}
}

// sees demands that servers saw the address they should: the client's own, or
// with NAT one of the node's.
func (w *world) sees(s *site, tally *traffic.Tally) {
	w.t.Helper()
	want := w.topo.Client.IPv4
	switch {
	case !s.direct() && s.backends6:
		want = w.config.SNAT[1]
	case !s.direct():
		want = w.config.SNAT[0]
	case s.vip6:
		want = w.topo.Client.IPv6
	}
	if len(tally.Clients) != 1 || tally.Clients[want] == 0 {
		w.t.Errorf("%s: servers saw clients %v, want %s alone", s.method, tally.Clients, want)
	}
}
