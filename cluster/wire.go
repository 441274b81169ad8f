package cluster

// The versions of messages between nodes. Each node says which it reads
// (Node.WireMin, Node.WireMax), and two speak the newest that both read. So while
// a cluster is upgraded node by node, newer ones speak the older version to those
// that are yet to be. A version is read for at least one release after the next one
// has come.
//
// Something is added to a message without another version: whoever reads it ignores
// what it does not know. Another version is for what cannot be ignored.
const (
	wireOldest = 1
	wireNewest = 1
)

// nextWire is set when a binary is linked that rolling upgrades are tested with
// (-ldflags "-X fairlead/cluster.nextWire=yes"). It reads a version more than there
// is, and speaks it with those that do so, too.
var nextWire string

// WireVersions are the oldest and the newest version of messages that this binary
// reads. All rooms of the cluster go by them.
func WireVersions() (oldest, newest int) {
	if nextWire != "" {
		return wireOldest, wireNewest + 1
	}
	return wireOldest, wireNewest
}

// SpeakTo is the version that this binary speaks to a node: the newest that both
// read; 0 when there is none.
func SpeakTo(n *Node) int {
	oldest, newest := WireVersions()
	if common := min(newest, n.WireMax); common >= max(oldest, n.WireMin) {
		return common
	}
	return 0
}

// CommonWire is the newest version that all of the nodes read that are to be counted
// on; 0 when there is none.
func CommonWire(nodes []Node) int {
	oldest, newest := WireVersions()
	for i := range nodes {
		if nodes[i].State.Serves() {
			oldest, newest = max(oldest, nodes[i].WireMin), min(newest, nodes[i].WireMax)
		}
	}
	if newest < oldest {
		return 0
	}
	return newest
}
