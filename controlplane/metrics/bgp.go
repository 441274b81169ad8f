package metrics

import "github.com/prometheus/client_golang/prometheus"

// Routing is what routers are told by BGP.
type Routing struct {
	Phase string // of the node's service; one of Phases
	Peers []Peer
	VIPs  []RoutedVIP
}

// Phases are the phases of a node's service.
var Phases = []string{"in_service", "leaving", "withdrawn", "drained"}

// Peer is one BGP session.
type Peer struct {
	Name                         string
	Established                  bool
	Sessions                     int // that were established
	Advertised                   map[string]int
	Received                     int
	UpdatesSent, UpdatesReceived uint64
	BFD, BFDUp                   bool
}

// RoutedVIP is one virtual address that routers may be told of.
type RoutedVIP struct {
	Address   string
	Announced bool
}

// routingMetrics are the metrics of BGP.
type routingMetrics struct {
	phase, up, sessions, advertised, received, updates, bfd, vip metric
}

func (r *routingMetrics) init() []metric {
	*r = routingMetrics{
		phase:      gauge("fairlead_drain_phase", "Whether the node's service is in a phase: in_service, leaving, withdrawn or drained.", "phase"),
		up:         gauge("fairlead_bgp_session_up", "Whether the BGP session with a peer is established.", "peer"),
		sessions:   counter("fairlead_bgp_sessions_established_total", "BGP sessions with a peer that were established.", "peer"),
		advertised: gauge("fairlead_bgp_advertised_prefixes", "Prefixes that a peer is told of, by address family.", "peer", "family"),
		received:   gauge("fairlead_bgp_received_prefixes", "Prefixes that a peer has sent. All are thrown away.", "peer"),
		updates:    counter("fairlead_bgp_updates_total", "BGP updates, by direction: sent or received.", "peer", "direction"),
		bfd:        gauge("fairlead_bfd_session_up", "Whether the BFD session with a peer is up. Not there for peers without BFD.", "peer"),
		vip:        gauge("fairlead_bgp_vip_announced", "Whether BGP peers are told of a virtual address.", "vip"),
	}
	return []metric{r.phase, r.up, r.sessions, r.advertised, r.received, r.updates, r.bfd, r.vip}
}

func (r *routingMetrics) collect(to chan<- prometheus.Metric, n *Routing) {
	for _, p := range Phases {
		r.phase.send(to, truth(p == n.Phase), p)
	}
	for i := range n.Peers {
		p := &n.Peers[i]
		r.up.send(to, truth(p.Established), p.Name)
		r.sessions.send(to, float64(p.Sessions), p.Name)
		for family, count := range p.Advertised {
			r.advertised.send(to, float64(count), p.Name, family)
		}
		r.received.send(to, float64(p.Received), p.Name)
		r.updates.send(to, float64(p.UpdatesSent), p.Name, "sent")
		r.updates.send(to, float64(p.UpdatesReceived), p.Name, "received")
		if p.BFD {
			r.bfd.send(to, truth(p.BFDUp), p.Name)
		}
	}
	for i := range n.VIPs {
		r.vip.send(to, truth(n.VIPs[i].Announced), n.VIPs[i].Address)
	}
}
