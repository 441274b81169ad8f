package node

import (
	"fmt"
	"strings"

	"fairlead/cluster"
	"fairlead/controlplane/api"
	"fairlead/controlplane/metrics"
)

// Cluster implements metrics.ClusterSource.
func (n *Node) Cluster() *metrics.Cluster {
	c := n.cluster
	if c == nil || c.view == nil {
		return nil
	}
	nodes := c.Members.All()
	m := &metrics.Cluster{Members: map[string]int{}, Wire: cluster.CommonWire(nodes), Connected: map[string]bool{}, Mismatches: map[string]int{}, EntriesRefused: map[string]uint64{}}
	differing := c.view.Mismatches()
	for _, one := range nodes {
		m.Members[string(one.State)]++
		if one.Name != c.Identity.Name() && one.State != cluster.Left {
			m.Mismatches[one.Name] = differing[one.Name]
		}
	}
	gossip := c.gossip.Stats()
	m.Events = map[string]uint64{
		"joined": gossip.Joined, "died": gossip.Died, "left": gossip.Left, "suspected": gossip.Suspected,
		"refuted": gossip.Refuted, "conflict": gossip.Conflicts, "refused": gossip.Refused,
	}
	m.Packets, m.Bytes = metrics.Directions{Sent: gossip.PacketsOut, Received: gossip.PacketsIn}, metrics.Directions{Sent: gossip.BytesOut, Received: gossip.BytesIn}
	m.Undecipherable, m.Unrelayed, m.Strain, m.Rotations = gossip.Undecipherable, gossip.Dropped, gossip.Health, gossip.Rotations

	streams := c.streams.Stats()
	m.Accepted, m.Failed, m.Refused = streams.Accepted, streams.Failed, streams.Refused
	for _, s := range streams.Connections {
		m.Connected[s.Node] = true
		m.Messages.Sent += s.Sent
		m.Messages.Received += s.Received
		m.StreamBytes.Sent += s.SentBytes
		m.StreamBytes.Received += s.ReceivedBytes
	}
	for _, s := range streams.Missing {
		m.Connected[s.Node] = false
	}

	shared := c.shared.Stats()
	m.Entries, m.Tombstones, m.Held, m.Written, m.Taken = shared.Entries, shared.Tombstones, shared.Bytes, shared.Written, shared.Taken
	for reason, count := range shared.Refused {
		m.EntriesRefused[string(reason)] = count
	}
	m.Compared, m.Differed, m.Wrong = shared.Compared, shared.Differed, shared.Failed
	m.Fetched = metrics.Directions{Sent: shared.SentBytes, Received: shared.TookBytes}

	m.Drained = len(n.drainedMembers())
	m.TableComparisons, m.NotCompared = c.view.Comparisons()
	return m
}

// clusterCounters are what this node counts of what is shared, for the status of
// the cluster.
func (n *Node) clusterCounters() map[string]uint64 {
	m := n.Cluster()
	if m == nil {
		return nil
	}
	out := map[string]uint64{
		"gossip_bytes_sent": m.Bytes.Sent, "gossip_bytes_received": m.Bytes.Received, "stream_bytes_sent": m.StreamBytes.Sent, "stream_bytes_received": m.StreamBytes.Received,
		"store_entries": uint64(m.Entries), "store_bytes": uint64(m.Held), "store_taken": m.Taken, "table_comparisons": m.TableComparisons,
	}
	for reason, count := range m.EntriesRefused {
		if count > 0 {
			out["store_refused_"+reason] = count
		}
	}
	return out
}

// alarms are what is not as it is wanted in the cluster, as this node sees it,
// besides its members and tables.
func (n *Node) alarms() []api.Condition {
	list := n.clusterAlarms()
	for _, s := range n.cluster.streams.Stats().Missing {
		if s.Reason != "" {
			list = append(list, api.Condition{Health: api.HealthDegraded, Subject: "member " + s.Node, Message: fmt.Sprintf("%s has no stream with it: %s", n.cluster.Identity.Name(), s.Reason)})
		}
	}
	return list
}

// tableConditions are the members that this node's tables differ from: subject and
// message.
func (n *Node) tableConditions() (list [][2]string) {
	if n.cluster == nil || n.cluster.view == nil {
		return nil
	}
	for _, m := range n.cluster.view.OwnMismatches() {
		list = append(list, [2]string{"cluster", fmt.Sprintf("the Maglev tables of %d pools differ from those of %s, of %s among them: packets of one connection may go to different backends; see `fairlead cluster diff %s`",
			m.Count, m.Other, strings.Join(m.Pools, ", "), m.Other)})
	}
	return list
}
