package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
)

// probed is a TCP port of a backend that notes who asks.
type probed struct {
	mu   sync.Mutex
	from []netip.Addr // in order
}

func newProbed(w *clusterWorld, b *lab.Node) *probed {
	w.t.Helper()
	p := &probed{}
	ln, err := b.Host.Listen("tcp", fmt.Sprintf(":%d", healthPort))
	w.must(err)
	w.t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.from = append(p.from, conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
			p.mu.Unlock()
			conn.Close()
		}
	}()
	return p
}

// askers are the sources of the last probes; nil when there have not been so many.
func (p *probed) askers(last int) map[netip.Addr]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.from) < last {
		return nil
	}
	by := map[netip.Addr]int{}
	for _, a := range p.from[len(p.from)-last:] {
		by[a]++
	}
	return by
}

func (p *probed) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from = nil
}

// cut has a node reach none of these backends by what its own stack sends.
func (w *clusterWorld) cut(node int, from ...*lab.Node) {
	w.t.Helper()
	rules := []string{"add table inet cut", "delete table inet cut", "add table inet cut", "add chain inet cut output { type filter hook output priority 0; }"}
	for _, b := range from {
		rules = append(rules, fmt.Sprintf("add rule inet cut output ip daddr %s drop", b.IPv4))
	}
	w.must(w.Balancers[node].Host.Do(func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(strings.Join(rules, "\n") + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s", err, out)
		}
		return nil
	}))
}

// untilBackends waits until all nodes show of the backends what ok demands.
func (w *clusterWorld) untilBackends(what string, ok func(name string, h *api.BackendHealth) bool) {
	w.t.Helper()
	for i, n := range w.Nodes {
		var last []api.Backend
		err := n.Until(w.ctx, func(s *api.Status) bool {
			if len(s.Services) == 0 {
				return false
			}
			last = s.Services[0].Backends
			for j := range last {
				if last[j].Health == nil || !ok(last[j].Name, last[j].Health) {
					return false
				}
			}
			return len(last) == len(w.Backends)
		})
		if err != nil {
			for _, b := range last {
				w.t.Logf("%s of %s: %+v", b.Name, w.Balancers[i].Name, b.Health)
			}
			w.t.Fatalf("%s: waited in vain for: %s: %v", w.Balancers[i].Name, what, err)
		}
	}
}

// untilCondition waits until the status of nodes has a condition with these words.
func (w *clusterWorld) untilCondition(nodes []int, words ...string) {
	w.t.Helper()
	for _, i := range nodes {
		var last []api.Condition
		err := w.Nodes[i].Until(w.ctx, func(s *api.Status) bool {
			last = s.Conditions
			return slices.ContainsFunc(last, func(c api.Condition) bool {
				text := c.Subject + ": " + c.Message
				return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(text, word) })
			})
		})
		if err != nil {
			w.t.Fatalf("%s has no condition with %q: %+v: %v", w.Balancers[i].Name, words, last, err)
		}
	}
}

// scrape is what a node says to Prometheus.
func (w *clusterWorld) scrape(node int) string {
	w.t.Helper()
	r, err := w.Nodes[node].Client().Open(w.ctx, http.MethodGet, "/metrics", nil, nil)
	w.must(err)
	defer r.Close()
	text, err := io.ReadAll(r)
	w.must(err)
	return string(text)
}

// views are what the nodes have found of a backend, by their names.
func views(h *api.BackendHealth) map[string]string {
	m := map[string]string{}
	for _, n := range h.Nodes {
		m[n.Node] = n.State
	}
	return m
}

// TestClusterHealth: three nodes share the checks of three backends. A backend that
// one of them cannot reach stays up everywhere and goes on serving, and the node is
// shown; one that two cannot reach is down everywhere. A node that reaches none is
// suspected by all, and leaves its VIPs to the others.
func TestClusterHealth(t *testing.T) {
	t.Parallel()
	w := newClusterWorld(t, 3, lab.Config{Backends: 3}, func(r *lab.Rack, i int) string {
		text := fmt.Sprintf(`[xdp]
pin_path = ""
[cluster.health]
checkers = 1
[[interface]]
name = "eth0"
[[snat]]
address = %q
[[pool]]
name = "web"
[pool.health]
type = "tcp"
port = %d
interval = "500ms"
timeout = "500ms"
rise = 1
fall = 3
`, r.SNAT4(i+1), healthPort)
		for _, b := range r.Backends {
			text += fmt.Sprintf("[[pool.backend]]\nname = %q\naddress = \"%s:%d\"\n", b.Name, b.IPv4, webPort)
		}
		for i := range 5 {
			text += fmt.Sprintf("[[service]]\nname = \"web%d\"\nvip = %q\nprotocol = \"tcp\"\nport = %d\npool = \"web\"\n", i+1, r.VIP4(i+1), webPort)
		}
		return text
	})
	ports := map[string]*probed{}
	for _, b := range w.Backends {
		ports[b.Name] = newProbed(w, b)
		_, err := traffic.ServeHTTP(b.Host, fmt.Sprintf(":%d", webPort))
		w.must(err)
	}
	everybody := []int{0, 1, 2}
	allUp := func(_ string, h *api.BackendHealth) bool {
		return h.State == "up" && len(h.Nodes) == 1 && h.Nodes[0].State == "up"
	}
	w.untilBackends("each is up, by the checks of one node", allUp)
	for name, p := range ports {
		p.forget()
		for by := p.askers(6); len(by) != 1; by = p.askers(6) {
			if w.ctx.Err() != nil {
				t.Fatalf("%s is asked by %v", name, by)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}

	foundDown := map[int]int{} // before the servers were there
	for _, i := range everybody {
		foundDown[i] = w.Said(i, "backend is down")
	}

	// One node cannot reach one backend: the one whose turn it is to check it.
	const target = "b2"
	checker := -1
	w.must(w.Nodes[0].Until(w.ctx, func(s *api.Status) bool {
		for _, b := range s.Services[0].Backends {
			if b.Name == target && len(b.Health.Nodes) == 1 {
				checker = slices.IndexFunc(w.Balancers, func(n *lab.Node) bool { return n.Name == b.Health.Nodes[0].Node })
			}
		}
		return checker >= 0
	}))
	name, other := w.Balancers[checker].Name, (checker+1)%3
	w.cut(checker, w.Backends[1])
	w.untilBackends("b2 is up, by the checks of the two others", func(backend string, h *api.BackendHealth) bool {
		v := views(h)
		return h.State == "up" && (backend != target || len(v) == 3 && v[name] == "down" && v[w.Balancers[other].Name] == "up")
	})
	w.untilCondition([]int{checker}, "health checks of this node", "cannot reach 1 of the", "web "+w.Backends[1].IPv4.String())
	w.untilCondition([]int{other}, "health checks of node "+name, "cannot reach 1 of the")
	for _, want := range []string{
		fmt.Sprintf("fairlead_cluster_health_missed{member=%q} 1\n", name), fmt.Sprintf("fairlead_cluster_health_missed{member=%q} 0\n", w.Balancers[other].Name),
	} {
		if text := w.scrape(other); !strings.Contains(text, want) {
			t.Errorf("%s is not in a scrape", want)
		}
	}
	tally := traffic.HTTPLoad{Target: netip.AddrPortFrom(w.VIP4(1), webPort), Connections: 60, Parallel: 6}.Run(w.ctx, w.Client.Host)
	w.must(tally.Err())
	if tally.ByServer[target] == 0 {
		t.Errorf("%s got no connection: %v", target, tally.ByServer)
	}
	for _, i := range everybody {
		if n := w.Said(i, "backend is down") - foundDown[i]; n > 0 {
			t.Errorf("%s has found %d backends down", w.Balancers[i].Name, n)
		}
	}

	// Two of three cannot reach it.
	w.cut(other, w.Backends[1])
	w.untilBackends("b2 is down everywhere", func(backend string, h *api.BackendHealth) bool {
		return (h.State == "down") == (backend == target)
	})
	w.cut(other)
	w.cut(checker)
	w.untilBackends("all are up again, by the checks of one node each", allUp)

	// One node reaches nothing.
	w.cut(checker, w.Backends...)
	w.untilSaid(1, []string{"this node cannot reach most backends that others reach"}, checker)
	w.untilCondition([]int{other}, "health checks of node "+name, "contradict what the other nodes agree on")
	w.untilCondition([]int{checker}, "health checks of this node", "contradict what the other nodes agree on")
	seen, err := w.Nodes[other].Client().ClusterStatus(w.ctx)
	w.must(err)
	if !slices.ContainsFunc(seen.Conditions, func(c api.Condition) bool { return c.Subject == "health checks of node "+name }) {
		t.Errorf("the cluster's status says %+v", seen.Conditions)
	}
	w.untilBackends("all are up", func(_ string, h *api.BackendHealth) bool { return h.State == "up" })
	w.untilNotOwner(other, name, 5)
	if text := w.scrape(checker); !strings.Contains(text, "fairlead_cluster_health_unfit 1\n") || !strings.Contains(text, fmt.Sprintf("fairlead_cluster_health_suspected{member=%q} 1\n", name)) {
		t.Error("the node does not say that it is suspected and unfit")
	}
	w.documented(w.scrape(checker), "fairlead_cluster_health_")
}

// untilNotOwner waits until so many VIPs have owners, and none of them is the one
// named, as a node sees it.
func (w *clusterWorld) untilNotOwner(asked int, name string, vips int) {
	w.t.Helper()
	for {
		owners := map[string]string{}
		w.must(w.Nodes[asked].Client().Addresses(w.ctx, nil, func(a *api.Address) error {
			if a.Owner != "" && a.Owner != name {
				owners[a.Address] = a.Owner
			}
			return nil
		}))
		if len(owners) == vips {
			return
		}
		select {
		case <-w.ctx.Done():
			w.t.Fatalf("VIPs are with %v, want %d that are not with %s", owners, vips, name)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// documented demands that docs/metrics.md has the metrics of a scrape whose names
// begin so, with their meanings, and no others of them.
func (w *clusterWorld) documented(text, prefix string) {
	w.t.Helper()
	page, err := os.ReadFile("../../docs/metrics.md")
	w.must(err)
	known := map[string]string{}
	for _, row := range metricRow.FindAllStringSubmatch(string(page), -1) {
		if strings.HasPrefix(row[1], prefix) {
			known[row[1]] = row[2] + " " + row[4]
		}
	}
	types := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(text, -1) {
		types[row[1]] = row[2]
	}
	for _, row := range regexp.MustCompile(`(?m)^# HELP (\S+) (.*)$`).FindAllStringSubmatch(text, -1) {
		if strings.HasPrefix(row[1], prefix) {
			if got := types[row[1]] + " " + row[2]; known[row[1]] != got {
				w.t.Errorf("docs/metrics.md says of %s %q; the scrape: %q", row[1], known[row[1]], got)
			}
			delete(known, row[1])
		}
	}
	for name := range known {
		w.t.Errorf("docs/metrics.md has %s, which is in no scrape", name)
	}
}
