package main_test

import (
	"context"
	"time"

	"fairlead/controlplane/api"
)

// fixedTime is when everything happened on a fixed node.
var fixedTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func fixedFlow() api.Flow {
	return api.Flow{
		Protocol: "tcp", Client: "203.0.113.7:4711", VIP: "198.18.0.10:80", Service: "web", Method: "nat", Backend: "web1", Address: "198.18.10.101:8080",
		SNAT: "198.18.10.2:1024", State: "established", IdleMS: 1200, ExpiresMS: 3_598_800, Interface: "eth0", Via: "02:00:00:00:00:01",
	}
}

func goneFlow() api.Flow { // its service and backend are no more
	return api.Flow{Protocol: "udp", Client: "[2001:db8::7]:53", VIP: "[2001:db8:10::1]:53", State: "unreplied", IdleMS: -1, ExpiresMS: 100}
}

func (f *fixedNode) Flows(_ context.Context, _ api.FlowQuery, send func(api.FlowBatch) error) error {
	if err := send(api.FlowBatch{Flows: []api.Flow{fixedFlow()}}); err != nil {
		return err
	}
	return send(api.FlowBatch{Flows: []api.Flow{goneFlow()}})
}

func (f *fixedNode) WatchFlows(_ context.Context, _ api.FlowWatchQuery, send func(api.FlowEvents) error) error {
	two := 2
	if err := send(api.FlowEvents{Time: fixedTime, Watching: &two}); err != nil {
		return err
	}
	return send(api.FlowEvents{Time: fixedTime.Add(time.Second), Events: []api.FlowEvent{
		{Event: "new", Flow: fixedFlow()}, {Event: "changed", Was: "half_open", Flow: fixedFlow()}, {Event: "ended", Flow: goneFlow()},
	}})
}

func (f *fixedNode) CountFlows(_ context.Context, q api.FlowCountQuery) (api.FlowCounts, error) {
	counts := map[string]api.FlowCounts{
		"service": {Total: 7, Groups: []api.FlowCount{{Group: "web", Flows: 6}, {Flows: 1}}},
		"backend": {Total: 7, Groups: []api.FlowCount{{Group: "web1", Pool: "web", Flows: 6}, {Flows: 1}}},
	}
	return counts[q.By], nil
}

func (f *fixedNode) Drops(context.Context) (api.Drops, error) {
	return api.Drops{
		Reasons:  []api.DropCount{{Where: "worker", Reason: "no_service", Packets: 12_345}, {Where: "xdp", Reason: "denied", Packets: 2}, {Where: "socket", Reason: "rx_ring_full", Packets: 1}},
		Services: []api.ServiceDrops{{Service: "web", Packets: 10}},
	}, nil
}

func (f *fixedNode) WatchDrops(_ context.Context, _ api.DropQuery, send func(api.DropReport) error) error {
	if err := send(api.DropReport{Time: fixedTime, Begun: true}); err != nil {
		return err
	}
	packet := api.Packet{
		Time: fixedTime, Interface: "eth0", Action: "drop", Reason: "tcp_flags_invalid", Service: "web", Length: 60,
		Summary: "203.0.113.7:4711 > 198.18.0.10:80 tcp [FS] seq 17 win 65535 (ttl 64, length 40)", Data: []byte{1, 2, 3},
	}
	return send(api.DropReport{Time: fixedTime, Samples: []api.Packet{packet}, Missed: 2, Reasons: []api.DropCount{
		{Where: "worker", Reason: "tcp_flags_invalid", Packets: 3000, Rate: 1500.5}, {Where: "xdp", Reason: "denied", Packets: 1, Rate: 0.5},
	}})
}

func (f *fixedNode) Neighbors(_ context.Context, q api.NeighborQuery) (api.NeighborPage, error) {
	failed := api.Neighbor{Interface: "eth1", Address: "198.18.10.12", State: "failed", Targets: 1, For: []string{"198.18.10.12"}, Since: &fixedTime,
		Problem: "nobody answers for it", Advice: "see whether it is up"}
	well := api.Neighbor{Interface: "eth1", Address: "198.18.10.254", MAC: "02:00:00:00:00:fe", State: "reachable", Resolved: true, Answers: true, Targets: 2, For: []string{"192.0.2.1", "192.0.2.2"}}
	switch {
	case q.Problems:
		return api.NeighborPage{Neighbors: []api.Neighbor{failed}}, nil
	case q.After == "": // every list has two pages
		return api.NeighborPage{Neighbors: []api.Neighbor{failed}, Next: "2"}, nil
	}
	return api.NeighborPage{Neighbors: []api.Neighbor{well}}, nil
}

func (f *fixedNode) Routes(_ context.Context, q api.RouteQuery) (api.RoutePage, error) {
	far := api.Route{Target: "203.0.113.9", Backends: []string{"web/far"}, Count: 7, Problem: "no route leads there, or one that forbids", Advice: "add a route"}
	well := api.Route{Target: "192.0.2.1", Backends: []string{"web/web1"}, Count: 1, Hops: []api.RouteHop{
		{Interface: "eth1", Address: "198.18.10.254", MAC: "02:00:00:00:00:fe", State: "reachable", Resolved: true, Answers: true, Weight: 3},
		{Interface: "eth0", Address: "198.18.0.254", State: "failed", Weight: 1},
	}}
	switch {
	case q.Problems:
		return api.RoutePage{Routes: []api.Route{far}}, nil
	case q.After == "":
		return api.RoutePage{Routes: []api.Route{far}, Next: "2"}, nil
	}
	return api.RoutePage{Routes: []api.Route{well}}, nil
}

func (f *fixedNode) Addresses(_ context.Context, q api.AddressQuery) (api.AddressPage, error) {
	if q.After == "" {
		return api.AddressPage{Next: "2", Addresses: []api.Address{{Address: "198.18.0.10", Kind: "vip", Answered: true, Owner: "lb1", Interfaces: []string{"eth0"}, Announced: 3, Last: &fixedTime,
			Conflict: &api.AddressConflict{Interface: "eth0", MAC: "02:00:00:00:00:99", First: fixedTime, Last: fixedTime}}}}, nil
	}
	return api.AddressPage{Addresses: []api.Address{{Address: "198.18.0.11", Kind: "snat"}}}, nil
}

func (f *fixedNode) AnnouncedVIPs(context.Context) (api.Announcements, error) {
	preference := uint32(200)
	return api.Announcements{Phase: "leaving", VIPs: []api.VIPRoute{
		{Address: "198.18.0.10", Owned: true, Announced: true, Communities: []string{"65000:100", "no-export"}, LocalPreference: &preference, MED: 5},
		{Address: "198.18.0.11", Reason: "no_backends", Services: []string{"web", "web6"}},
	}}, nil
}

func (f *fixedNode) BGP(context.Context) (api.BGP, error) {
	return api.BGP{Enabled: true, ASN: 65010, RouterID: "198.18.0.1", Peers: []api.BGPPeer{
		{Name: "198.18.0.254", Address: "198.18.0.254", ASN: 65000, RouterID: "198.18.0.254", State: "established", Since: fixedTime, Established: 2,
			LastError: "hold-timer-expired", LastErrorAt: &fixedTime, HoldTimeS: 9, GracefulRestart: true, Advertised: map[string]int{"ipv4": 1, "ipv6": 2},
			Received: 3, UpdatesSent: 4, UpdatesReceived: 5, BFD: &api.BFD{State: "up", Sent: 6, Received: 7}},
		{Name: "eth1", State: "searching", Since: fixedTime},
	}}, nil
}

func (f *fixedNode) DrainState(context.Context) (api.DrainState, error) {
	return api.DrainState{Phase: "withdrawn", Since: &fixedTime}, nil
}

func (f *fixedNode) StartDrain(context.Context) (api.DrainState, error) {
	return api.DrainState{Phase: "leaving", Since: &fixedTime}, nil
}

func (f *fixedNode) StopDrain(context.Context) (api.DrainState, error) {
	return api.DrainState{Phase: "in_service"}, nil
}

func fixedVersions() []api.ConfigVersion {
	until := fixedTime.Add(5 * time.Minute)
	return []api.ConfigVersion{
		{Number: 7, Time: fixedTime, Source: "api", User: "alice (pid 17)", Comment: "new shop", Summary: "+1 pool", Pending: &api.PendingChange{Version: 7, Until: until}},
		{Number: 6, Time: fixedTime.Add(-time.Hour), Source: "file", Summary: "+2 services, +2 pools"},
	}
}

func fixedSettings() []api.BackendSetting {
	deadline, weight := fixedTime.Add(time.Minute), 3
	return []api.BackendSetting{
		{Pool: "web", Backend: "198.18.10.101:8080", State: "drained", Deadline: &deadline},
		{Pool: "web", Backend: "198.18.10.102:8080", State: "enabled", Weight: &weight},
	}
}

func (f *fixedNode) DiffConfig(context.Context, api.DiffConfig) (api.ConfigResult, error) {
	version := fixedVersions()[1]
	version.Number = 8
	return api.ConfigResult{Version: version, Changed: true, DryRun: true, Guarded: "this removes 4 of 4 services", Changes: []api.ConfigChange{
		{Op: "changed", Kind: "tunnel", Fields: []api.ConfigField{{Name: "source_ipv4", After: "198.18.9.1"}}},
		{Op: "added", Kind: "pool", Name: "shop", Fields: []api.ConfigField{{Name: "panic_threshold", After: "30"}}},
		{Op: "added", Kind: "backend", Pool: "shop", Name: "198.18.10.1:80", Fields: []api.ConfigField{{Name: "weight", After: "2"}}},
		{Op: "removed", Kind: "backend", Pool: "web", Name: "198.18.10.2:80"},
		{Op: "removed", Kind: "setting", Pool: "web", Name: "198.18.10.2:80", Fields: []api.ConfigField{{Name: "state", Before: "drained"}}},
	}}, nil
}

func (f *fixedNode) ReloadConfig(ctx context.Context, _ api.ChangeConfig) (api.ConfigResult, error) {
	return f.DiffConfig(ctx, api.DiffConfig{File: true})
}

func (f *fixedNode) ConfigHistory(context.Context) (api.ConfigHistory, error) {
	return api.ConfigHistory{Versions: fixedVersions()}, nil
}

func (f *fixedNode) Config(context.Context, uint64) (api.VersionedConfig, error) {
	return api.VersionedConfig{Version: fixedVersions()[0], Settings: fixedSettings(), Sources: []api.ConfigSource{
		{Source: "file", Name: "fairlead.toml", Text: "[node]\nname = \"lb1\"\n", Services: 2, Pools: 2, Backends: 3},
		{Source: "api", Name: "shop.toml", Text: "[[pool]]\nname = \"shop\"\n", Pools: 1},
	}}, nil
}

func (f *fixedNode) BackendSettings(context.Context) (api.BackendSettings, error) {
	return api.BackendSettings{Settings: fixedSettings()}, nil
}

func (f *fixedNode) LogLevel(context.Context) api.LogLevel {
	return api.LogLevel{Level: "debug", Configured: "info", Until: &fixedTime}
}

func (f *fixedNode) Processes(context.Context) api.Processes {
	return api.Processes{Control: 16, ControlVersion: "v1.2.3", Data: 17, DataVersion: "v1.2.2", Failed: "the new process did not come up"}
}
