package node

import "fairlead/controlplane/metrics"

// VIPOwnership implements metrics.OwnerSource.
func (n *Node) VIPOwnership() *metrics.VIPOwnership {
	c := n.ownership.cluster
	if c == nil {
		return nil
	}
	s := c.room.Stats()
	out := &metrics.VIPOwnership{Owned: make(map[string]int), Taken: s.Taken, Yielded: s.Yielded, Returns: s.Returns}
	self := n.cluster.Members.Self().Name
	for _, node := range c.room.Nodes() {
		if node.State.Serves() || node.VIPs > 0 {
			out.Owned[node.Name] = node.VIPs
		}
		if node.Name == self {
			out.Impaired, out.Settled = node.Impaired != "", node.Settled
		}
	}
	for _, owner := range c.room.Owners() {
		if owner == "" {
			out.Unowned++
		}
	}
	return out
}
