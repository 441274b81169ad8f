package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"fairlead/cluster"
	"fairlead/cluster/member"
	"fairlead/cluster/owner"
	clusterview "fairlead/cluster/view"
	"fairlead/controlplane/api"
)

// openClusterView makes this node's view of the cluster. It is the last of the
// rooms: it shows what the others do.
func openClusterView(n *Node) (clusterRoom, error) {
	c := n.cluster
	c.view = clusterview.New(clusterview.Config{
		Name: c.Members.Self().Name, Members: c.Members, Peers: c.Peers, Store: c.Store, Log: c.Log,
		Counters: n.clusterCounters, Drain: n.drainMember, Drains: n.drainedMembers,
		Keys: func() []string { return c.gossip.Keys().Keys }, Rotate: n.rotateGossipKey,
		Alarms: n.alarms, Tables: n.eachTable, Generation: func() uint64 { return n.reconciler.Status().Generation },
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	started := false
	return clusterRoom{
		start: func(context.Context) error {
			started = true
			go func() {
				defer close(ended)
				c.view.Run(ctx)
			}()
			return nil
		},
		close: func() error {
			cancel()
			if started {
				<-ended
			}
			return nil
		},
	}, nil
}

// View is the node's view of its cluster; in a node that is in none, of itself. It
// is asked for once.
func (n *Node) View() *clusterview.View {
	if n.cluster != nil && n.cluster.view != nil {
		return n.cluster.view
	}
	return clusterview.New(clusterview.Config{Name: n.cfg.Node.Name, Log: n.log})
}

// eachTable calls f for the Maglev table of every pool in force.
func (n *Node) eachTable(f func(pool string, checksum uint64)) {
	v := n.view()
	if v == nil {
		return
	}
	defer v.close()
	pools := v.snapshot.Pools()
	for i := range pools {
		if name := v.snapshot.Name(pools[i].Name); name != "" {
			f(name, pools[i].Checksum)
		}
	}
}

// drainMember has a member of the cluster drained, or no longer.
func (n *Node) drainMember(_ context.Context, node string, drained bool, by string) error {
	room := n.ownership.cluster.room
	if drained {
		return room.Drain(node, by)
	}
	err := room.Undrain(node)
	if errors.Is(err, owner.ErrNotDrained) {
		return api.Errorf(api.Conflict, "%v", err)
	}
	return err
}

// drainedMembers are the members that are drained, as it is shared: what was asked
// for a moment ago is among them.
func (n *Node) drainedMembers() map[string]api.DrainNotice {
	out := make(map[string]api.DrainNotice)
	for _, e := range n.cluster.Store.List(cluster.DrainPrefix) {
		var d owner.Drain
		if err := json.Unmarshal(e.Value, &d); err != nil {
			d = owner.Drain{By: "somebody", On: e.Writer} // that it is there says that the node is drained
		}
		out[strings.TrimPrefix(e.Key, cluster.DrainPrefix)] = api.DrainNotice{Since: d.Since, By: d.By + " on " + d.On}
	}
	return out
}

// rotateGossipKey has all members encrypt with another key, and says which have
// taken part.
func (n *Node) rotateGossipKey(ctx context.Context) (api.ClusterKeyRotation, error) {
	r, err := n.cluster.gossip.RotateKey(ctx)
	out := api.ClusterKeyRotation{Fingerprint: r.After, Complete: err == nil}
	missed, partly := errors.AsType[*member.MissedError](err)
	switch {
	case errors.Is(err, member.ErrRotationElsewhere):
		return out, api.Errorf(api.Conflict, "%v", err)
	case err != nil && !partly:
		return out, api.Errorf(api.Unavailable, "%v", err)
	}
	for _, one := range n.cluster.Members.All() {
		state := api.NodeKeyRotation{Node: one.Name, State: "done"}
		switch {
		case partly && missed.Nodes[one.Name] != nil:
			state.State, state.Error = "waits", fmt.Sprintf("step %q: %v", missed.Phase, missed.Nodes[one.Name])
		case partly:
			state.State = "waits"
		case one.State == cluster.Left:
			continue
		case !slices.Contains(r.Nodes, one.Name):
			state.State, state.Error = "later", "it is "+string(one.State)+", and gets the key when it returns"
		}
		out.Nodes = append(out.Nodes, state)
	}
	return out, nil
}
