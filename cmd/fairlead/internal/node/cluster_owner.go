package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"fairlead/cluster/owner"
	"fairlead/configs"
	"fairlead/controlplane/announce"
	"fairlead/xdp/steer"
)

const (
	// unfitAfter is how long the node may be without a data process before its
	// VIPs go to others: one that stands by takes over in less.
	unfitAfter = 300 * time.Millisecond
	// takenBy is how long it may take to hear of a node that has taken a VIP over,
	// from when it says so on the segment.
	takenBy = 3 * time.Second
	// handOver is how long others may take to take over what this node leaves.
	handOver = 2 * time.Second
	// afterHandOver is how long this node then forwards what comes still from those
	// who have missed the others' announcements.
	afterHandOver = 5 * time.Second
)

// owning is this node's part in who owns which VIP.
type owning struct {
	room *owner.Room

	mu       sync.Mutex
	impaired map[string]string // by who says so, why this node serves worse than the others
	unable   time.Time         // since when it cannot forward, long ago before it could first; the zero time: it can
	looked   time.Time         // when the interfaces were looked at
	down     []string          // interfaces that are gone or carry nothing
	networks []netip.Prefix    // of the others
}

// openOwner has the VIPs of this node be those that the cluster gives it.
func openOwner(n *Node) (clusterRoom, error) {
	cfg := owner.Config{
		Members: n.cluster.Members, Peers: n.cluster.Peers, Store: n.cluster.Store,
		HoldDown: n.cfg.Cluster.HoldDown, Settled: n.ownership.continued,
		Changed: n.reowned, Drained: n.drainedByCluster, Log: n.log.With("part", "owner"),
	}
	if n.adopted {
		answered := answeredFor(n.steer.Locals())
		cfg.Before = func(vip netip.Addr) bool { return answered[vip] }
	}
	room, err := owner.New(cfg)
	if err != nil {
		return clusterRoom{}, err
	}
	n.ownership.cluster = &owning{room: room, impaired: make(map[string]string), unable: time.Unix(0, 0)}
	n.ownership.mu.Lock()
	n.ownership.owns = room.Owns
	n.ownership.mu.Unlock()
	start := func(context.Context) error {
		n.mu.Lock()
		n.tellVIPs()
		n.mu.Unlock()
		n.tellFitness(time.Now())
		room.Start()
		return nil
	}
	return clusterRoom{start: start, close: func() error { room.Close(); return nil }}, nil
}

// answeredFor are the VIPs of some addresses that are answered for.
func answeredFor(locals []steer.Local) map[netip.Addr]bool {
	vips := make(map[netip.Addr]bool)
	for _, l := range locals {
		if l.Kind == steer.VIP && l.AnswerARP {
			vips[l.Addr.Unmap()] = true
		}
	}
	return vips
}

// tellVIPs tells the cluster which VIPs are in force here. The node's lock is held.
func (n *Node) tellVIPs() {
	c := n.ownership.cluster
	if c == nil {
		return
	}
	vips := make([]netip.Addr, 0, len(n.image.locals))
	for _, l := range n.image.locals {
		if l.Kind == steer.VIP && l.AnswerARP {
			vips = append(vips, l.Addr)
		}
	}
	c.room.SetVIPs(vips)
}

// tellFitness tells the cluster how this node is.
func (n *Node) tellFitness(now time.Time) {
	c := n.ownership.cluster
	if c == nil {
		return
	}
	n.mu.Lock()
	able := n.data != nil && n.image.generation > 0
	var names []string
	for i := range n.cfg.Interfaces {
		names = append(names, n.cfg.Interfaces[i].Name)
	}
	n.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.looked) >= linksEvery {
		c.looked = now
		c.networks, c.down = carrying(names)
	}
	switch {
	case able:
		c.unable = time.Time{}
	case c.unable.IsZero():
		c.unable = now
	}
	f := owner.Fitness{
		Forwards: (able || now.Sub(c.unable) < unfitAfter) && len(c.down) < len(names),
		Networks: c.networks, Impaired: c.why(),
	}
	c.room.SetFitness(f)
}

// why says what is wrong with this node alone. The lock is held.
func (c *owning) why() string {
	var all []string
	for _, name := range c.down {
		all = append(all, fmt.Sprintf("interface %s has no carrier", name))
	}
	for _, reason := range c.impaired {
		all = append(all, reason)
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// Impair has the node leave its VIPs to others, who have not the same trouble: why
// says what it is, "" that it is over. part is who says so. A node that is alone
// goes on.
func (n *Node) Impair(part, why string) {
	c := n.ownership.cluster
	if c == nil {
		return
	}
	c.mu.Lock()
	if why == "" {
		delete(c.impaired, part)
	} else {
		c.impaired[part] = why
	}
	c.mu.Unlock()
	n.announce.poke()
}

// carrying are the subnets of those of some interfaces that carry frames, and the
// names of the others.
func carrying(names []string) (networks []netip.Prefix, down []string) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, nil // better to own what cannot be reached than to leave what can
	}
	for _, name := range names {
		i := slices.IndexFunc(all, func(ifc net.Interface) bool { return ifc.Name == name })
		if i < 0 || all[i].Flags&net.FlagRunning == 0 {
			down = append(down, name)
			continue
		}
		addrs, err := all[i].Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && !p.Addr().IsLinkLocalUnicast() && !p.IsSingleIP() {
				networks = append(networks, p.Masked())
			}
		}
	}
	return networks, down
}

// reowned has what this node owns now answered for and announced, and all of it
// anew when others may have announced it, too.
func (n *Node) reowned(renew bool) {
	if err := n.Reown(); err != nil {
		n.log.Error("ARP and neighbour discovery do not follow the owners of VIPs", "error", err)
	}
	n.mu.Lock()
	a := n.ownership.announcer
	n.mu.Unlock()
	if renew && a != nil {
		a.Renew()
	}
}

// VIPOwner is the node that answers for a VIP, as this node sees it: "" where that
// is nobody or not known. A node that is alone has no name for it.
func (n *Node) VIPOwner(vip netip.Addr) string {
	c := n.ownership.cluster
	if c == nil {
		return ""
	}
	name, _ := c.room.Owner(vip)
	return name
}

// VIPOwners is VIPOwner of all VIPs that are answered for, and OwnerNodes the nodes
// that they are given to; ok is false for a node that is alone.
func (n *Node) VIPOwners() (owners map[netip.Addr]string, ok bool) {
	c := n.ownership.cluster
	if c == nil {
		return nil, false
	}
	return c.room.Owners(), true
}

// OwnerNodes are all nodes as far as they may own VIPs; ok is false for a node that
// is alone.
func (n *Node) OwnerNodes() (nodes []owner.NodeStatus, ok bool) {
	c := n.ownership.cluster
	if c == nil {
		return nil, false
	}
	return c.room.Nodes(), true
}

// OwnerStats counts what VIPs have moved; ok is false for a node that is alone.
func (n *Node) OwnerStats() (stats owner.Stats, ok bool) {
	c := n.ownership.cluster
	if c == nil {
		return stats, false
	}
	return c.room.Stats(), true
}

// ownerConditions are what is not as it is wanted, each with what it is about.
func (n *Node) ownerConditions() (list [][2]string) {
	c := n.ownership.cluster
	if c == nil {
		return nil
	}
	c.mu.Lock()
	why := c.why()
	c.mu.Unlock()
	if why != "" {
		list = append(list, [2]string{"node", "VIPs go to other nodes of the cluster, as long as there are: " + why})
	}
	var nobodys []netip.Addr
	for vip, name := range c.room.Owners() {
		if name == "" {
			nobodys = append(nobodys, vip)
		}
	}
	if len(nobodys) > 0 {
		first := slices.MinFunc(nobodys, netip.Addr.Compare)
		list = append(list, [2]string{"VIPs", fmt.Sprintf("no node of the cluster answers for %d of them, such as %s", len(nobodys), first)})
	}
	return list
}

var errAlone = errors.New("the node is alone: it has no [cluster]")

// DrainNode takes a node of the cluster out of service, this one or another, and
// UndrainNode puts it back. by is the user who wants it.
func (n *Node) DrainNode(name, by string) error {
	c := n.ownership.cluster
	if c == nil {
		return errAlone
	}
	return c.room.Drain(name, by)
}

// UndrainNode puts a node of the cluster back in service.
func (n *Node) UndrainNode(name, by string) error {
	c := n.ownership.cluster
	if c == nil {
		return errAlone
	}
	err := c.room.Undrain(name)
	if err == nil {
		n.log.Info("a node is put back in service", "node", name, "by", by)
	}
	return err
}

// sharedMarker is what the marker of a drain says when all nodes know of it.
const sharedMarker = "drained; all nodes of the cluster know it; `fairlead undrain` ends this\n"

// drainedByCluster follows what all nodes know of this node's drain. A drain from
// before the node was in a cluster is made known to all.
func (n *Node) drainedByCluster(drained bool) {
	a := n.announce
	a.mu.Lock()
	wanted, shared := a.drain.wanted, a.drain.shared()
	a.mu.Unlock()
	if !drained && wanted && !shared {
		err := n.DrainNode(n.cluster.Members.Self().Name, "before it was in the cluster")
		if err == nil {
			err = a.want(true, true)
		}
		if err != nil {
			n.log.Error("the others do not learn that this node is drained, or it does not remember it", "error", err)
		}
		return
	}
	if drained == wanted {
		return
	}
	if err := a.want(drained, true); err != nil {
		n.log.Warn("drain", "error", errMarker(err))
	}
}

// handOver hands this node's VIPs to others before it stops. It reports whether
// there is anybody.
func (n *Node) handOver(ctx context.Context) bool {
	c := n.ownership.cluster
	if c == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, handOver)
	defer cancel()
	others := 0
	for _, m := range n.cluster.Members.All() {
		if m.State.Serves() && m.Name != n.cluster.Members.Self().Name {
			others++
		}
	}
	begin := time.Now()
	err := c.room.Leave(ctx)
	switch {
	case others == 0:
		return false
	case err != nil:
		n.log.Warn("not all nodes have taken over VIPs from this one that stops", "error", err)
	default:
		n.log.Info("other nodes have taken over this node's VIPs", "nodes", others, "took", time.Since(begin).Round(time.Millisecond))
	}
	return true
}

// silentWhenDrained says whether a drained node ceases to answer for its VIPs by
// itself. In a cluster they are given to others, and stay where there is nobody.
func silentWhenDrained(cfg *configs.Config) bool { return !cfg.Cluster.Enabled }

// answers reports whether this node answers for a VIP now.
func (n *Node) answers(v *announce.VIP) bool {
	c := n.ownership.cluster
	if c == nil {
		return v.Owned
	}
	return c.room.Owns(v.Address)
}
