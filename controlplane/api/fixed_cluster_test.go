package api

import "context"

func (f *fixed) ClusterMembers(context.Context) (ClusterMembers, error) {
	flows := uint64(7)
	return ClusterMembers{Node: "lb1", Answered: 1, Members: []ClusterMember{
		{Name: "lb1", Self: true, State: "alive", Since: fixedTime, Started: &fixedTime, Address: "192.0.2.1:7946", Stream: "192.0.2.1:7947", Version: "v1", WireMin: 1, WireMax: 1,
			Health: HealthOK, Phase: "in_service", VIPs: &VIPCounts{All: 2, Owned: 1, Announced: 2, Some: []string{"198.18.0.10"}},
			Load: &Load{PacketsPerSecond: 10, BytesPerSecond: 600, DropsPerSecond: 0.5, Flows: &flows, FlowCapacity: 1000}},
		{Name: "lb2", State: "dead", Since: fixedTime, Address: "192.0.2.2:7946", Stream: "192.0.2.2:7947", Version: "v1", WireMin: 1, WireMax: 1,
			Drained: &DrainNotice{Since: fixedTime, By: "alice (pid 17) on lb1"}, Error: "no connection to the node"},
	}}, nil
}

func (f *fixed) ClusterStatus(ctx context.Context) (ClusterStatus, error) {
	m, err := f.ClusterMembers(ctx)
	return ClusterStatus{
		Node: "lb1", Health: HealthDegraded, Conditions: []Condition{{HealthDegraded, "member lb2", "it is dead"}},
		Counts: ClusterCounts{Members: 2, Alive: 1, Dead: 1, Drained: 1, Answered: 1}, Wire: 1,
		Agreements: []Agreement{{What: "pools", Values: []NodesValue{{Value: "00112233aabbccdd", Nodes: []string{"lb1"}}}}},
		Mismatches: []TableMismatch{{Node: "lb1", Other: "lb2", Since: fixedTime, Count: 1, Pools: []string{"web"}}}, Members: m.Members,
	}, err
}

func (f *fixed) ClusterDiff(context.Context, string) (ClusterDiff, error) {
	return ClusterDiff{Nodes: []string{"lb1", "lb2"}, Differences: []Difference{
		{Kind: "table", Name: "web", Values: []NodesValue{{Value: "1", Nodes: []string{"lb1"}}, {Absent: true, Nodes: []string{"lb2"}}}, Why: "the pool is declared on some only"},
	}, Unanswered: []NodeError{{"lb3", "no connection to the node"}}}, nil
}

func (f *fixed) ClusterKeys(context.Context) (ClusterKeys, error) {
	return ClusterKeys{Keys: []ClusterKey{{Fingerprint: "00:11:22:33", Primary: []string{"lb1"}, Nodes: []string{"lb1"}}}}, nil
}

func (f *fixed) RotateClusterKey(context.Context) (ClusterKeyRotation, error) {
	return ClusterKeyRotation{Fingerprint: "44:55:66:77", Nodes: []NodeKeyRotation{{Node: "lb1", State: "done"}, {Node: "lb2", State: "waits", Error: "no connection to the node"}}}, nil
}

func (f *fixed) MemberDrain(_ context.Context, node string) (MemberDrain, error) {
	return MemberDrain{Node: node, Drained: &DrainNotice{Since: fixedTime, By: "alice"}, State: &DrainState{Phase: "leaving", Since: &fixedTime}}, nil
}

func (f *fixed) DrainMember(ctx context.Context, node string, drained bool) (MemberDrain, error) {
	if !drained {
		return MemberDrain{Node: node, Error: "no connection to the node"}, nil
	}
	return f.MemberDrain(ctx, node)
}

func (f *fixed) AskMember(_ context.Context, node, path string) ([]byte, error) {
	return []byte(`{"node":"` + node + `"}`), nil
}

func (f *fixed) NodeSummaries(context.Context) (NodeSummaries, error) {
	return NodeSummaries{Answered: []string{"lb1"}, Unanswered: []NodeError{{"lb2", "no connection to the node"}}, Health: HealthDegraded, Ledger: f.summary.Ledger,
		Nodes: []NodeSummary{{Node: "lb1", Summary: &f.summary}, {Node: "lb2", Error: "no connection to the node"}}}, nil
}

func (f *fixed) SummedServices(context.Context, ServiceQuery) (SummedServicePage, error) {
	p := SummedServicePage{Answered: []string{"lb1"}}
	for _, s := range f.services {
		p.Services = append(p.Services, SummedService{Service: s, Nodes: []ServiceOnNode{{Node: "lb1", Table: s.Table, Up: 1, Total: 1, Flows: s.Flows}}})
	}
	return p, nil
}

func (f *fixed) SummedBackends(context.Context, BackendQuery) (SummedBackendPage, error) {
	p := SummedBackendPage{Answered: []string{"lb1"}}
	for _, b := range f.backends {
		p.Backends = append(p.Backends, SummedBackend{PoolBackend: b, States: []NodesValue{{Value: "up", Nodes: []string{"lb1"}}}, Nodes: []BackendOnNode{{Node: "lb1", State: "up", Weight: 1}}})
	}
	return p, nil
}

func (f *fixed) SummedDrops(ctx context.Context) (SummedDrops, error) {
	d, err := f.Drops(ctx)
	return SummedDrops{Answered: []string{"lb1"}, Drops: d, Nodes: []NodeDrops{{Node: "lb1", Drops: d}}}, err
}

func (f *fixed) Facts(context.Context) (NodeFacts, error) {
	return NodeFacts{
		Node: "lb1", Version: "v1", Health: HealthOK, Phase: "in_service", Load: Load{FlowCapacity: 1000}, HashSeed: "0011", Kinds: []KindFacts{{"pool", 1, "22"}},
		Tables: TableFacts{1, "33"}, Lost: []LostMember{{"lb2", "dead"}},
	}, nil
}

func (f *fixed) Objects(_ context.Context, q ObjectQuery) (Objects, error) {
	return Objects{Kind: q.Kind, Objects: []Object{{Name: "web", Digest: "44", Fields: []ObjectField{{"pool", "web"}}}}}, nil
}

func (f *fixed) PoolTables(context.Context) (PoolTables, error) {
	return PoolTables{Pools: []PoolTable{{"web", "00112233aabbccdd"}}}, nil
}

func (f *fixed) NodeKeys(context.Context) (NodeKeys, error) {
	return NodeKeys{Fingerprints: []string{"00:11:22:33"}}, nil
}

func (f *fixed) RevokedKeys(context.Context) (RevokedKeys, error) {
	return RevokedKeys{Keys: []RevokedKey{{Node: "lb3", Fingerprint: "0011223344556677", By: "alice on lb1"}}}, nil
}

func (f *fixed) RevokeMember(_ context.Context, node, reason string) (RevokedKey, error) {
	return RevokedKey{Node: node, Fingerprint: "0011223344556677", By: "alice on lb1", Reason: reason}, nil
}

func (f *fixed) RestoreKey(context.Context, string) (RevokedKey, error) {
	return RevokedKey{Node: "lb3", Fingerprint: "0011223344556677", By: "alice on lb1"}, nil
}
