package main_test

import (
	"context"
	"encoding/json"
	"strings"

	"fairlead/controlplane/api"
)

const unreached = "no answer within 2s"

func fixedMembers() []api.ClusterMember {
	flows := uint64(1_234_567)
	later := fixedTime.AddDate(0, 0, 1)
	return []api.ClusterMember{
		{Name: "lb1", Self: true, State: "alive", Since: fixedTime, Started: &fixedTime, Address: "192.0.2.1:7946", Stream: "192.0.2.1:7947", Version: "v1.2.3", WireMin: 1, WireMax: 1,
			Health: api.HealthDegraded, Phase: "in_service", VIPs: &api.VIPCounts{All: 3, Owned: 2, Announced: 3, Some: []string{"198.18.0.10", "198.18.0.11"}},
			Load: &api.Load{PacketsPerSecond: 1_250_000, BytesPerSecond: 80_000_000, Flows: &flows, FlowCapacity: 4_000_000}},
		{Name: "lb2", State: "alive", Since: later, Started: &later, Address: "[2001:db8::2]:7946", Stream: "[2001:db8::2]:7947", Version: "v1.3.0", WireMin: 1, WireMax: 2,
			Drained: &api.DrainNotice{Since: fixedTime, By: "alice (pid 17) on lb1"}, Health: api.HealthOK, Phase: "withdrawn", VIPs: &api.VIPCounts{All: 3}, Load: &api.Load{FlowCapacity: 4_000_000}},
		{Name: "lb3", State: "suspect", Since: later, Address: "192.0.2.3:7946", Stream: "192.0.2.3:7947", Version: "v1.2.3", WireMin: 1, WireMax: 1, Error: unreached},
	}
}

func (f *fixedNode) ClusterMembers(context.Context) (api.ClusterMembers, error) {
	return api.ClusterMembers{Node: "lb1", Answered: 2, Members: fixedMembers()}, nil
}

func (f *fixedNode) ClusterStatus(context.Context) (api.ClusterStatus, error) {
	one := func(what, value string) api.Agreement {
		return api.Agreement{What: what, Values: []api.NodesValue{{Value: value, Nodes: []string{"lb1", "lb2"}}}}
	}
	return api.ClusterStatus{
		Node: "lb1", Health: api.HealthFailing, Conditions: []api.Condition{
			{Health: api.HealthFailing, Subject: "tables", Message: "between lb1 and lb2 1 pool's table differs since 03:04:05, of web among them: fairlead cluster diff"},
			{Health: api.HealthDegraded, Subject: "member lb3", Message: "it is suspect since 2026-01-03 03:04:05"},
		},
		Counts: api.ClusterCounts{Members: 3, Alive: 2, Suspect: 1, Drained: 1, Answered: 2}, Wire: 1, Members: fixedMembers(),
		Agreements: []api.Agreement{
			{What: "software", Values: []api.NodesValue{{Value: "v1.2.3", Nodes: []string{"lb1"}}, {Value: "v1.3.0", Nodes: []string{"lb2"}}}},
			one("hash_seed", "0a1b2c3d"), one("vips", "1111111111111111"), one("pools", "2222222222222222"), one("services", "3333333333333333"), one("settings", "4444444444444444"),
			{What: "tables", Values: []api.NodesValue{{Value: "5555555555555555", Nodes: []string{"lb1"}}, {Value: "6666666666666666", Nodes: []string{"lb2"}}}},
		},
		Mismatches: []api.TableMismatch{{Node: "lb1", Other: "lb2", Since: fixedTime, Count: 1, Pools: []string{"web"}}},
		Shared:     map[string]uint64{"store_entries": 12, "store_refused": 0},
	}, nil
}

func (f *fixedNode) ClusterDiff(_ context.Context, node string) (api.ClusterDiff, error) {
	if node != "" {
		return api.ClusterDiff{Nodes: []string{"lb1", node}, Same: true}, nil
	}
	of := func(a, b string) []api.NodesValue {
		return []api.NodesValue{{Value: a, Nodes: []string{"lb1", "lb4"}}, {Value: b, Nodes: []string{"lb2"}, Absent: b == ""}}
	}
	return api.ClusterDiff{Nodes: []string{"lb1", "lb2", "lb4"}, Differences: []api.Difference{
		{Kind: "software", Field: "version", Values: of("v1.2.3", "v1.3.0")},
		{Kind: "pool", Name: "shop", Values: of("there", "")},
		{Kind: "service", Name: "web", Field: "method", Values: of("nat", "ipip")},
		{Kind: "table", Name: "web", Field: "checksum", Values: of("00112233aabbccdd", "ddccbbaa33221100"), Why: "198.18.10.101:8080: up with weight 1 on lb1, lb4; down (checks fail) with weight 1 on lb2"},
	}, More: 2, Unanswered: []api.NodeError{{Node: "lb3", Error: unreached}}}, nil
}

func (f *fixedNode) ClusterKeys(context.Context) (api.ClusterKeys, error) {
	return api.ClusterKeys{Keys: []api.ClusterKey{
		{Fingerprint: "0011223344556677", Primary: []string{"lb1"}, Nodes: []string{"lb1", "lb2"}}, {Fingerprint: "8899aabbccddeeff", Primary: []string{"lb2"}, Nodes: []string{"lb1", "lb2"}},
	}, Unanswered: []api.NodeError{{Node: "lb3", Error: unreached}}}, nil
}

func (f *fixedNode) RotateClusterKey(context.Context) (api.ClusterKeyRotation, error) {
	return api.ClusterKeyRotation{Fingerprint: "8899aabbccddeeff", Complete: f.health != api.HealthFailing, Nodes: []api.NodeKeyRotation{
		{Node: "lb1", State: "done"}, {Node: "lb2", State: "done"}, {Node: "lb3", State: "later", Error: "it is dead, and gets the key when it returns"},
	}}, nil
}

func (f *fixedNode) MemberDrain(_ context.Context, node string) (api.MemberDrain, error) {
	return api.MemberDrain{Node: node, Drained: &api.DrainNotice{Since: fixedTime, By: "alice (pid 17) on lb1"}, State: &api.DrainState{Phase: "drained", Since: &fixedTime}}, nil
}

func (f *fixedNode) DrainMember(_ context.Context, node string, drained bool) (api.MemberDrain, error) {
	if !drained {
		return api.MemberDrain{Node: node, Error: "it is taken for dead"}, nil
	}
	return api.MemberDrain{Node: node, Drained: &api.DrainNotice{Since: fixedTime, By: "alice (pid 17) on lb1"}, State: &api.DrainState{Phase: "leaving", Since: &fixedTime}}, nil
}

func (f *fixedNode) AskMember(ctx context.Context, node, path string) ([]byte, error) {
	bare, _, _ := strings.Cut(path, "?")
	switch {
	case node != "lb2":
		return nil, api.Errorf(api.NotFound, "there is no member %q; `fairlead cluster members` lists them", node)
	case bare == "/v1/services":
		return json.Marshal(api.ServicePage{Services: f.all()})
	case bare == "/v1/bgp":
		return json.Marshal(api.BGP{})
	}
	return nil, api.Errorf(api.BadRequest, "%s cannot be asked for by way of another node; ask the node itself", bare)
}

func (f *fixedNode) NodeSummaries(ctx context.Context) (api.NodeSummaries, error) {
	one, err := f.Summary(ctx)
	other := one
	other.Node, other.Health, other.Conditions, other.Version = "lb2", api.HealthOK, nil, "v1.3.0"
	sum := one.Ledger
	sum.Received, sum.Transmitted, sum.Dropped = 2*sum.Received, 2*sum.Transmitted, 2*sum.Dropped
	return api.NodeSummaries{
		Answered: []string{"lb1", "lb2"}, Unanswered: []api.NodeError{{Node: "lb3", Error: unreached}}, Health: api.HealthDegraded, Ledger: sum,
		Nodes: []api.NodeSummary{{Node: "lb1", Summary: &one}, {Node: "lb2", Summary: &other}, {Node: "lb3", Error: unreached}},
	}, err
}

func (f *fixedNode) SummedServices(_ context.Context, q api.ServiceQuery) (api.SummedServicePage, error) {
	p := api.SummedServicePage{Answered: []string{"lb1", "lb2"}, Unanswered: []api.NodeError{{Node: "lb3", Error: unreached}}}
	for i, s := range f.all() {
		if (q.After == "") != (i == 0) { // every list has two pages
			continue
		}
		s.Backends = nil
		sum := api.SummedService{Service: s, Nodes: []api.ServiceOnNode{{Node: "lb1", Table: s.Table, Up: s.Up, Total: s.Total, Flows: s.Flows, Packets: s.Packets, Bytes: s.Bytes, Drops: s.Drops}}}
		if s.Name == "web" {
			sum.Flows, sum.Packets = sum.Flows+7, sum.Packets+70
			sum.Nodes = append(sum.Nodes, api.ServiceOnNode{Node: "lb2", Table: "ffeeddccbbaa9988", Up: 1, Total: 2, Flows: 7, Packets: 70})
		}
		p.Services = append(p.Services, sum)
	}
	if q.After == "" {
		p.Next = "web"
	}
	return p, nil
}

func (f *fixedNode) SummedBackends(_ context.Context, q api.BackendQuery) (api.SummedBackendPage, error) {
	p := api.SummedBackendPage{Answered: []string{"lb1", "lb2"}}
	for _, b := range f.all()[1].Backends {
		sum := api.SummedBackend{PoolBackend: api.PoolBackend{Pool: "web", Services: 1, Backend: b}, States: []api.NodesValue{{Value: "up", Nodes: []string{"lb1", "lb2"}}}}
		sum.Nodes = []api.BackendOnNode{{Node: "lb1", State: "up", Weight: b.Weight, Flows: b.Flows, Packets: b.Packets}, {Node: "lb2", State: "up", Weight: b.Weight}}
		if b.Name == "web2" {
			sum.States = []api.NodesValue{{Value: "up", Nodes: []string{"lb1"}}, {Value: "down", Nodes: []string{"lb2"}}}
			sum.Nodes[1].State = "down"
		}
		p.Backends = append(p.Backends, sum)
	}
	return p, nil
}

func (f *fixedNode) SummedDrops(ctx context.Context) (api.SummedDrops, error) {
	d, err := f.Drops(ctx)
	sum := api.Drops{Reasons: []api.DropCount{{Where: "worker", Reason: "no_service", Packets: 12_445}, {Where: "xdp", Reason: "denied", Packets: 2}}, Services: d.Services}
	return api.SummedDrops{Answered: []string{"lb1", "lb2"}, Unanswered: []api.NodeError{{Node: "lb3", Error: unreached}}, Drops: sum, Nodes: []api.NodeDrops{
		{Node: "lb1", Drops: d}, {Node: "lb2", Drops: api.Drops{Reasons: []api.DropCount{{Where: "worker", Reason: "no_service", Packets: 100}}}},
	}}, err
}

func (f *fixedNode) RevokedKeys(context.Context) (api.RevokedKeys, error) {
	return api.RevokedKeys{Keys: []api.RevokedKey{
		{Node: "lb3", Fingerprint: "0011223344556677", Since: fixedTime, By: "alice (pid 17) on lb1", Reason: "disk replaced and not wiped"},
		{Node: "lb9", Fingerprint: "8899aabbccddeeff", Since: fixedTime, By: "root (pid 21) on lb2"},
	}}, nil
}

func (f *fixedNode) RevokeMember(_ context.Context, node, reason string) (api.RevokedKey, error) {
	return api.RevokedKey{Node: node, Fingerprint: "0011223344556677", Since: fixedTime, By: "alice (pid 17) on lb1", Reason: reason}, nil
}

func (f *fixedNode) RestoreKey(_ context.Context, key string) (api.RevokedKey, error) {
	return api.RevokedKey{Node: key, Fingerprint: "0011223344556677", Since: fixedTime, By: "alice (pid 17) on lb1"}, nil
}
