// Package api is the admin API of a running node: HTTP and JSON over a Unix
// socket, and its client, which the command line uses.
package api

// Status is what a node tells of itself.
type Status struct {
	Node       string            `json:"node"`
	Version    string            `json:"version"`
	UptimeMS   int64             `json:"uptimeMs"`
	Generation Generation        `json:"generation"`
	Data       DataProcess       `json:"dataProcess"`
	Interfaces []Interface       `json:"interfaces"`
	Ledger     Ledger            `json:"ledger"`
	Workers    []Worker          `json:"workers"` // by queue number; they add up to the ledger, but for workers of earlier layouts
	Services   []Service         `json:"services"`
	Steering   map[string]uint64 `json:"steering"` // the XDP program's counters, all interfaces together
	Sockets    map[string]uint64 `json:"sockets"`  // the kernel's counters of the AF_XDP sockets, all together
	Warnings   []string          `json:"warnings,omitempty"`
}

// Generation says how far the desired state has come.
type Generation struct {
	Published    uint64 `json:"published"`
	Acknowledged uint64 `json:"acknowledged"` // the lowest that a worker decides by
}

// DataProcess is the process that forwards.
type DataProcess struct {
	PID      int `json:"pid"`
	UID      int `json:"uid"`
	Workers  int `json:"workers"`
	Restarts int `json:"restarts"` // times it was replaced
}

// Interface is one interface of the node.
type Interface struct {
	Name   string `json:"name"`
	Index  int    `json:"index"`
	MAC    string `json:"mac"`
	MTU    int    `json:"mtu"`
	Queues int    `json:"queues"`
}

// Ledger accounts for every frame; it balances when Difference is 0. On a node
// with traffic a difference may show for a moment, because the workers go on
// counting while the numbers are read.
type Ledger struct {
	Received    uint64            `json:"received"`
	Created     uint64            `json:"created"`
	Transmitted uint64            `json:"transmitted"`
	Passed      uint64            `json:"passed"`
	Dropped     uint64            `json:"dropped"`
	InFlight    uint64            `json:"inFlight"`
	Difference  int64             `json:"difference"`
	Reasons     map[string]uint64 `json:"reasons"` // of all frames, by stable name; zeros left out
}

// Worker is one worker's part of the ledger: how evenly the NIC spreads packets
// shows here.
type Worker struct {
	Received    uint64 `json:"received"`
	Transmitted uint64 `json:"transmitted"`
	Dropped     uint64 `json:"dropped"`
}

// Service is one service with its backends.
type Service struct {
	Name     string    `json:"name"`
	VIP      string    `json:"vip"`
	Protocol string    `json:"protocol"`
	Ports    string    `json:"ports"` // one port, first-last, or "all"
	Method   string    `json:"method"`
	Pool     string    `json:"pool"`
	Table    string    `json:"table"` // checksum of the Maglev table; equal on every node with an equal pool
	Flows    uint64    `json:"flows"` // new flows since the node started
	Packets  uint64    `json:"packets"`
	Bytes    uint64    `json:"bytes"`
	Drops    uint64    `json:"drops"`
	Backends []Backend `json:"backends"`
}

// Backend is one backend of a service's pool. Backends of a pool that several
// services use count for all of them.
type Backend struct {
	Name     string  `json:"name"`
	Address  string  `json:"address"`
	Port     uint16  `json:"port,omitempty"`
	Weight   uint32  `json:"weight"`
	State    string  `json:"state"`    // up, down, draining, unresolved
	Expected float64 `json:"expected"` // its share of the Maglev table, 0 to 1
	Flows    uint64  `json:"flows"`
	Packets  uint64  `json:"packets"`
	Bytes    uint64  `json:"bytes"`
	Drops    uint64  `json:"drops"`
}
