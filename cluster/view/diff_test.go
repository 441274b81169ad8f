package view

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"fairlead/controlplane/api"
)

// declare has a node have these objects of a kind: by name, their fields.
func (r *rig) declare(node, kind string, objects map[string]map[string]string) {
	var all []api.Object
	for name, fields := range objects {
		o := api.Object{Name: name}
		for field, value := range fields {
			o.Fields = append(o.Fields, api.ObjectField{Name: field, Value: value})
			o.Digest += field + value
		}
		all = append(all, o)
	}
	r.says[node].set("/v1/facts/objects?kind="+kind, api.Objects{Kind: kind, Objects: all})
	r.says[node].set("/v1/facts/objects", func(path string) any {
		u, _ := url.Parse(path)
		some := api.Objects{Kind: kind}
		for _, o := range all {
			if slices.Contains(u.Query()["name"], o.Name) {
				some.Objects = append(some.Objects, o)
			}
		}
		return some
	})
}

// TestDiff asserts what is said of nodes that differ in everything, and that nodes
// which are alike are asked for nothing but their facts.
func TestDiff(t *testing.T) {
	r := newRig(t, nil, "a", "b", "c", "d", "e")
	for name, s := range r.says {
		s.set(factsPath, factsOf(name))
	}
	same(t, "nodes that are alike", must(r.views["a"].ClusterDiff(t.Context(), "")), api.ClusterDiff{Nodes: []string{"a", "b", "c", "d", "e"}, Same: true})
	for name, s := range r.says {
		if len(s.asked) != 1 {
			t.Errorf("%s was asked %v", name, s.asked)
		}
	}

	for _, name := range []string{"a", "c"} {
		r.declare(name, "pool", map[string]map[string]string{"web": {"mtu": "1500"}, "dns": {}, "old": {}})
		r.says[name].set("/v1/facts/tables", api.PoolTables{Pools: []api.PoolTable{{Pool: "dns", Checksum: "1"}, {Pool: "old", Checksum: "3"}, {Pool: "web", Checksum: "2"}}})
		r.says[name].set("/v1/backends", api.BackendPage{Backends: []api.PoolBackend{{Pool: "dns", Backend: api.Backend{Name: "r1", State: "up", Weight: 1}}}})
	}
	f := factsOf("b")
	f.Version, f.Kinds[1].Digest, f.Tables.Digest = "v2", "other", "u"
	r.says["b"].set(factsPath, f)
	r.declare("b", "pool", map[string]map[string]string{"web": {"mtu": "9000", "backend 198.18.10.1:80 weight": "2"}, "dns": {}})
	r.says["b"].set("/v1/facts/tables", api.PoolTables{Pools: []api.PoolTable{{Pool: "dns", Checksum: "9"}, {Pool: "web", Checksum: "8"}}})
	r.says["b"].set("/v1/backends", api.BackendPage{Backends: []api.PoolBackend{
		{Pool: "dns", Backend: api.Backend{Name: "r1", State: "down", Weight: 1, Health: &api.BackendHealth{State: "down"}}},
	}})
	r.says["d"].block(true)
	r.world.Kill("e")
	got := must(r.views["a"].ClusterDiff(t.Context(), ""))
	same(t, "differences", got, api.ClusterDiff{
		Nodes: []string{"a", "b", "c"},
		Differences: []api.Difference{
			{Kind: "software", Field: "version", Values: []api.NodesValue{{Value: "v1", Nodes: []string{"a", "c"}}, {Value: "v2", Nodes: []string{"b"}}}},
			{Kind: "pool", Name: "old", Values: []api.NodesValue{{Value: "there", Nodes: []string{"a", "c"}}, {Absent: true, Nodes: []string{"b"}}}},
			{Kind: "pool", Name: "web", Field: "backend 198.18.10.1:80 weight", Values: []api.NodesValue{{Absent: true, Nodes: []string{"a", "c"}}, {Value: "2", Nodes: []string{"b"}}}},
			{Kind: "pool", Name: "web", Field: "mtu", Values: []api.NodesValue{{Value: "1500", Nodes: []string{"a", "c"}}, {Value: "9000", Nodes: []string{"b"}}}},
			{Kind: "table", Name: "dns", Field: "checksum", Values: []api.NodesValue{{Value: "1", Nodes: []string{"a", "c"}}, {Value: "9", Nodes: []string{"b"}}}, Why: "r1: up with weight 1 on a; down (checks fail) with weight 1 on b"},
			{Kind: "table", Name: "old", Field: "checksum", Values: []api.NodesValue{{Value: "3", Nodes: []string{"a", "c"}}, {Absent: true, Nodes: []string{"b"}}}, Why: "the pool is not declared alike"},
			{Kind: "table", Name: "web", Field: "checksum", Values: []api.NodesValue{{Value: "2", Nodes: []string{"a", "c"}}, {Value: "8", Nodes: []string{"b"}}}, Why: "the pool is not declared alike"},
		},
		Unanswered: []api.NodeError{{Node: "d", Error: "no answer within 200ms"}, {Node: "e", Error: "it is taken for dead"}},
	})

	got = must(r.views["c"].ClusterDiff(t.Context(), "a"))
	if !got.Same || !slices.Equal(got.Nodes, []string{"a", "c"}) && !slices.Equal(got.Nodes, []string{"c", "a"}) {
		t.Errorf("%+v", got)
	}
	for node, want := range map[string]string{"x": `there is no member "x"; ` + "`fairlead cluster members` lists them", "c": "c is this node itself"} {
		if _, err := r.views["c"].ClusterDiff(t.Context(), node); err == nil || err.Error() != want {
			t.Errorf("%s: %v", node, err)
		}
	}
}

func must(d api.ClusterDiff, err error) api.ClusterDiff {
	if err != nil {
		panic(err)
	}
	return d
}

// TestExplain asserts what differences of tables are put down to.
func TestExplain(t *testing.T) {
	page := func(list ...api.Backend) api.BackendPage {
		var p api.BackendPage
		for _, b := range list {
			p.Backends = append(p.Backends, api.PoolBackend{Backend: b})
		}
		return p
	}
	var many, others []api.Backend
	for _, name := range []string{"1", "2", "3", "4", "5"} {
		many = append(many, api.Backend{Name: name, State: "up", Weight: 1})
		others = append(others, api.Backend{Name: name, State: "up", Weight: 2})
	}
	for _, c := range []struct {
		a, b api.BackendPage
		want string
	}{
		{page(api.Backend{Name: "x", State: "up", Weight: 1}), page(api.Backend{Name: "x", State: "unresolved", Weight: 1}),
			"backends serve alike: the nodes may be about to agree; if they go on to differ, report it"},
		{page(api.Backend{Name: "x", State: "up", Weight: 1}), page(), "x: up with weight 1 on a"},
		{page(many...), page(others...), "1: up with weight 1 on a; up with weight 2 on b; 2: up with weight 1 on a; up with weight 2 on b; 3: up with weight 1 on a; up with weight 2 on b; and 2 more backends"},
	} {
		nodes := serving("a", "b")
		got := explainBackends([]answer[api.BackendPage]{{node: nodes[0], value: c.a}, {node: nodes[1], value: c.b}})
		if got != c.want {
			t.Errorf("%s\nwant\n%s", got, c.want)
		}
	}
	d := differ{out: api.ClusterDiff{Differences: []api.Difference{{Kind: "setting", Name: "web/198.18.10.1:80"}}}}
	if got := d.explain(t.Context(), "web", nil, false); !strings.HasPrefix(got, "what operators have set") {
		t.Error(got)
	}
	d.out.Differences[0] = api.Difference{Kind: "hash_seed"}
	if got := d.explain(t.Context(), "web", nil, false); got != "the hash seeds differ" {
		t.Error(got)
	}
	d.out.Differences = nil
	if got := d.explain(t.Context(), "web", nil, true); got != "not all have put the pool in force yet" {
		t.Error(got)
	}
}
