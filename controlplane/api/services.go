package api

import (
	"context"
	"net/http"
	"net/netip"
	"time"
)

// MaxPage is the most that a page of a list has.
const MaxPage = 1000

// ServiceProvider lists services and backends, a page at a time. Each object
// is as it was at one moment, not all of them at the same.
type ServiceProvider interface {
	// Services lists services by name.
	Services(ctx context.Context, q ServiceQuery) (ServicePage, error)
	// Service gives one service with its backends, or an error with NotFound.
	Service(ctx context.Context, name string) (Service, error)
	// Backends lists backends by pool and name.
	Backends(ctx context.Context, q BackendQuery) (BackendPage, error)
}

// ServiceQuery says which services are asked for.
type ServiceQuery struct {
	VIP      *netip.Addr `query:"vip" doc:"Only services of this address."`
	Protocol string      `query:"protocol" doc:"Only services of this protocol: tcp, udp or sctp."`
	Pool     string      `query:"pool" doc:"Only services that use this pool."`
	Backends bool        `query:"backends" doc:"Whether each service is given with its backends. A page may then be shorter than it was asked for." default:"false"`
	Active   bool        `query:"active" doc:"Whether the flows in the flow table are counted, which takes a moment on a node with millions." default:"false"`
	After    string      `query:"after" doc:"Where the page begins: next of the page before."`
	Limit    int         `query:"limit" doc:"How many services a page has at most." default:"100" minimum:"1" maximum:"1000"`
}

// ServicePage is a page of services, by name.
type ServicePage struct {
	Services []Service `json:"services"`
	Next     string    `json:"next,omitempty" doc:"What the next page is asked for with; left out when there is none."`
}

// BackendQuery says which backends are asked for.
type BackendQuery struct {
	Service string `query:"service" doc:"Only backends of this service's pool."`
	Pool    string `query:"pool" doc:"Only backends of this pool."`
	State   string `query:"state" doc:"Only backends in this state: up, down, draining or unresolved."`
	Active  bool   `query:"active" doc:"Whether the flows in the flow table are counted, which takes a moment on a node with millions." default:"false"`
	After   string `query:"after" doc:"Where the page begins: next of the page before."`
	Limit   int    `query:"limit" doc:"How many backends a page has at most." default:"100" minimum:"1" maximum:"1000"`
}

// BackendPage is a page of backends, by pool and name.
type BackendPage struct {
	Backends []PoolBackend `json:"backends"`
	Next     string        `json:"next,omitempty" doc:"What the next page is asked for with; left out when there is none."`
}

// PoolBackend is a backend with the pool that it belongs to.
type PoolBackend struct {
	Pool     string `json:"pool"`
	Services int    `json:"services" doc:"How many services use the pool. The numbers are of all of them."`
	Backend
}

// Service is one service.
type Service struct {
	Name     string    `json:"name"`
	VIP      string    `json:"vip"`
	Protocol string    `json:"protocol" enum:"tcp,udp,sctp"`
	Ports    string    `json:"ports" doc:"One port, first-last, or all."`
	Method   string    `json:"method" enum:"nat,ipip,gue,l2"`
	Pool     string    `json:"pool"`
	Table    string    `json:"table" doc:"Checksum of the Maglev table; equal on every node with an equal pool."`
	Up       int       `json:"up" doc:"Backends that new flows may go to."`
	Total    int       `json:"total" doc:"Backends of the pool."`
	Active   *uint64   `json:"activeFlows,omitempty" doc:"Flows in the flow table; left out where they are not counted."`
	Flows    uint64    `json:"flows" doc:"New flows since the node began."`
	Packets  uint64    `json:"packets"`
	Bytes    uint64    `json:"bytes"`
	Drops    uint64    `json:"drops"`
	Backends []Backend `json:"backends,omitempty" doc:"Where they are asked for."`
}

// Backend is one backend of a pool. Those of a pool that several services use
// count for all of them.
type Backend struct {
	Name     string         `json:"name"`
	Address  string         `json:"address"`
	Port     uint16         `json:"port,omitempty" doc:"Left out where the client's port is kept."`
	Weight   uint32         `json:"weight"`
	State    string         `json:"state" enum:"up,down,draining,unresolved"`
	Expected float64        `json:"expected" doc:"Its share of the Maglev table, 0 to 1."`
	Health   *BackendHealth `json:"health,omitempty" doc:"What its checks say; left out where it has none."`
	Active   *uint64        `json:"activeFlows,omitempty" doc:"Flows in the flow table; left out where they are not counted."`
	Flows    uint64         `json:"flows"`
	Packets  uint64         `json:"packets"`
	Bytes    uint64         `json:"bytes"`
	Drops    uint64         `json:"drops"`
}

// BackendHealth is what the checks of a backend say.
type BackendHealth struct {
	State     string    `json:"state" enum:"up,down,unknown"`
	Since     time.Time `json:"since" doc:"When it became so."`
	Type      string    `json:"type" doc:"What is checked: tcp, http, ..."`
	LatencyUS int64     `json:"latencyUs" doc:"Microseconds that the last successful check took."`
	Error     string    `json:"error,omitempty" doc:"Why the last check failed; left out when it succeeded."`
	Last      time.Time `json:"last" doc:"When the last check ended."`
	Checks    uint64    `json:"checks" doc:"Checks that have been made."`
	Failures  uint64    `json:"failures" doc:"Those among them that failed."`

	Nodes []NodeHealth `json:"nodes,omitempty" doc:"In a cluster, what each node has found that checks the backend; latency, error, last, checks and failures are those of the node that is asked."`
}

// NodeHealth is what one node of a cluster has found of a backend.
type NodeHealth struct {
	Node    string    `json:"node"`
	State   string    `json:"state" enum:"up,down,unknown" doc:"Unknown until its first result."`
	Since   time.Time `json:"since,omitzero" doc:"When it became so."`
	Error   string    `json:"error,omitempty" doc:"Why it is down."`
	Ignored string    `json:"ignored,omitempty" doc:"Why it does not count; left out where it does."`
}

func registerServices(r *Router, node ServiceProvider) {
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/services", Role: ReadOnly, Tag: "services", Summary: "The services, a page at a time",
		Examples: []Example{{Path: "/v1/services"}, {Path: "/v1/services?vip=198.18.0.10&protocol=tcp&pool=web&backends=true&limit=10"}},
	}, node.Services)
	type one struct {
		Name string `path:"name" doc:"Name of the service."`
	}
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/services/{name}", Role: ReadOnly, Tag: "services", Summary: "One service with its backends",
		Examples: []Example{{Path: "/v1/services/web"}},
	}, func(ctx context.Context, in one) (Service, error) { return node.Service(ctx, in.Name) })
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/backends", Role: ReadOnly, Tag: "services", Summary: "The backends, a page at a time",
		Examples: []Example{{Path: "/v1/backends"}, {Path: "/v1/backends?service=web&pool=web&state=up&active=true&limit=10"}},
	}, node.Backends)
}
