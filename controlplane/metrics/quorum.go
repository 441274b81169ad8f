package metrics

import "github.com/prometheus/client_golang/prometheus"

// QuorumSource is a node that checks backends together with others.
type QuorumSource interface {
	// HealthQuorum is how they do; nil when the node is alone.
	HealthQuorum() *HealthQuorum
}

// HealthQuorum is how the nodes of a cluster check backends together.
type HealthQuorum struct {
	Checked                           int  // backends that this node checks
	Unfit                             bool // this node cannot reach most of the backends that others reach
	Nodes                             []NodeViews
	Sent, Received, Refused           uint64 // messages about views
	BytesSent, BytesReceived, Resyncs uint64
}

// NodeViews are the views of one node.
type NodeViews struct {
	Node      string
	Up, Down  int
	Unable    int // that it was to check and cannot
	Missed    int // down, and up by the verdict of all
	Suspected bool
}

// quorumCollector collects what a QuorumSource says.
type quorumCollector struct {
	source                                                                     QuorumSource
	checked, unfit, views, missed, suspected, messages, bytes, refused, resync metric
}

// NewQuorumCollector collects how the nodes of a cluster check backends together.
func NewQuorumCollector(s QuorumSource) prometheus.Collector {
	return &quorumCollector{
		source:    s,
		checked:   gauge("fairlead_cluster_health_checked", "Backends that this node checks."),
		unfit:     gauge("fairlead_cluster_health_unfit", "Whether this node cannot reach most of the backends that other nodes reach."),
		views:     gauge("fairlead_cluster_health_views", "Backends that a node finds up or down, or cannot check although it is to: unable.", "member", "state"),
		missed:    gauge("fairlead_cluster_health_missed", "Backends that a node finds down and that are up by the verdict of all nodes.", "member"),
		suspected: gauge("fairlead_cluster_health_suspected", "Whether the views of a node do not count, since they contradict the other nodes'.", "member"),
		messages:  counter("fairlead_cluster_health_messages_total", "Messages about views, by direction: sent or received.", "direction"),
		bytes:     counter("fairlead_cluster_health_bytes_total", "Bytes of messages about views, by direction: sent or received.", "direction"),
		refused:   counter("fairlead_cluster_health_messages_refused_total", "Messages about views that were not understood."),
		resync:    counter("fairlead_cluster_health_resyncs_total", "Times that all views were told to another node."),
	}
}

// Describe implements prometheus.Collector.
func (c *quorumCollector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range []metric{c.checked, c.unfit, c.views, c.missed, c.suspected, c.messages, c.bytes, c.refused, c.resync} {
		to <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *quorumCollector) Collect(to chan<- prometheus.Metric) {
	q := c.source.HealthQuorum()
	if q == nil {
		return
	}
	c.checked.send(to, float64(q.Checked))
	c.unfit.send(to, truth(q.Unfit))
	for i := range q.Nodes {
		n := &q.Nodes[i]
		c.views.send(to, float64(n.Up), n.Node, "up")
		c.views.send(to, float64(n.Down), n.Node, "down")
		c.views.send(to, float64(n.Unable), n.Node, "unable")
		c.missed.send(to, float64(n.Missed), n.Node)
		c.suspected.send(to, truth(n.Suspected), n.Node)
	}
	c.messages.send(to, float64(q.Sent), "sent")
	c.messages.send(to, float64(q.Received), "received")
	c.bytes.send(to, float64(q.BytesSent), "sent")
	c.bytes.send(to, float64(q.BytesReceived), "received")
	c.refused.send(to, float64(q.Refused))
	c.resync.send(to, float64(q.Resyncs))
}
