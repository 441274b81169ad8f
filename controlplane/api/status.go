// Package api is the admin API of a running node: HTTP and JSON on a Unix
// socket, or on TCP with mutual TLS, and its client, which the command line
// uses. Endpoints are registered with what they take and answer; the OpenAPI
// document that the node serves is made of that.
package api

import (
	"context"
	"net/http"
)

// StatusProvider says how the node is.
type StatusProvider interface {
	Summary(ctx context.Context) (Summary, error)
}

func registerStatus(r *Router, node StatusProvider) {
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/status", Role: ReadOnly, Tag: "node", Summary: "How the node is",
		Description: "The node as a whole, and where every packet went. Its services and backends are counted here, and listed by /v1/services and /v1/backends.",
		Examples:    []Example{{Path: "/v1/status"}},
	}, func(ctx context.Context, _ struct{}) (Summary, error) { return node.Summary(ctx) })
}

// Health is how the node is, in one word.
type Health string

// How a node can be.
const (
	HealthOK       Health = "ok"       // everything is as it is wanted
	HealthDegraded Health = "degraded" // it serves, and something needs a look
	HealthFailing  Health = "failing"  // a service, or the node, does not serve
)

// Condition is one thing that keeps a node from being as it is wanted.
type Condition struct {
	Health  Health `json:"health" enum:"degraded,failing" doc:"How bad it is."`
	Subject string `json:"subject" doc:"What it is about: data process, generation, service NAME, ..."`
	Message string `json:"message"`
}

// Summary is what a node tells of itself as a whole.
type Summary struct {
	Node       string            `json:"node" doc:"Name of the node."`
	Version    string            `json:"version" doc:"Version of its program."`
	UptimeMS   int64             `json:"uptimeMs" doc:"Milliseconds since the node began."`
	Health     Health            `json:"health" enum:"ok,degraded,failing" doc:"The worst of the conditions."`
	Conditions []Condition       `json:"conditions" doc:"What is not as it is wanted; at most 100."`
	Desired    Desired           `json:"desired"`
	Generation Generation        `json:"generation"`
	Data       DataProcess       `json:"dataProcess"`
	Interfaces []Interface       `json:"interfaces"`
	Counts     Counts            `json:"counts"`
	Ledger     Ledger            `json:"ledger"`
	Workers    []Worker          `json:"workers" doc:"By queue number; they add up to the ledger, but for workers of earlier layouts."`
	Steering   map[string]uint64 `json:"steering" doc:"The XDP program's counters, all interfaces together."`
	Sockets    map[string]uint64 `json:"sockets" doc:"The kernel's counters of the AF_XDP sockets, all together."`
	Warnings   []string          `json:"warnings,omitempty" doc:"What the configuration in force is warned of."`
}

// Counts says how many there are.
type Counts struct {
	Services   int `json:"services"`
	Pools      int `json:"pools"`
	Backends   int `json:"backends" doc:"In all pools; of them:"`
	Up         int `json:"up"`
	Down       int `json:"down"`
	Draining   int `json:"draining"`
	Unresolved int `json:"unresolved" doc:"The way to them is not known."`
}

// Status is a node as a whole with all of its services, as Client.Status
// gathers it.
type Status struct {
	Summary
	Services []Service `json:"services"`
}

// Generation says how far the desired state has come.
type Generation struct {
	Published    uint64 `json:"published"`
	Acknowledged uint64 `json:"acknowledged" doc:"The lowest that a worker decides by."`
}

// DataProcess is the process that forwards.
type DataProcess struct {
	PID      int `json:"pid" doc:"0: there is none at the moment."`
	UID      int `json:"uid"`
	Workers  int `json:"workers"`
	Restarts int `json:"restarts" doc:"Times it was replaced after it had died."`

	Upgrades int    `json:"upgrades" doc:"Times it was replaced on purpose."`
	Standby  int    `json:"standby" doc:"The process that stands by to take over; 0 while none is ready."`
	Version  string `json:"version" doc:"Of its binary."`
}

// Interface is one interface of the node.
type Interface struct {
	Name   string `json:"name"`
	Index  int    `json:"index" doc:"The kernel's number; 0: it is not there."`
	MAC    string `json:"mac"`
	MTU    int    `json:"mtu"`
	Queues int    `json:"queues" doc:"Those that have a worker."`
}

// Ledger accounts for every frame; it balances when Difference is 0. On a node
// with traffic a difference may show for a moment, because the workers go on
// counting while the numbers are read.
type Ledger struct {
	Received    uint64            `json:"received"`
	Created     uint64            `json:"created" doc:"Frames made here: replies, fragments."`
	Transmitted uint64            `json:"transmitted"`
	Passed      uint64            `json:"passed" doc:"Handed to the host."`
	Dropped     uint64            `json:"dropped"`
	InFlight    uint64            `json:"inFlight"`
	Difference  int64             `json:"difference" doc:"Received and created, less all others; 0 when it balances."`
	Reasons     map[string]uint64 `json:"reasons" doc:"Of all frames, by stable name; zeros are left out."`
}

// Worker is one worker's part of the ledger: how evenly the NIC spreads packets
// shows here.
type Worker struct {
	Received    uint64 `json:"received"`
	Transmitted uint64 `json:"transmitted"`
	Dropped     uint64 `json:"dropped"`
}
