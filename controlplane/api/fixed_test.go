package api

import (
	"context"
	"net/url"
	"time"

	"fairlead/dataplane/explain"
)

// fixed is a node that always says the same.
type fixed struct {
	summary      Summary
	services     []Service
	backends     []PoolBackend
	profileError error

	configError error
	applied     *ApplyConfig
	compared    *DiffConfig
	set         *SetBackend
}

// fixedTime is when everything happened on a fixed node.
var fixedTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// newFixed makes a node with one of everything.
func newFixed() *fixed {
	active := uint64(7)
	b := Backend{
		Name: "web1", Address: "198.18.10.101", Port: 8080, Weight: 1, State: "up", Expected: 1, Flows: 10, Packets: 100, Bytes: 6000, Active: &active,
		Health: &BackendHealth{State: "up", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), LatencyUS: 250, Checks: 9},
	}
	return &fixed{
		summary: Summary{
			Node: "lb1", Version: "v1", UptimeMS: 1000, Health: HealthDegraded,
			Conditions: []Condition{{HealthDegraded, "interface eth1", "it is not there"}},
			Desired:    Desired{Version: 4, Time: &fixedTime, Source: "api", Conditions: []DesiredCondition{{"restart_required", fixedTime, "settings of [dataplane]"}}},
			Generation: Generation{3, 2}, Data: DataProcess{PID: 17, UID: 65534, Workers: 1},
			Interfaces: []Interface{{Name: "eth0", Index: 2, MAC: "02:00:00:00:00:01", MTU: 1500, Queues: 1}},
			Counts:     Counts{Services: 1, Pools: 1, Backends: 1, Up: 1},
			Ledger:     Ledger{Received: 5, Transmitted: 5, Reasons: map[string]uint64{"forward_new": 5}},
			Workers:    []Worker{{5, 5, 0}}, Steering: map[string]uint64{"redirected": 5}, Sockets: map[string]uint64{"rx_dropped": 0},
		},
		services: []Service{{
			Name: "web", VIP: "198.18.0.10", Protocol: "tcp", Ports: "80", Method: "nat", Pool: "web", Table: "00112233aabbccdd",
			Up: 1, Total: 1, Flows: 10, Packets: 100, Bytes: 6000, Backends: []Backend{b},
		}},
		backends: []PoolBackend{{Pool: "web", Services: 1, Backend: b}},
	}
}

func (f *fixed) Summary(context.Context) (Summary, error) { return f.summary, nil }

func (f *fixed) Services(context.Context, ServiceQuery) (ServicePage, error) {
	return ServicePage{Services: f.services}, nil
}

func (f *fixed) Service(_ context.Context, name string) (Service, error) {
	for _, s := range f.services {
		if s.Name == name {
			return s, nil
		}
	}
	return Service{}, Errorf(NotFound, "there is no service %q", name)
}

func (f *fixed) Backends(context.Context, BackendQuery) (BackendPage, error) {
	return BackendPage{Backends: f.backends, Next: url.PathEscape("next/one")}, nil
}

func (f *fixed) Explain(_ context.Context, q ExplainQuery) (Explanation, error) {
	flow := fixedFlow()
	e := Explanation{Flow: &flow}
	e.Client, e.Protocol, e.Destination, e.Action, e.Reason = q.Client.String(), q.Protocol, q.Destination.String(), "transmit", "forward_new"
	e.Service = &explain.Service{Name: "web", Ports: "80", Method: "nat", Pool: "web", Backends: 1}
	return e, nil
}

func (f *fixed) RecentLog() []string { return []string{"one\n", "two\n"} }

func (f *fixed) Profile(_ context.Context, length time.Duration) ([]byte, error) {
	return []byte(length.String()), f.profileError
}
