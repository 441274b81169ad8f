package metrics

import (
	"fmt"
	"time"
)

// fixed is a node that does not change.
type fixed struct {
	pid      int
	pools    []Pool
	services []Service
	hold     chan struct{} // not nil: Metrics waits until it is closed
	waits    chan struct{} // gets one word when it does
}

func (f *fixed) DataProcess() int { return f.pid }

func (f *fixed) MetricServices(each func(*Service)) {
	for i := range f.services {
		each(&f.services[i])
	}
}

func (f *fixed) MetricPools(backends bool, each func(*Pool)) {
	for _, p := range f.pools {
		if !backends {
			p.Backends = nil
		}
		each(&p)
	}
}

func (f *fixed) Metrics() *Node {
	if f.hold != nil {
		f.waits <- struct{}{}
		<-f.hold
	}
	return &Node{
		Name: "lb1", Version: "v1.2.3", Published: 7, Acknowledged: 6, ImageBytes: 4096, LastBuild: 1500 * time.Microsecond, Draining: 1,
		Builds:   []Builds{{Kind: "full", Count: 2, Time: 30 * time.Millisecond}, {Kind: "patch", Count: 5, Time: 5 * time.Millisecond}},
		NextHops: 3, Unresolved: 1, DataRunning: true, DataRestarts: 2, FlowCapacity: 1000, Flows: map[string]uint64{"established": 12},
		Ledger: Ledger{
			Received: 100, Created: 1, InFlight: 2, BytesReceived: 6000, BytesSent: 5000, Stateless: 3, MemoUser: 4, MemoKernel: 5,
			Ended: []Ended{{"transmit", "forward_new", 90}, {"drop", "service_not_found", 9}},
		},
		Workers: []Worker{
			{Received: 95, Transmitted: 86, Dropped: 9, Rounds: 1000, BeatAge: 50 * time.Millisecond, Own: 100, Receive: 200, Send: 4},
			{BeatAge: -1},
		},
		Queues: []Queue{
			{Interface: "eth0", Queue: 0, Worker: 0, ZeroCopy: true, Known: true, Rings: [4]Ring{{1, 64}, {2, 64}, {60, 128}, {3, 64}},
				RXDropped: 1, RXRingFull: 2, RXInvalid: 3, TXInvalid: 4, FillRingEmpty: 5},
			{Interface: "eth0", Queue: 1, Worker: 1},
		},
		Interfaces: []Interface{{Name: "eth0", Up: true, Outcomes: []Outcome{{"passed", 11}, {"redirected", 95}}}, {Name: "eth1"}},
	}
}

// small is a node with two services and three backends.
func small() *fixed {
	active, none := uint64(3), uint64(0)
	return &fixed{
		services: []Service{
			{Name: "web", VIP: "198.18.0.10", Protocol: "tcp", Ports: "80", Pool: "web", Method: "nat", Tally: Tally{10, 1000, 3, 1}, ActiveFlows: &active},
			{Name: "all \"quoted\"\n", VIP: "2001:db8::1", Protocol: "udp", Ports: "all", Pool: "web", Method: "gue"},
		},
		pools: []Pool{{
			Name: "web", States: [StateCount]int{1, 1, 1, 0},
			Backends: []Backend{
				{Name: "b1", State: StateUp, Weight: 5, Tally: Tally{6, 600, 2, 0}, ActiveFlows: &none,
					Check: &Check{Known: true, Healthy: true, Latency: 1500 * time.Microsecond, Succeeded: 9, Failed: 1}},
				{Name: "b2", State: StateDown, Weight: 1, Tally: Tally{4, 400, 1, 1}, Check: &Check{}},
				{Name: "b\xff", State: StateDraining},
			},
		}, {Name: "empty"}},
	}
}

// large is a node of so many services with so many backends each.
func large(services, backends int) *fixed {
	f := &fixed{}
	active := uint64(17)
	for s := range services {
		name := fmt.Sprintf("service-%d", s)
		f.services = append(f.services, Service{Name: name, VIP: fmt.Sprintf("198.18.%d.%d", s/250, s%250), Protocol: "tcp", Ports: "443", Pool: name,
			Method: "nat", Tally: Tally{uint64(s) * 1e6, uint64(s) * 1e9, uint64(s) * 1e3, 5}, ActiveFlows: &active})
		p := Pool{Name: name, States: [StateCount]int{backends}}
		for b := range backends {
			p.Backends = append(p.Backends, Backend{Name: fmt.Sprintf("10.%d.%d.%d:8443", s/250, s%250, b), Weight: 1,
				Tally: Tally{uint64(b) * 1e6, uint64(b) * 1e9, uint64(b) * 1e3, 5}, ActiveFlows: &active})
		}
		f.pools = append(f.pools, p)
	}
	return f
}

// fixedControl is what decides on forwarding, and does not change.
type fixedControl struct{}

func (fixedControl) Changes() *Changes {
	return &Changes{Version: 4, Time: time.UnixMilli(1_700_000_000_500), Pending: true, Changed: 3, Unchanged: 1, Refused: 2,
		Conditions: map[string]bool{"file_refused": true, "not_stored": false}}
}

func (fixedControl) Checks() *Checks {
	return &Checks{Targets: 3, Running: 1, Waiting: 0, Succeeded: 90, Failed: 10, Late: 2}
}

func (fixedControl) Announcement() *Announcement {
	return &Announcement{Sent: 8, Failed: 1, Rivals: 3, Addresses: []Address{{"198.18.0.10", true, false}, {"198.18.0.11", false, true}}}
}

func (fixedControl) Routing() *Routing {
	return &Routing{
		Phase: "leaving", VIPs: []RoutedVIP{{"198.18.0.10", true}, {"2001:db8::1", false}},
		Peers: []Peer{
			{Name: "192.0.2.1", Established: true, Sessions: 2, Advertised: map[string]int{"ipv4": 1}, Received: 3, UpdatesSent: 4, UpdatesReceived: 5, BFD: true, BFDUp: true},
			{Name: "eth0"},
		},
	}
}

// noControl is a node that does none of it.
type noControl struct{}

func (noControl) Changes() *Changes           { return nil }
func (noControl) Checks() *Checks             { return nil }
func (noControl) Announcement() *Announcement { return nil }
func (noControl) Routing() *Routing           { return nil }
