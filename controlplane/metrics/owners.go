package metrics

import "github.com/prometheus/client_golang/prometheus"

// OwnerSource is a node that shares VIPs with others.
type OwnerSource interface {
	// VIPOwnership is how they do; nil when the node is alone.
	VIPOwnership() *VIPOwnership
}

// VIPOwnership is how the nodes of a cluster share VIPs, as this node sees it.
type VIPOwnership struct {
	Owned          map[string]int // VIPs of each node that could own some
	Unowned        int            // VIPs that nobody answers for
	Taken, Yielded uint64         // by this node
	Returns        uint64         // of other nodes
	Impaired       bool           // this node is
	Settled        bool           // this node is
}

// ownerCollector collects what an OwnerSource says.
type ownerCollector struct {
	source                                             OwnerSource
	owned, unowned, moves, returns, impaired, settling metric
}

// NewOwnerCollector collects how the nodes of a cluster share VIPs.
func NewOwnerCollector(s OwnerSource) prometheus.Collector {
	return &ownerCollector{
		source:   s,
		owned:    gauge("fairlead_cluster_owner_vips", "VIPs that a node answers for by ARP and neighbour discovery, as this node sees it.", "member"),
		unowned:  gauge("fairlead_cluster_owner_unowned_vips", "VIPs that no node answers for, as this node sees it."),
		moves:    counter("fairlead_cluster_owner_moves_total", "VIPs that have become this node's or have ceased to be: taken, or yielded.", "direction"),
		returns:  counter("fairlead_cluster_owner_returns_total", "Times that another node has come back after it was taken for dead or had left."),
		impaired: gauge("fairlead_cluster_owner_impaired", "Whether something is wrong with this node, so that VIPs go to others."),
		settling: gauge("fairlead_cluster_owner_settled", "Whether this node has been well for hold_down, so that it may take VIPs from others."),
	}
}

// Describe implements prometheus.Collector.
func (c *ownerCollector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range []metric{c.owned, c.unowned, c.moves, c.returns, c.impaired, c.settling} {
		to <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *ownerCollector) Collect(to chan<- prometheus.Metric) {
	o := c.source.VIPOwnership()
	if o == nil {
		return
	}
	for node, n := range o.Owned {
		c.owned.send(to, float64(n), node)
	}
	c.unowned.send(to, float64(o.Unowned))
	c.moves.send(to, float64(o.Taken), "taken")
	c.moves.send(to, float64(o.Yielded), "yielded")
	c.returns.send(to, float64(o.Returns))
	c.impaired.send(to, truth(o.Impaired))
	c.settling.send(to, truth(o.Settled))
}
