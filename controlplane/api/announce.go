package api

import (
	"context"
	"net/http"
	"time"
)

// Announcer tells the network which VIPs are here.
type Announcer interface {
	AnnouncedVIPs(ctx context.Context) (Announcements, error)
	BGP(ctx context.Context) (BGP, error)
	// DrainState says how far the node is out of service.
	DrainState(ctx context.Context) (DrainState, error)
	// StartDrain takes the node out of service, StopDrain puts it back; they
	// return what it has come to at once.
	StartDrain(ctx context.Context) (DrainState, error)
	StopDrain(ctx context.Context) (DrainState, error)
}

// Announcements are the VIPs, and what routers are told of them.
type Announcements struct {
	Phase string     `json:"phase" enum:"in_service,leaving,withdrawn,drained"`
	VIPs  []VIPRoute `json:"vips" doc:"By address."`
}

// VIPRoute is one VIP.
type VIPRoute struct {
	Address         string   `json:"address"`
	Owned           bool     `json:"owned" doc:"Whether the node answers for it by ARP and neighbour discovery."`
	Owner           string   `json:"owner,omitempty" doc:"The node of the cluster that answers for it, as this node sees it; left out where that is nobody or not known, and for a node that is alone."`
	Announced       bool     `json:"announced" doc:"Whether BGP peers are told of it."`
	Reason          string   `json:"reason,omitempty" enum:"off,not_forwarding,draining,unfit,no_service,no_backends" doc:"Why they are not; left out when they are."`
	Services        []string `json:"servicesWithoutBackends,omitempty" doc:"With the reason no_backends: the services that have none that is alive."`
	Communities     []string `json:"communities"`
	LocalPreference *uint32  `json:"localPreference,omitempty" doc:"Left out when none is named."`
	MED             uint32   `json:"med,omitempty"`
}

// BGP is the node's BGP speaker.
type BGP struct {
	Enabled  bool      `json:"enabled"`
	ASN      uint32    `json:"asn,omitempty"`
	RouterID string    `json:"routerId,omitempty"`
	Peers    []BGPPeer `json:"peers" doc:"By name."`
}

// BGPPeer is one router.
type BGPPeer struct {
	Name            string         `json:"name" doc:"Address or interface, as configured."`
	Address         string         `json:"address,omitempty" doc:"Left out while an unnumbered peer has not been found."`
	ASN             uint32         `json:"asn,omitempty" doc:"Left out while it is not known."`
	RouterID        string         `json:"routerId,omitempty"`
	State           string         `json:"state" enum:"idle,connect,active,open_sent,open_confirm,established,searching,prefix_limit,refused"`
	Since           time.Time      `json:"since" doc:"Since when the session stands, or does not."`
	Established     int            `json:"established" doc:"Sessions that there have been."`
	LastError       string         `json:"lastError,omitempty" doc:"Why the last session or attempt ended; left out when none has."`
	LastErrorAt     *time.Time     `json:"lastErrorAt,omitempty"`
	HoldTimeS       int            `json:"holdTimeS,omitempty" doc:"Seconds, negotiated."`
	GracefulRestart bool           `json:"gracefulRestart" doc:"Whether it was negotiated."`
	Advertised      map[string]int `json:"advertised" doc:"Routes that it was told of, by family: ipv4, ipv6."`
	Received        int            `json:"received" doc:"Prefixes that it has sent, all of which are thrown away."`
	UpdatesSent     uint64         `json:"updatesSent"`
	UpdatesReceived uint64         `json:"updatesReceived"`
	BFD             *BFD           `json:"bfd,omitempty" doc:"Left out when there is none."`
}

// BFD is a BFD session.
type BFD struct {
	State    string `json:"state" enum:"down,init,up,admin_down"`
	Sent     uint64 `json:"sent"`
	Received uint64 `json:"received"`
}

// DrainState says how far a node is out of service.
type DrainState struct {
	Phase string     `json:"phase" enum:"in_service,leaving,withdrawn,drained" doc:"leaving: routers are asked for other ways; withdrawn: nothing is announced, what comes still is served; drained: nothing comes any more."`
	Since *time.Time `json:"since,omitempty" doc:"Since when; left out when it has been so from the start."`
}

func registerAnnounce(r *Router, node Announcer) {
	type none struct{}
	ask := func(path, summary string) Endpoint {
		return Endpoint{Method: http.MethodGet, Path: path, Role: ReadOnly, Tag: "announcement", Summary: summary, Examples: []Example{{Path: path}}}
	}
	Handle(r, ask("/v1/announcements", "The VIPs, and what routers are told of them"),
		func(ctx context.Context, _ none) (Announcements, error) { return node.AnnouncedVIPs(ctx) })
	Handle(r, ask("/v1/bgp", "The BGP speaker and its peers"),
		func(ctx context.Context, _ none) (BGP, error) { return node.BGP(ctx) })
	Handle(r, ask("/v1/drain", "How far the node is out of service"),
		func(ctx context.Context, _ none) (DrainState, error) { return node.DrainState(ctx) })
	Handle(r, Endpoint{
		Method: http.MethodPost, Path: "/v1/drain", Role: Operator, Tag: "announcement",
		Summary:     "Take the node out of service",
		Description: "Routers are asked for other ways, then the VIPs are withdrawn, and what comes still is served. The answer comes at once. The node stays drained over restarts.",
		Examples:    []Example{{Path: "/v1/drain"}},
	}, func(ctx context.Context, _ none) (DrainState, error) { return node.StartDrain(ctx) })
	Handle(r, Endpoint{
		Method: http.MethodPost, Path: "/v1/undrain", Role: Operator, Tag: "announcement",
		Summary:  "Put a drained node back in service",
		Examples: []Example{{Path: "/v1/undrain"}},
	}, func(ctx context.Context, _ none) (DrainState, error) { return node.StopDrain(ctx) })
}
