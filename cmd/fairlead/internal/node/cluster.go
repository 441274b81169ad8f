package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"fairlead/cluster"
	"fairlead/cluster/apply"
	"fairlead/cluster/identity"
	"fairlead/cluster/member"
	"fairlead/cluster/peer"
	"fairlead/cluster/revoke"
	"fairlead/cluster/store"
	clusterview "fairlead/cluster/view"
)

// clustered is how this node is one of several.
type clustered struct {
	Members  cluster.Members
	Peers    cluster.Peers
	Store    cluster.Store
	Identity *identity.Identity
	Log      *slog.Logger

	apply   *apply.Apply // what all nodes are to do the same
	revoked *revoke.List // keys that are not taken any more
	// The same as Members, Peers and Store, for what only they can do.
	gossip  *member.Members
	streams *peer.Peers
	shared  *store.Store

	view    *clusterview.View // nil before it is made
	fellows *clusterFellows   // nil: the node follows no Kubernetes

	rooms  []clusterRoom
	join   func(context.Context) error // begins to speak with the other nodes
	leave  func()                      // tells them that this node goes, and waits until they have taken over
	close  []func() error              // of what the rooms are made of, in the order of opening
	closed bool
}

// clusterRoom is one part of what the nodes do together. Each func may be nil.
type clusterRoom struct {
	start func(context.Context) error // when this node forwards, before it joins the others
	close func() error
}

// clusterRooms make the rooms of the cluster of Members, Peers and Store
// (n.cluster), in this order. They register what they receive; nothing arrives
// before the node joins. They are called before the node forwards or announces
// anything, so that a room can keep it from owning what others own. They are
// closed in reverse, before what they are made of.
var clusterRooms = []func(*Node) (clusterRoom, error){
	openRevoke,
	openClusterHealth,
	openOwner,
	openApply,
	openClusterFlows,
	openClusterKubernetes,
	openClusterView, // the last
}

// openCluster makes everything of the cluster; the node joins it later. Nothing
// is done for a node that is alone.
func (n *Node) openCluster() error {
	if !n.cfg.Cluster.Enabled {
		return nil
	}
	c := &clustered{Log: n.log.With("part", "cluster")}
	n.cluster = c
	if err := n.openClusterBase(c); err != nil {
		return errors.Join(err, n.closeCluster(false))
	}
	for _, open := range clusterRooms {
		room, err := open(n)
		if err != nil {
			return errors.Join(err, n.closeCluster(false))
		}
		c.rooms = append(c.rooms, room)
	}
	return nil
}

// joinCluster has the node join the others, now that it forwards.
func (n *Node) joinCluster(ctx context.Context) error {
	c := n.cluster
	if c == nil {
		return nil
	}
	for _, room := range c.rooms {
		if room.start != nil {
			if err := room.start(ctx); err != nil {
				return err
			}
		}
	}
	return c.join(ctx)
}

// clusterFailed has the reason why this node cannot be in the cluster any more.
func (n *Node) clusterFailed() <-chan error {
	if n.cluster == nil || n.cluster.gossip == nil {
		return nil
	}
	return n.cluster.gossip.Failed()
}

// closeCluster ends this node's part in the cluster. One that leaves for good
// says so first, and goes on until the others have taken over; another is back
// soon. It may be called twice.
func (n *Node) closeCluster(leaves bool) error {
	c := n.cluster
	if c == nil || c.closed {
		return nil
	}
	c.closed = true
	if leaves && c.leave != nil {
		c.leave()
	}
	var errs []error
	for _, room := range slices.Backward(c.rooms) {
		if room.close != nil {
			errs = append(errs, room.close())
		}
	}
	for _, f := range slices.Backward(c.close) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}
