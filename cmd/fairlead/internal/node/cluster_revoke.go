package node

import "fairlead/cluster/revoke"

// openRevoke has this node refuse the keys that the cluster takes no more, before
// it speaks to anybody.
func openRevoke(n *Node) (clusterRoom, error) {
	list := revoke.New(revoke.Config{
		Identity: n.cluster.Identity, Members: n.cluster.Members, Store: n.cluster.Store, Log: n.cluster.Log,
	})
	n.cluster.revoked = list
	return clusterRoom{close: func() error { list.Close(); return nil }}, nil
}
