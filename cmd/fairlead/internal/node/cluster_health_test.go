package node

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"fairlead/cluster/clustertest"
	"fairlead/configs"
	"fairlead/controlplane/api"
	"fairlead/controlplane/health"
	"fairlead/controlplane/model"
	"fairlead/controlplane/serving"
)

// TestDividedChecks: three nodes check twelve backends, each by one of them, and all
// know what each is; when one dies, the others go on with its checks.
func TestDividedChecks(t *testing.T) {
	names := []string{"a", "b", "c"}
	world := clustertest.New(t, names...)
	check := (&model.Check{Type: model.CheckTCP, Interval: 50 * time.Millisecond, Timeout: 10 * time.Second}).WithDefaults()
	state := &model.State{Pools: []model.Pool{{Name: "web", Check: check}}}
	var doors []net.Listener
	for range 12 {
		door, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { door.Close() })
		at := door.Addr().(*net.TCPAddr).AddrPort()
		state.Pools[0].Backends = append(state.Pools[0].Backends, model.Backend{Address: at.Addr(), Port: at.Port(), Weight: 1})
		doors = append(doors, door)
	}
	nodes := map[string]*Node{}
	for _, name := range names {
		w := world.Node(name)
		n := &Node{cfg: &configs.Config{}, log: slog.New(slog.DiscardHandler), cluster: &clustered{Members: w.Members(), Peers: w.Peers(), Store: w.Store()}}
		n.cfg.Cluster.Health = configs.ClusterHealth{Checkers: 1}
		n.serving = serving.New(pools{}, time.Now, nil)
		room, err := openClusterHealth(n)
		if err != nil {
			t.Fatal(err)
		}
		if n.checks, err = newChecks(n); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := room.close(); err != nil {
				t.Error(err)
			}
			n.checks.checker.Close()
		})
		if err := n.serving.Apply(state, nil, func(*model.State) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if !n.checks.follow(state) || n.checks.follow(state) {
			t.Error("targets are changed by the first call alone")
		}
		nodes[name] = n
	}
	// The nodes of a list check each backend k times, and find so many up.
	agree := func(what string, k, up int, of ...string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			by, good := map[model.BackendKey]int{}, true
			for _, name := range of {
				n := nodes[name]
				for _, r := range n.checks.checker.Results() {
					by[r.Key]++
				}
				_, backends := n.serving.Backends("web")
				found := 0
				for _, b := range backends {
					if b.Health == serving.Up {
						found++
					}
				}
				good = good && found == up
			}
			for i := range state.Pools[0].Backends {
				good = good && by[model.BackendKey{Pool: "web", Endpoint: state.Pools[0].Backends[i].Endpoint()}] == k
			}
			if good {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("not so after 20 s: %s", what)
			}
		}
	}
	agree("all are up", 1, 12, names...)
	n := nodes["b"]
	until := func(ok func() bool, say func() string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("not so after 20 s: " + say())
			}
		}
	}
	for i := range doors {
		key := model.BackendKey{Pool: "web", Endpoint: state.Pools[0].Backends[i].Endpoint()}
		var r health.Result
		var said []api.NodeHealth
		until(func() bool {
			r, _ = n.HealthResult(key)
			said = n.nodesOn(key)
			return r.State == health.Up && r.Type == model.CheckTCP && !r.Since.IsZero() && len(said) == 1 && said[0].State == "up" && (len(r.Ways) > 0) == (said[0].Node == "b")
		}, func() string { return fmt.Sprintf("%v: %+v, by %+v", key, r, said) })
	}
	world.Kill("c")
	agree("all are up, by two nodes", 1, 12, "a", "b")
	world.Start("c")
	agree("all are up, by three nodes", 1, 12, names...)

	// One that goes is found down by one, and looked at by all.
	doors[3].Close()
	key := model.BackendKey{Pool: "web", Endpoint: state.Pools[0].Backends[3].Endpoint()}
	for _, n := range nodes {
		var r health.Result
		var said []api.NodeHealth
		until(func() bool {
			r, _ = n.HealthResult(key)
			said = n.nodesOn(key)
			return r.State == health.Down && len(said) == 3 && said[0].State == "down" && said[2].Error == "connection refused"
		}, func() string { return fmt.Sprintf("%+v, by %+v", r, said) })
	}
	if list := n.divided.conditions(); len(list) != 0 || n.Unfit() != "" {
		t.Errorf("%v, unfit %q", list, n.Unfit())
	}
	if q := n.HealthQuorum(); q == nil || len(q.Nodes) != 3 || q.Nodes[0].Up+q.Nodes[1].Up+q.Nodes[2].Up < 11 || q.Sent == 0 || q.Refused != 0 {
		t.Errorf("%+v", q)
	}
	// Backends that are no more are checked by nobody.
	state.Pools[0].Backends = slices.Clone(state.Pools[0].Backends[:2])
	for _, n := range nodes {
		n.checks.follow(state)
	}
	for _, n := range nodes {
		if _, known := n.HealthResult(key); known || len(n.checks.checker.Results()) > 2 {
			t.Errorf("%d backends are checked", len(n.checks.checker.Results()))
		}
	}
}
