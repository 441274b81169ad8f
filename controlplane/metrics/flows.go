package metrics

import "github.com/prometheus/client_golang/prometheus"

// ToldSource is a node that tells others of flows, and is told.
type ToldSource interface {
	// ToldFlows is what has been told; nil when the node is alone.
	ToldFlows() *ToldFlows
}

// ToldFlows is what the nodes of a cluster have told each other of flows.
type ToldFlows struct {
	Told, Received                      map[string]uint64 // flows, by what was told of them
	Taken, Refused, Unresolved, Dropped uint64            // of those received
	Waiting                             int
	MessagesSent, MessagesReceived      uint64
	BytesSent, BytesReceived            uint64
	Bad                                 uint64
	Resyncs, Overflows, Scans           uint64
	Bases, Moving, Behind               int
}

// toldCollector collects what a ToldSource says.
type toldCollector struct {
	source ToldSource
	told, received, outcomes, waiting, messages, bytes, bad,
	resyncs, overflows, scans, bases, behind metric
}

// NewToldCollector collects what the nodes of a cluster tell each other of flows.
func NewToldCollector(s ToldSource) prometheus.Collector {
	return &toldCollector{
		source:    s,
		told:      counter("fairlead_cluster_flows_told_total", "Flows that other nodes were told of, however many they are, by what was said of them: established, ending, ended or affinity.", "kind"),
		received:  counter("fairlead_cluster_flows_received_total", "Flows that other nodes told of, by what they said.", "kind"),
		outcomes:  counter("fairlead_cluster_flows_imported_total", "What became of flows that other nodes told of: taken; refused, as this node cannot have them; unresolved, as it did not know their service or backend in time; dropped, as there was no room, and asked for again.", "outcome"),
		waiting:   gauge("fairlead_cluster_flows_waiting", "Flows that other nodes told of and whose service or backend is not known here yet."),
		messages:  counter("fairlead_cluster_flows_messages_total", "Messages about flows, by direction: sent, counted for each node that they went to, or received.", "direction"),
		bytes:     counter("fairlead_cluster_flows_bytes_total", "Bytes of messages about flows, by direction: sent or received.", "direction"),
		bad:       counter("fairlead_cluster_flows_messages_refused_total", "Messages about flows that were not understood."),
		resyncs:   counter("fairlead_cluster_flows_resyncs_total", "Times that a node that was not in step was told all again."),
		overflows: counter("fairlead_cluster_flows_overflows_total", "Times that workers had more to tell than there was room for, so that all was told again."),
		scans:     counter("fairlead_cluster_flows_scans_total", "Times that the flow table was looked through."),
		bases:     gauge("fairlead_cluster_flows_bases", "Pools that have a base, by whether it is being replaced: steady or moving.", "state"),
		behind:    gauge("fairlead_cluster_flows_behind", "Nodes that do not know all that this node tells yet."),
	}
}

func (c *toldCollector) all() []metric {
	return []metric{c.told, c.received, c.outcomes, c.waiting, c.messages, c.bytes, c.bad, c.resyncs, c.overflows, c.scans, c.bases, c.behind}
}

// Describe implements prometheus.Collector.
func (c *toldCollector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range c.all() {
		to <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *toldCollector) Collect(to chan<- prometheus.Metric) {
	f := c.source.ToldFlows()
	if f == nil {
		return
	}
	for kind, n := range f.Told {
		c.told.send(to, float64(n), kind)
	}
	for kind, n := range f.Received {
		c.received.send(to, float64(n), kind)
	}
	c.outcomes.send(to, float64(f.Taken), "taken")
	c.outcomes.send(to, float64(f.Refused), "refused")
	c.outcomes.send(to, float64(f.Unresolved), "unresolved")
	c.outcomes.send(to, float64(f.Dropped), "dropped")
	c.waiting.send(to, float64(f.Waiting))
	c.messages.send(to, float64(f.MessagesSent), "sent")
	c.messages.send(to, float64(f.MessagesReceived), "received")
	c.bytes.send(to, float64(f.BytesSent), "sent")
	c.bytes.send(to, float64(f.BytesReceived), "received")
	c.bad.send(to, float64(f.Bad))
	c.resyncs.send(to, float64(f.Resyncs))
	c.overflows.send(to, float64(f.Overflows))
	c.scans.send(to, float64(f.Scans))
	c.bases.send(to, float64(f.Bases-f.Moving), "steady")
	c.bases.send(to, float64(f.Moving), "moving")
	c.behind.send(to, float64(f.Behind))
}
