package view

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"fairlead/controlplane/api"
)

func count(n uint64) *uint64 { return &n }

// TestSummedServices asserts sums and what each node has, also of services that
// only some have.
func TestSummedServices(t *testing.T) {
	r := newRig(t, nil, "a", "b", "c")
	web := func(up int, n uint64) api.Service {
		return api.Service{Name: "web", VIP: "198.18.0.10", Pool: "web", Table: "1", Up: up, Total: 2, Active: count(n), Flows: n, Packets: 10 * n, Bytes: 100 * n, Drops: 1}
	}
	r.says["a"].set("/v1/services", api.ServicePage{Services: []api.Service{web(2, 5)}})
	r.says["b"].set("/v1/services", api.ServicePage{Services: []api.Service{{Name: "dns", Flows: 3}, web(1, 7)}})
	r.world.Kill("c")
	got, err := r.views["a"].SummedServices(t.Context(), api.ServiceQuery{Limit: 100, Active: true})
	if err != nil {
		t.Fatal(err)
	}
	sum := web(2, 12)
	sum.Drops = 2
	same(t, "sums", got, api.SummedServicePage{
		Answered: []string{"a", "b"}, Unanswered: []api.NodeError{{Node: "c", Error: "it is taken for dead"}},
		Services: []api.SummedService{
			{Service: api.Service{Name: "dns", Flows: 3}, Nodes: []api.ServiceOnNode{{Node: "b", Flows: 3}}},
			{Service: sum, Nodes: []api.ServiceOnNode{
				{Node: "a", Table: "1", Up: 2, Total: 2, Active: count(5), Flows: 5, Packets: 50, Bytes: 500, Drops: 1},
				{Node: "b", Table: "1", Up: 1, Total: 2, Active: count(7), Flows: 7, Packets: 70, Bytes: 700, Drops: 1},
			}},
		},
	})
	if got := r.says["b"].asked[0]; !strings.HasSuffix(got, " /v1/services?active=true&limit=100") {
		t.Error(got)
	}
	if _, err := r.views["a"].SummedServices(t.Context(), api.ServiceQuery{Limit: 1, Backends: true}); err == nil || err.Error() != `parameter "backends": sums are listed without; /v1/cluster/backends has them` {
		t.Error(err)
	}
}

// TestSummedBackends asserts that members' states of a backend are told apart, that
// one is found by any of them, and that a pool which some members do not have is
// none that is not there.
func TestSummedBackends(t *testing.T) {
	r := newRig(t, nil, "a", "b", "c")
	on := func(state string, n uint64) api.BackendPage {
		return api.BackendPage{Backends: []api.PoolBackend{
			{Pool: "web", Services: 1, Backend: api.Backend{Name: "web1", State: state, Weight: 1, Flows: n}},
			{Pool: "web", Services: 1, Backend: api.Backend{Name: "web2", State: "up", Weight: 1, Flows: n}},
		}}
	}
	r.says["a"].set("/v1/backends", on("up", 1))
	r.says["b"].set("/v1/backends", on("down", 2))
	r.says["c"].set("/v1/backends", api.Errorf(api.NotFound, `there is no pool "web"`))
	got, err := r.views["a"].SummedBackends(t.Context(), api.BackendQuery{Pool: "web", State: "down", Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "backends", got, api.SummedBackendPage{
		Answered: []string{"a", "b", "c"},
		Backends: []api.SummedBackend{{
			PoolBackend: api.PoolBackend{Pool: "web", Services: 1, Backend: api.Backend{Name: "web1", State: "up", Weight: 1, Flows: 3}},
			States:      []api.NodesValue{{Value: "up", Nodes: []string{"a"}}, {Value: "down", Nodes: []string{"b"}}},
			Nodes:       []api.BackendOnNode{{Node: "a", State: "up", Weight: 1, Flows: 1}, {Node: "b", State: "down", Weight: 1, Flows: 2}},
		}},
	})
	for _, s := range r.says {
		s.set("/v1/backends", api.Errorf(api.NotFound, `there is no pool "web"`))
	}
	if _, err := r.views["a"].SummedBackends(t.Context(), api.BackendQuery{Pool: "web", Limit: 10}); err == nil || err.Error() != `there is no pool "web"` {
		t.Error(err)
	}
}

// TestSummedDrops asserts sums of drops, the most first.
func TestSummedDrops(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	of := func(n uint64) api.Drops {
		return api.Drops{Reasons: []api.DropCount{{Where: "worker", Reason: "x", Packets: n}, {Where: "xdp", Reason: "denied", Packets: 2 * n}}, Services: []api.ServiceDrops{{Service: "web", Packets: n}}}
	}
	r.says["a"].set("/v1/drops", of(1))
	r.says["b"].set("/v1/drops", of(2))
	got, err := r.views["b"].SummedDrops(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := api.Drops{Reasons: []api.DropCount{{Where: "xdp", Reason: "denied", Packets: 6}, {Where: "worker", Reason: "x", Packets: 3}}, Services: []api.ServiceDrops{{Service: "web", Packets: 3}}}
	same(t, "drops", got.Drops, want)
	if len(got.Nodes) != 2 || got.Nodes[1].Node != "b" {
		t.Errorf("%+v", got.Nodes)
	}
}

// TestPages asserts that lists of nodes that differ, read in pages of any length,
// come to the union of all, each object once and with every node that has it.
func TestPages(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "b", "c"}
	r := newRig(t, nil, names...)
	for range 30 {
		want := make(map[string][]string)
		for _, node := range names {
			var list []api.PoolBackend
			for range random.IntN(40) {
				// Names whose order in cursors is not that of their letters.
				b := api.PoolBackend{Pool: string(rune('a' + random.IntN(3))), Backend: api.Backend{Name: []string{"x", "x/y", "x%", "é", "x-1", "1:80"}[random.IntN(6)]}}
				if !slices.ContainsFunc(list, func(o api.PoolBackend) bool { return o.Pool == b.Pool && o.Name == b.Name }) {
					list = append(list, b)
					key := backendCursor(&b)
					want[key] = append(want[key], node)
				}
			}
			slices.SortFunc(list, func(x, y api.PoolBackend) int { return compareCursors(backendCursor(&x), backendCursor(&y)) })
			r.says[node].set("/v1/backends", pageOf(t, list))
		}
		got := make(map[string][]string)
		limit := 1 + random.IntN(9)
		last, pages := "", 0
		for after := ""; ; pages++ {
			p, err := r.views["a"].SummedBackends(t.Context(), api.BackendQuery{After: after, Limit: limit})
			if err != nil || pages > 200 {
				t.Fatalf("page %d: %v", pages, err)
			}
			for i := range p.Backends {
				b := &p.Backends[i]
				key := backendCursor(&b.PoolBackend)
				if last != "" && compareCursors(last, key) >= 0 {
					t.Fatalf("%s comes after %s", key, last)
				}
				last = key
				for _, n := range b.Nodes {
					got[key] = append(got[key], n.Node)
				}
			}
			if after = p.Next; after == "" {
				break
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%v\nwant\n%v", got, want)
		}
	}
}

// pageOf answers as a node with such backends does.
func pageOf(t *testing.T, list []api.PoolBackend) func(path string) any {
	return func(path string) any {
		u, err := url.Parse(path)
		if err != nil {
			t.Error(err)
		}
		limit, err := strconv.Atoi(u.Query().Get("limit"))
		if err != nil {
			t.Error(err)
		}
		after := u.Query().Get("after")
		var p api.BackendPage
		for i := range list {
			key := backendCursor(&list[i])
			if after != "" && compareCursors(key, after) < 0 {
				continue
			}
			if len(p.Backends) == limit {
				p.Next = key
				break
			}
			p.Backends = append(p.Backends, list[i])
		}
		return p
	}
}
