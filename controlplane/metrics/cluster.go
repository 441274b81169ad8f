package metrics

import "github.com/prometheus/client_golang/prometheus"

// ClusterSource is a node that is one of several.
type ClusterSource interface {
	// Cluster is how it sees the others; nil when it is alone.
	Cluster() *Cluster
}

// Cluster is how a node sees the cluster that it is in.
type Cluster struct {
	Members map[string]int // by state, each of MemberStates
	Drained int
	Wire    int // the version of messages that all members read; 0: there is none

	Events                    map[string]uint64 // of members, by what happened
	Packets, Bytes            Directions        // of gossip
	Undecipherable, Unrelayed uint64            // gossip that was not read, and that was not passed on
	Strain                    int               // 0: this node keeps up with its probes
	Rotations                 uint64

	Connected                 map[string]bool // members that there are to be streams with
	Accepted, Failed          uint64          // streams
	Refused                   map[string]uint64
	Messages, StreamBytes     Directions // of the streams that stand
	Entries, Tombstones, Held int        // of what is shared, and its bytes
	Written, Taken            uint64     // entries
	EntriesRefused            map[string]uint64
	Compared, Differed, Wrong uint64     // comparisons of what is shared: all, those that found something, those without an end
	Fetched                   Directions // bytes of what is shared

	Mismatches                    map[string]int // pools whose tables differ, by member; for each member
	TableComparisons, NotCompared uint64
}

// Directions are two numbers: what went and what came.
type Directions struct{ Sent, Received uint64 }

// MemberStates are the states of members.
var MemberStates = []string{"alive", "suspect", "dead", "left"}

// clusterCollector collects what a ClusterSource says.
type clusterCollector struct {
	source ClusterSource

	members, drained, wire, events, packets, bytes, undecipherable, unrelayed, strain, rotations metric
	connected, accepted, failed, refused, messages, streamBytes                                  metric
	entries, tombstones, held, written, taken, entriesRefused, compared, fetched                 metric
	mismatch, comparisons                                                                        metric
}

// NewClusterCollector collects how a node sees its cluster.
func NewClusterCollector(s ClusterSource) prometheus.Collector {
	return &clusterCollector{
		source:         s,
		members:        gauge("fairlead_cluster_members", "Members of the cluster by state: alive, suspect, dead or left.", "state"),
		drained:        gauge("fairlead_cluster_members_drained", "Members of the cluster that are drained."),
		wire:           gauge("fairlead_cluster_wire_version", "The newest version of messages between nodes that all members read. 0: there is none."),
		events:         counter("fairlead_cluster_member_events_total", "What happened to members, by event: joined, died, left, suspected, refuted, conflict or refused.", "event"),
		packets:        counter("fairlead_cluster_gossip_packets_total", "Packets of gossip, by direction: sent or received.", "direction"),
		bytes:          counter("fairlead_cluster_gossip_bytes_total", "Bytes of gossip, by direction: sent or received.", "direction"),
		undecipherable: counter("fairlead_cluster_gossip_undecipherable_total", "Packets and streams of gossip that came with an unknown key, or none."),
		unrelayed:      counter("fairlead_cluster_gossip_dropped_total", "Messages that were not passed on, since too many waited."),
		strain:         gauge("fairlead_cluster_gossip_strain", "0 when this node keeps up with its probes of others; more when it does not."),
		rotations:      counter("fairlead_cluster_key_rotations_total", "Rotations of the gossip key that were begun here."),
		connected:      gauge("fairlead_cluster_peer_connected", "Whether there is a stream with a member.", "member"),
		accepted:       counter("fairlead_cluster_streams_accepted_total", "Streams of other members that were taken."),
		failed:         counter("fairlead_cluster_streams_failed_total", "Attempts to open a stream to a member that failed."),
		refused:        counter("fairlead_cluster_streams_refused_total", "Streams that were not taken, by reason.", "reason"),
		messages:       gauge("fairlead_cluster_stream_messages", "Messages on the streams that stand, by direction: sent or received.", "direction"),
		streamBytes:    gauge("fairlead_cluster_stream_bytes", "Bytes on the streams that stand, by direction: sent or received.", "direction"),
		entries:        gauge("fairlead_cluster_store_entries", "Entries that all nodes share."),
		tombstones:     gauge("fairlead_cluster_store_tombstones", "Entries that were deleted, and are remembered as such."),
		held:           gauge("fairlead_cluster_store_bytes", "Bytes of what all nodes share."),
		written:        counter("fairlead_cluster_store_written_total", "Entries that this node has written."),
		taken:          counter("fairlead_cluster_store_taken_total", "Entries that came from other nodes."),
		entriesRefused: counter("fairlead_cluster_store_refused_total", "Entries of other nodes that were refused, by reason.", "reason"),
		compared:       counter("fairlead_cluster_store_comparisons_total", "Comparisons of what is shared with another node, by result: equal, different or failed.", "result"),
		fetched:        counter("fairlead_cluster_store_transfer_bytes_total", "Bytes that went between nodes by comparing, by direction: sent or received.", "direction"),
		mismatch:       gauge("fairlead_cluster_table_mismatch", "Pools whose Maglev tables have differed between this node and a member for longer than a change takes.", "member"),
		comparisons:    counter("fairlead_cluster_table_comparisons_total", "Comparisons of Maglev tables with another member, by result: done or failed.", "result"),
	}
}

func (c *clusterCollector) all() []metric {
	return []metric{
		c.members, c.drained, c.wire, c.events, c.packets, c.bytes, c.undecipherable, c.unrelayed, c.strain, c.rotations,
		c.connected, c.accepted, c.failed, c.refused, c.messages, c.streamBytes,
		c.entries, c.tombstones, c.held, c.written, c.taken, c.entriesRefused, c.compared, c.fetched, c.mismatch, c.comparisons,
	}
}

// Describe implements prometheus.Collector.
func (c *clusterCollector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range c.all() {
		to <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *clusterCollector) Collect(to chan<- prometheus.Metric) {
	s := c.source.Cluster()
	if s == nil {
		return
	}
	both := func(m metric, d Directions) {
		m.send(to, float64(d.Sent), "sent")
		m.send(to, float64(d.Received), "received")
	}
	for _, state := range MemberStates {
		c.members.send(to, float64(s.Members[state]), state)
	}
	c.drained.send(to, float64(s.Drained))
	c.wire.send(to, float64(s.Wire))
	sendEach(to, c.events, s.Events)
	both(c.packets, s.Packets)
	both(c.bytes, s.Bytes)
	c.undecipherable.send(to, float64(s.Undecipherable))
	c.unrelayed.send(to, float64(s.Unrelayed))
	c.strain.send(to, float64(s.Strain))
	c.rotations.send(to, float64(s.Rotations))
	for member, is := range s.Connected {
		c.connected.send(to, truth(is), member)
	}
	c.accepted.send(to, float64(s.Accepted))
	c.failed.send(to, float64(s.Failed))
	sendEach(to, c.refused, s.Refused)
	both(c.messages, s.Messages)
	both(c.streamBytes, s.StreamBytes)
	c.entries.send(to, float64(s.Entries))
	c.tombstones.send(to, float64(s.Tombstones))
	c.held.send(to, float64(s.Held))
	c.written.send(to, float64(s.Written))
	c.taken.send(to, float64(s.Taken))
	sendEach(to, c.entriesRefused, s.EntriesRefused)
	c.compared.send(to, float64(s.Compared-min(s.Compared, s.Differed)), "equal")
	c.compared.send(to, float64(s.Differed), "different")
	c.compared.send(to, float64(s.Wrong), "failed")
	both(c.fetched, s.Fetched)
	for member, pools := range s.Mismatches {
		c.mismatch.send(to, float64(pools), member)
	}
	c.comparisons.send(to, float64(s.TableComparisons-min(s.TableComparisons, s.NotCompared)), "done")
	c.comparisons.send(to, float64(s.NotCompared), "failed")
}

// sendEach sends a series for each of some numbers.
func sendEach(to chan<- prometheus.Metric, m metric, numbers map[string]uint64) {
	for label, n := range numbers {
		m.send(to, float64(n), label)
	}
}
