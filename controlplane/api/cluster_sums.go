package api

import (
	"context"
	"net/http"
)

// SumProvider adds up what the members of the cluster count. It asks them all at
// once. Those that do not answer are named with the reason, so that nobody takes a
// part for the whole.
type SumProvider interface {
	// NodeSummaries are the summaries of all members.
	NodeSummaries(ctx context.Context) (NodeSummaries, error)
	// SummedServices lists the services of all members by name.
	SummedServices(ctx context.Context, q ServiceQuery) (SummedServicePage, error)
	// SummedBackends lists the backends of all members by pool and name.
	SummedBackends(ctx context.Context, q BackendQuery) (SummedBackendPage, error)
	// SummedDrops says what all members have dropped.
	SummedDrops(ctx context.Context) (SummedDrops, error)
}

// NodeSummaries are the summaries of all members.
type NodeSummaries struct {
	Answered   []string      `json:"answered" doc:"Members that the sums are over."`
	Unanswered []NodeError   `json:"unanswered" doc:"Members that they lack."`
	Health     Health        `json:"health" enum:"ok,degraded,failing" doc:"The worst of those that have answered; degraded at least when one has not."`
	Ledger     Ledger        `json:"ledger" doc:"Of all together."`
	Nodes      []NodeSummary `json:"nodes" doc:"By name."`
}

// NodeSummary is the summary of one member.
type NodeSummary struct {
	Node    string   `json:"node"`
	Summary *Summary `json:"summary,omitempty" doc:"Left out when it has not answered."`
	Error   string   `json:"error,omitempty" doc:"Why it has not."`
}

// SummedServicePage is a page of services of all members, by name.
type SummedServicePage struct {
	Answered   []string        `json:"answered" doc:"Members that the sums are over."`
	Unanswered []NodeError     `json:"unanswered" doc:"Members that they lack."`
	Services   []SummedService `json:"services"`
	Next       string          `json:"next,omitempty" doc:"What the next page is asked for with; left out when there is none."`
}

// SummedService is one service. What it is, is as the first of the members says
// that have it; what it counts is of all together.
type SummedService struct {
	Service
	Nodes []ServiceOnNode `json:"nodes" doc:"What each member has of it, by name. One that has answered and is not here does not have it."`
}

// ServiceOnNode is what a member has of a service.
type ServiceOnNode struct {
	Node    string  `json:"node"`
	Table   string  `json:"table" doc:"Checksum of the Maglev table."`
	Up      int     `json:"up"`
	Total   int     `json:"total"`
	Active  *uint64 `json:"activeFlows,omitempty"`
	Flows   uint64  `json:"flows"`
	Packets uint64  `json:"packets"`
	Bytes   uint64  `json:"bytes"`
	Drops   uint64  `json:"drops"`
}

// SummedBackendPage is a page of backends of all members, by pool and name.
type SummedBackendPage struct {
	Answered   []string        `json:"answered" doc:"Members that the sums are over."`
	Unanswered []NodeError     `json:"unanswered" doc:"Members that they lack."`
	Backends   []SummedBackend `json:"backends"`
	Next       string          `json:"next,omitempty" doc:"What the next page is asked for with; left out when there is none."`
}

// SummedBackend is one backend. What it is, is as the first of the members says
// that have it; what it counts is of all together.
type SummedBackend struct {
	PoolBackend
	States []NodesValue    `json:"states" doc:"Its state, where members do not agree on it the one of most of them first."`
	Nodes  []BackendOnNode `json:"nodes" doc:"What each member has of it, by name."`
}

// BackendOnNode is what a member has of a backend.
type BackendOnNode struct {
	Node     string         `json:"node"`
	State    string         `json:"state" enum:"up,down,draining,unresolved"`
	Weight   uint32         `json:"weight"`
	Expected float64        `json:"expected"`
	Health   *BackendHealth `json:"health,omitempty"`
	Active   *uint64        `json:"activeFlows,omitempty"`
	Flows    uint64         `json:"flows"`
	Packets  uint64         `json:"packets"`
	Bytes    uint64         `json:"bytes"`
	Drops    uint64         `json:"drops"`
}

// SummedDrops are the packets that all members have dropped.
type SummedDrops struct {
	Answered   []string    `json:"answered" doc:"Members that the sums are over."`
	Unanswered []NodeError `json:"unanswered" doc:"Members that they lack."`
	Drops
	Nodes []NodeDrops `json:"nodes" doc:"What each member has dropped, by name."`
}

// NodeDrops are the packets that one member has dropped.
type NodeDrops struct {
	Node string `json:"node"`
	Drops
}

func registerSums(r *Router, node SumProvider) {
	of := func(path, summary string, examples ...Example) Endpoint {
		return Endpoint{
			Method: http.MethodGet, Path: path, Role: ReadOnly, Tag: "cluster", Summary: summary,
			Description: "Members that do not answer are named with the reason.", Examples: examples,
		}
	}
	type none struct{}
	Handle(r, of("/v1/cluster/summaries", "How all members of the cluster are", Example{Path: "/v1/cluster/summaries"}),
		func(ctx context.Context, _ none) (NodeSummaries, error) { return node.NodeSummaries(ctx) })
	Handle(r, of("/v1/cluster/services", "The services, summed over all members of the cluster, a page at a time",
		Example{Path: "/v1/cluster/services"}, Example{Path: "/v1/cluster/services?vip=198.18.0.10&protocol=tcp&pool=web&limit=10"}), node.SummedServices)
	Handle(r, of("/v1/cluster/backends", "The backends, summed over all members of the cluster, a page at a time",
		Example{Path: "/v1/cluster/backends"}, Example{Path: "/v1/cluster/backends?service=web&pool=web&state=up&active=true&limit=10"}), node.SummedBackends)
	Handle(r, of("/v1/cluster/drops", "What all members of the cluster have dropped", Example{Path: "/v1/cluster/drops"}),
		func(ctx context.Context, _ none) (SummedDrops, error) { return node.SummedDrops(ctx) })
}
