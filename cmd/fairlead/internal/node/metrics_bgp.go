package node

import (
	"fairlead/controlplane/announce/bgp"
	"fairlead/controlplane/metrics"
	"fairlead/controlplane/model"
)

// Routing implements metrics.ControlSource.
func (n *Node) Routing() *metrics.Routing {
	peers, ok := n.BGPPeers()
	if !ok {
		return nil
	}
	r := &metrics.Routing{Phase: string(n.DrainStatus().Phase)}
	for i := range peers {
		p := &peers[i]
		m := metrics.Peer{
			Name: p.Name, Established: p.State == bgp.Established, Sessions: p.Ups, Received: p.Received,
			UpdatesSent: p.UpdatesSent, UpdatesReceived: p.UpdatesReceived, BFD: p.BFD.State != "", BFDUp: p.BFD.State == "up",
			Advertised: make(map[string]int, 2),
		}
		for _, family := range []model.BGPFamily{model.IPv4Unicast, model.IPv6Unicast} {
			m.Advertised[string(family)] = p.Advertised[family] // none without a session
		}
		r.Peers = append(r.Peers, m)
	}
	for _, v := range n.Announcements() {
		r.VIPs = append(r.VIPs, metrics.RoutedVIP{Address: v.Address.String(), Announced: v.Withheld == ""})
	}
	return r
}
