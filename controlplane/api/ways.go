package api

import (
	"context"
	"net/http"
	"time"
)

// WayProvider tells how packets leave the node, and how they find it.
type WayProvider interface {
	// Neighbors lists the neighbours that backends and gateways are reached by:
	// those with a problem first, then by interface and address.
	Neighbors(ctx context.Context, q NeighborQuery) (NeighborPage, error)
	// Routes lists the ways to backends and gateways: those with a problem
	// first, then by address.
	Routes(ctx context.Context, q RouteQuery) (RoutePage, error)
	// Addresses lists the addresses of this node, in their order, and how they
	// are announced by ARP and neighbour discovery.
	Addresses(ctx context.Context, q AddressQuery) (AddressPage, error)
}

// NeighborQuery says which neighbours are asked for.
type NeighborQuery struct {
	Problems bool   `query:"problems" doc:"Only those with a problem." default:"false"`
	After    string `query:"after" doc:"Where the page begins: next of the page before."`
	Limit    int    `query:"limit" doc:"How many a page has at most." default:"100" minimum:"1" maximum:"1000"`
}

// NeighborPage is a page of neighbours.
type NeighborPage struct {
	Neighbors []Neighbor `json:"neighbors"`
	Next      string     `json:"next,omitempty" doc:"What the next page is asked for with; left out when there is none."`
}

// Neighbor is a host on one of the node's segments that packets are sent to.
type Neighbor struct {
	Interface string     `json:"interface"`
	Address   string     `json:"address"`
	MAC       string     `json:"mac,omitempty" doc:"The Ethernet address in use; left out where none is known."`
	State     string     `json:"state" enum:"static,permanent,noarp,reachable,stale,delay,probe,incomplete,failed,none" doc:"The kernel's word for its entry; static for a configured one."`
	Resolved  bool       `json:"resolved" doc:"Whether packets can be sent to it."`
	Answers   bool       `json:"answers" doc:"Whether it answers, as far as is known. A known address stays in use while it does not."`
	Since     *time.Time `json:"since,omitempty" doc:"When state or address became what they are."`
	Targets   int        `json:"targets" doc:"How many backends and gateways are reached by it."`
	For       []string   `json:"for" doc:"Some of these."`
	Problem   string     `json:"problem,omitempty"`
	Advice    string     `json:"advice,omitempty" doc:"What to do about it."`
}

// RouteQuery says which ways are asked for.
type RouteQuery struct {
	Problems bool   `query:"problems" doc:"Only those with a problem." default:"false"`
	After    string `query:"after" doc:"Where the page begins: next of the page before."`
	Limit    int    `query:"limit" doc:"How many a page has at most." default:"100" minimum:"1" maximum:"1000"`
}

// RoutePage is a page of ways.
type RoutePage struct {
	Routes []Route `json:"routes"`
	Next   string  `json:"next,omitempty" doc:"What the next page is asked for with; left out when there is none."`
}

// Route is how one address is reached.
type Route struct {
	Target   string     `json:"target" doc:"The address of a backend, or of a configured gateway or neighbour."`
	Backends []string   `json:"backends" doc:"Some of the backends with this address, as pool/name."`
	Count    int        `json:"count" doc:"How many backends have this address."`
	Hops     []RouteHop `json:"hops" doc:"What the routes lead to, the one in use first; none when there is no way."`
	Problem  string     `json:"problem,omitempty"`
	Advice   string     `json:"advice,omitempty" doc:"What to do about it."`
}

// RouteHop is one next hop of a way.
type RouteHop struct {
	Interface string `json:"interface"`
	Address   string `json:"address" doc:"The gateway's, or the target's own where it is on the link."`
	MAC       string `json:"mac,omitempty"`
	State     string `json:"state"`
	Resolved  bool   `json:"resolved"`
	Answers   bool   `json:"answers"`
	Weight    int    `json:"weight" doc:"Against the other hops. Each address goes by one of them; several addresses spread."`
}

// AddressQuery says which addresses are asked for.
type AddressQuery struct {
	After string `query:"after" doc:"Where the page begins: next of the page before."`
	Limit int    `query:"limit" doc:"How many a page has at most." default:"100" minimum:"1" maximum:"1000"`
}

// AddressPage is a page of addresses.
type AddressPage struct {
	Addresses []Address `json:"addresses"`
	Next      string    `json:"next,omitempty" doc:"What the next page is asked for with; left out when there is none."`
}

// Address is one address of this node.
type Address struct {
	Address    string           `json:"address"`
	Kind       string           `json:"kind" enum:"vip,snat,tunnel"`
	Answered   bool             `json:"answered" doc:"Whether ARP requests and neighbour solicitations for it are answered."`
	Owner      string           `json:"owner,omitempty" doc:"Of a VIP in a cluster: the node that answers for it, as this node sees it; left out where that is nobody or not known."`
	Interfaces []string         `json:"interfaces" doc:"On which it is announced; empty where it is not."`
	Announced  int              `json:"announced" doc:"Times since it became this node's, or since an interface has changed."`
	Last       *time.Time       `json:"last,omitempty" doc:"When it was announced last."`
	Conflict   *AddressConflict `json:"conflict,omitempty" doc:"Another host that claims it."`
}

// AddressConflict is another host that claims an address of this node.
type AddressConflict struct {
	Interface string    `json:"interface" doc:"Where it was heard."`
	MAC       string    `json:"mac"`
	First     time.Time `json:"first" doc:"When it was heard first."`
	Last      time.Time `json:"last" doc:"When it was heard last."`
}

func registerWays(r *Router, node WayProvider) {
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/neighbors", Role: ReadOnly, Tag: "network", Summary: "The neighbours that backends are reached by, a page at a time",
		Examples: []Example{{Path: "/v1/neighbors"}, {Path: "/v1/neighbors?problems=true&limit=10"}},
	}, node.Neighbors)
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/routes", Role: ReadOnly, Tag: "network", Summary: "The ways to backends, a page at a time",
		Examples: []Example{{Path: "/v1/routes"}, {Path: "/v1/routes?problems=true&limit=10"}},
	}, node.Routes)
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/addresses", Role: ReadOnly, Tag: "network", Summary: "The node's addresses and how they are announced, a page at a time",
		Examples: []Example{{Path: "/v1/addresses"}, {Path: "/v1/addresses?limit=10"}},
	}, node.Addresses)
}
