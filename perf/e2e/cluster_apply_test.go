package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
)

// sharedSite is a service by NAT at the n-th virtual address of a rack.
func sharedSite(rack *lab.Rack, n int) (rig.Pool, rig.Service) {
	name := fmt.Sprintf("s%d", n)
	pool := rig.Pool{Name: name}
	for _, b := range rack.Backends {
		pool.Backends = append(pool.Backends, rig.Backend{Address: b.IPv4, Port: webPort + natOffset, Weight: 1, Name: b.Name})
	}
	return pool, rig.Service{Name: name, VIP: rack.VIP4(n), Protocol: "tcp", Port: webPort, Pool: name, Method: "nat"}
}

// sharedText is a document with the services of these numbers.
func sharedText(rack *lab.Rack, numbers ...int) string {
	c := rig.Config{}
	for _, n := range numbers {
		pool, service := sharedSite(rack, n)
		c.Pools, c.Services = append(c.Pools, pool), append(c.Services, service)
	}
	return strings.Replace(c.Text(), "[xdp]\npin_path = \"\"\n", "", 1)
}

// ownText is what belongs to node i alone.
func ownText(rack *lab.Rack, i int) string {
	return (&rig.Config{Interfaces: []rig.Interface{{Name: "eth0"}}, SNAT: []netip.Addr{rack.SNAT4(i + 1)}}).Text()
}

// newSharedWorld is three nodes of which the first has service 1 in its file.
func newSharedWorld(t *testing.T) *clusterWorld {
	t.Helper()
	w := newClusterWorld(t, 3, lab.Config{Backends: 2}, func(rack *lab.Rack, i int) string {
		if i == 0 {
			return ownText(rack, i) + sharedText(rack, 1)
		}
		return ownText(rack, i)
	})
	for _, b := range w.Backends {
		s, err := traffic.ServeHTTP(b.Host, fmt.Sprintf(":%d", webPort+natOffset))
		w.must(err)
		t.Cleanup(func() { w.must(s.Close()) })
	}
	w.serves("s1", 0, 1, 2)
	return w
}

// serves waits until nodes have exactly these services in force.
func (w *clusterWorld) serves(names string, nodes ...int) {
	w.t.Helper()
	for _, i := range nodes {
		got := ""
		err := w.Nodes[i].Until(w.ctx, func(s *api.Status) bool {
			var list []string
			for _, one := range s.Services {
				list = append(list, one.Name)
			}
			slices.Sort(list)
			got = strings.Join(list, " ")
			return got == names && s.Generation.Acknowledged == s.Generation.Published
		})
		if err != nil {
			w.t.Fatalf("%s serves %q, not %q: %v", w.Balancers[i].Name, got, names, err)
		}
	}
}

// through makes connections to service n by way of each of the nodes.
func (w *clusterWorld) through(n int, nodes ...int) {
	w.t.Helper()
	for _, i := range nodes {
		w.must(w.way(w.VIP4(n), i))
		tally := traffic.HTTPLoad{Target: netip.AddrPortFrom(w.VIP4(n), webPort), Connections: 20, Parallel: 5}.Run(w.ctx, w.Client.Host)
		if tally.Failed() > 0 {
			w.t.Fatalf("service %d by way of %s: %v", n, w.Balancers[i].Name, tally)
		}
	}
}

// way has the client send packets for an address to node i.
func (w *clusterWorld) way(to netip.Addr, i int) error {
	link, err := w.Client.Host.Netlink().LinkByName("eth0")
	if err != nil {
		return err
	}
	return w.Client.Host.Netlink().NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.IP(to.AsSlice()), HardwareAddr: w.Balancers[i].Interface.MAC,
	})
}

// send applies a document on node i.
func (w *clusterWorld) send(ctx context.Context, i int, text string, q url.Values) (*api.ConfigResult, error) {
	var result api.ConfigResult
	err := w.Nodes[i].Client().Call(ctx, http.MethodPost, "/v1/config/apply", q, api.Document{Type: "application/toml", Text: []byte(text)}, &result)
	return &result, err
}

// says waits until the status of node i has a condition with all of these words.
func (w *clusterWorld) says(i int, typ string, words ...string) {
	w.t.Helper()
	var last []api.DesiredCondition
	err := w.Nodes[i].Until(w.ctx, func(s *api.Status) bool {
		last = s.Desired.Conditions
		return slices.ContainsFunc(last, func(c api.DesiredCondition) bool {
			return c.Type == typ && !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(c.Message, word) })
		})
	})
	if err != nil {
		w.t.Fatalf("%s says %+v, not %s with %q: %v", w.Balancers[i].Name, last, typ, words, err)
	}
}

// settings waits until nodes have so many settings of backends.
func (w *clusterWorld) settings(want int, nodes ...int) {
	w.t.Helper()
	for _, i := range nodes {
		var got api.BackendSettings
		err := w.Nodes[i].Until(w.ctx, func(*api.Status) bool {
			got = api.BackendSettings{}
			err := w.Nodes[i].Client().Call(w.ctx, http.MethodGet, "/v1/backend-settings", nil, nil, &got)
			return err == nil && len(got.Settings) == want
		})
		if err != nil {
			w.t.Fatalf("%s has %+v, not %d settings: %v", w.Balancers[i].Name, got, want, err)
		}
	}
}

// withoutNewFlows waits until the table that node i goes by gives a backend no part.
func (w *clusterWorld) withoutNewFlows(service, backend string, i int) {
	w.t.Helper()
	w.must(w.Nodes[i].Until(w.ctx, func(s *api.Status) bool {
		for j := range s.Services {
			for _, b := range s.Services[j].Backends {
				if s.Services[j].Name == service && b.Name == backend {
					return b.Expected == 0 && s.Generation.Acknowledged == s.Generation.Published
				}
			}
		}
		return false
	}))
}

// TestClusterApply: what is changed on any node is so on all, in two steps, and
// each of them forwards by it.
func TestClusterApply(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t)
	w.through(1, 0, 1, 2)
	result, err := w.send(w.ctx, 1, sharedText(w.Rack, 2), url.Values{"comment": {"a second one"}})
	w.must(err)
	if len(result.Warnings) > 0 {
		t.Errorf("warnings %q", result.Warnings)
	}
	w.serves("s1 s2", 0, 1, 2)
	w.through(2, 0, 1, 2)

	// One node cannot: nothing changes anywhere, and it is named.
	clash := strings.Replace(sharedText(w.Rack, 3), w.VIP4(3).String(), w.SNAT4(3).String(), 1)
	_, err = w.send(w.ctx, 0, clash, nil)
	if err == nil || !strings.HasPrefix(err.Error(), `node "lb3" refuses the change, and it is made nowhere: `) || !strings.HasSuffix(err.Error(), "SNAT address "+w.SNAT4(3).String()+" is also a VIP") {
		t.Fatalf("got %v", err)
	}
	w.serves("s1 s2", 0, 1, 2)

	// What operators set of backends.
	w.must(w.Nodes[2].Client().Call(w.ctx, http.MethodPost, "/v1/backend-settings", nil, api.SetBackend{Pool: "s1", Backend: "b1", State: "drained"}, nil))
	w.settings(1, 0, 1, 2)
	w.withoutNewFlows("s1", "b1", 0)
	w.must(w.way(w.VIP4(1), 0))
	tally := traffic.HTTPLoad{Target: netip.AddrPortFrom(w.VIP4(1), webPort), Connections: 20, Parallel: 5}.Run(w.ctx, w.Client.Host)
	if tally.Failed() > 0 || tally.ByServer["b1"] > 0 {
		t.Errorf("with b1 drained on lb3, lb1 sends: %v", tally)
	}
	w.must(w.Nodes[0].Client().Call(w.ctx, http.MethodPost, "/v1/backend-settings", nil, api.SetBackend{Pool: "s1", Backend: "b1", State: "enabled"}, nil))
	w.settings(0, 0, 1, 2)

	// A node that is dead takes the change when it is back.
	w.must(w.Kill(w.ctx, 2))
	w.untilSaid(1, []string{"a member of the cluster is dead", "node=lb3"}, 0, 1)
	_, err = w.send(w.ctx, 1, sharedText(w.Rack, 2, 4), url.Values{"requireAll": {"true"}})
	if want := `the change is made nowhere: it needs all nodes, and these were not asked: "lb3" (dead)`; err == nil || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	result, err = w.send(w.ctx, 1, sharedText(w.Rack, 2, 4), nil)
	w.must(err)
	if want := []string{`node "lb3" was not asked (dead); it takes the change over when it is back`}; !slices.Equal(result.Warnings, want) {
		t.Errorf("warnings %q, want %q", result.Warnings, want)
	}
	w.must(w.Nodes[2].Launch(w.ctx))
	w.serves("s1 s2 s4", 0, 1, 2)
	w.through(4, 0, 1, 2)

	// A rollback on a third node.
	w.must(w.Nodes[0].Client().Call(w.ctx, http.MethodPost, "/v1/config/rollback", nil, nil, &api.ConfigResult{}))
	w.serves("s1 s2", 0, 1, 2)
}

// TestClusterApplyPartition: both halves take changes; when they meet, the later one
// holds on all nodes, and the others say whose change was replaced.
func TestClusterApplyPartition(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t)
	w.must(w.Part([]*lab.Node{w.Balancers[0]}))
	w.untilSaid(1, []string{"a member of the cluster is dead", "node=lb1"}, 1, 2)
	w.untilSaid(1, []string{"a member of the cluster is dead", "node=lb2"}, 0)
	w.untilSaid(1, []string{"a member of the cluster is dead", "node=lb3"}, 0)
	_, err := w.send(w.ctx, 0, sharedText(w.Rack, 2), nil)
	w.must(err)
	w.serves("s1 s2", 0)
	_, err = w.send(w.ctx, 1, sharedText(w.Rack, 3), nil)
	w.must(err)
	w.serves("s1 s3", 1, 2)
	w.must(w.Part())
	w.serves("s1 s3", 0, 1, 2)
	w.says(0, "cluster_replaced", `on node "lb1"`, `was replaced by the change of what was sent by`, `on node "lb2"`)
	w.untilSaid(1, []string{"a change was replaced"}, 0)
	w.through(3, 0, 1, 2)
}

// TestClusterLateNode: a node that joins late, with a file of its own, takes what
// there is and changes nothing, until its operator wants that.
func TestClusterLateNode(t *testing.T) {
	t.Parallel()
	rack, err := lab.NewRack(3, lab.Config{Backends: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rack.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	w := &clusterWorld{t: t, ctx: ctx}
	all := rack.Balancers
	rack.Balancers = all[:1]
	w.Cluster, err = rig.StartCluster(ctx, binary, t.TempDir(), rack, func(i int) string {
		return ownText(rack, i) + sharedText(rack, 1+i%2*4)
	})
	w.must(err)
	for _, b := range w.Backends {
		s, err := traffic.ServeHTTP(b.Host, fmt.Sprintf(":%d", webPort+natOffset))
		w.must(err)
		t.Cleanup(func() { w.must(s.Close()) })
	}
	w.serves("s1", 0)
	rack.Balancers = all[:2]
	w.must(w.Add(ctx, 1))
	w.serves("s1", 0, 1)
	w.says(1, "cluster_file_differs", `which are those of node "lb1"`)
	_, err = w.send(ctx, 1, sharedText(rack, 2), nil)
	w.must(err)
	w.serves("s1 s2", 0, 1)
	rack.Balancers = all
	w.must(w.Add(ctx, 2))
	w.serves("s1 s2", 0, 1, 2)
	w.through(2, 2)
	// One file takes the place of the others when that is asked for.
	var result api.ConfigResult
	w.must(w.Nodes[1].Client().Call(ctx, http.MethodPost, "/v1/config/reload", url.Values{"publish": {"true"}}, nil, &result))
	w.serves("s2 s5", 0, 1, 2)
	w.through(5, 0, 1, 2)
	w.says(0, "cluster_file_differs", `which are those of node "lb2"`)
}

// TestClusterApplyKilled kills the node that a change is made on, at any moment of
// it: afterwards all nodes have the change, or none has.
func TestClusterApplyKilled(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t)
	seen := map[string]bool{}
	have := []int{}
	for round, after := range []time.Duration{0, 4 * time.Millisecond, 40 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
		done := make(chan error, 1)
		next := round + 2
		go func() {
			_, err := w.send(ctx, 1, sharedText(w.Rack, append(slices.Clone(have), next)...), nil)
			done <- err
		}()
		time.Sleep(after) // the moment is what varies
		w.must(w.Kill(w.ctx, 1))
		err := <-done
		cancel()
		if err != nil && errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("round %d: %v", round, err)
		}
		w.must(w.Nodes[1].Launch(w.ctx))
		w.agree(seen)
		for name := range seen {
			var n int
			if _, err := fmt.Sscanf(name, "s%d", &n); err == nil && n > 1 && !slices.Contains(have, n) {
				have = append(have, n)
			}
		}
		t.Logf("killed after %v: %v, then %v", after, err, slices.Sorted(maps.Keys(seen)))
	}
	// The cluster takes changes as before.
	_, err := w.send(w.ctx, 1, sharedText(w.Rack, 9), nil)
	w.must(err)
	w.serves("s1 s9", 0, 1, 2)
	w.through(9, 0, 1, 2)
}

// agree waits until all nodes tell the same of what all share, and have it in
// force.
func (w *clusterWorld) agree(names map[string]bool) {
	w.t.Helper()
	for {
		var all [3]string
		for i := range all {
			var c api.VersionedConfig
			w.must(w.Nodes[i].Client().Call(w.ctx, http.MethodGet, "/v1/config", nil, nil, &c))
			for _, s := range c.Sources {
				if s.Source != "file" {
					all[i] += s.Source + ":\n" + s.Text
				}
			}
		}
		if all[0] == all[1] && all[1] == all[2] {
			status, err := w.Nodes[0].Status(w.ctx)
			w.must(err)
			clear(names)
			for _, s := range status.Services {
				names[s.Name] = true
			}
			return
		}
		select {
		case <-w.ctx.Done():
			w.t.Fatalf("the nodes do not agree:\n%s", strings.Join(all[:], "\n---\n"))
		case <-time.After(5 * time.Millisecond):
		}
	}
}
