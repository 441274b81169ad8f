package translate

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
)

// toBeDeleted is the taint of a node that the cluster autoscaler is about to remove.
const toBeDeleted = "ToBeDeletedByClusterAutoscaler"

// Nodes are the nodes of a cluster, as translations need them. They do not change.
type Nodes struct {
	list   []node // by name
	byName map[string]int
}

type node struct {
	name     string
	v4, v6   netip.Addr // its InternalIPs; the zero Addr when it has none
	eligible bool       // for new flows
}

// NodesOf reads nodes. A node takes new flows unless it is being deleted, or the
// autoscaler is about to (its taint), or it is excluded from load balancers (its
// label) (KEP-3836). Whether it is Ready does not matter (KEP-3458): that a node has
// lost sight of the control plane says nothing of its pods, and checks find out what
// is dead.
func NodesOf(all []*corev1.Node) *Nodes {
	n := &Nodes{byName: make(map[string]int, len(all))}
	for _, o := range all {
		x := node{name: o.Name, eligible: o.DeletionTimestamp.IsZero() && !excluded(o) && !tainted(o)}
		for _, a := range o.Status.Addresses {
			if a.Type != corev1.NodeInternalIP {
				continue
			}
			ip, bad := address(a.Address)
			switch {
			case bad != "":
			case ip.Is4() && !x.v4.IsValid():
				x.v4 = ip
			case ip.Is6() && !x.v6.IsValid():
				x.v6 = ip
			}
		}
		n.list = append(n.list, x)
	}
	slices.SortFunc(n.list, func(a, b node) int {
		return cmp.Or(cmp.Compare(a.name, b.name), a.v4.Compare(b.v4), a.v6.Compare(b.v6), first(a.eligible, b.eligible))
	})
	n.list = slices.CompactFunc(n.list, func(a, b node) bool { return a.name == b.name })
	for i := range n.list {
		n.byName[n.list[i].name] = i
	}
	return n
}

// Equal reports whether no translation can tell two apart. Most changes of nodes,
// such as their heartbeats, are none to it.
func (n *Nodes) Equal(o *Nodes) bool {
	if n == nil || o == nil {
		return n == o
	}
	return slices.Equal(n.list, o.list)
}

// excluded: the label counts unless it says false.
func excluded(o *corev1.Node) bool {
	v, there := o.Labels[corev1.LabelNodeExcludeBalancers]
	if !there {
		return false
	}
	is, err := strconv.ParseBool(v)
	return is || err != nil
}

func tainted(o *corev1.Node) bool {
	return slices.ContainsFunc(o.Spec.Taints, func(t corev1.Taint) bool { return t.Key == toBeDeleted })
}

// nodes are the nodes that take packets of a port: all, or with externalTrafficPolicy
// Local those with an endpoint that takes new flows, by how many these are; never the
// one that we are ourselves. A node that takes no new flows any more stays with weight
// 0 while it is there, and with Local, while it has an endpoint.
func (t *translation) nodes(port *corev1.ServicePort, four bool) []model.Backend {
	if t.Nodes == nil {
		return nil
	}
	p := &placing{t: t, four: four, udp: protocolOf(port) == corev1.ProtocolUDP, taken: map[netip.Addr]int{}}
	if t.method == kube.NodePorts {
		p.port = uint16(port.NodePort)
	}
	if !Local(t.Service) {
		for i := range t.Nodes.list {
			p.add(&t.Nodes.list[i], 1)
		}
		return p.done()
	}
	all := t.gather(port, four)
	takes := takers(all, "")
	weights, lost := t.weigher(), 0
	share := map[string]int{}
	for i := range all {
		e := &all[i]
		if e.node == "" {
			lost++
			continue
		}
		weight := 0
		if takes[i] {
			weight = weights.of(e)
		}
		share[e.node] += weight // also 0: the node has one
	}
	if lost > 0 {
		t.warn(EndpointWithoutNode, "externalTrafficPolicy: Local needs to know the node of each endpoint, and %d have none", lost)
	}
	weights.tell(t)
	for i := range t.Nodes.list {
		if n, has := share[t.Nodes.list[i].name]; has {
			p.add(&t.Nodes.list[i], min(n, model.MaxWeight))
		}
	}
	return p.done()
}

// placing makes backends of nodes.
type placing struct {
	t         *translation
	four, udp bool
	port      uint16 // 0: that of the VIP is kept
	list      []model.Backend
	taken     map[netip.Addr]int // index in list
	without   int                // nodes without an address
	first     string             // of them
}

// add makes a node a backend of this weight, if it takes new flows.
func (p *placing) add(n *node, weight int) {
	if p.t.here(n.name) {
		p.t.warn(BackendOnBalancer, "node %s is this balancer, and cannot be reached from it", n.name)
		return
	}
	if !n.eligible {
		weight = 0
	}
	if p.udp && weight == 0 {
		return
	}
	a, other := n.v4, n.v6
	if !p.four {
		a, other = n.v6, n.v4
	}
	if !a.IsValid() && p.t.method == kube.Nodes && p.t.via() != model.L2 {
		a = other // tunnels carry either family over either
	}
	if !a.IsValid() || slices.Contains(p.t.vips, a) {
		if p.without++; p.without == 1 {
			p.first = n.name
		}
		return
	}
	if i, twice := p.taken[a]; twice {
		// The first by name, and the one that takes flows before one that does not.
		if weight > 0 && p.list[i].Weight == 0 {
			p.list[i].Name, p.list[i].Weight = usable(n.name), weight
		}
		return
	}
	p.taken[a] = len(p.list)
	p.list = append(p.list, model.Backend{Name: usable(n.name), Address: a, Port: p.port, Weight: weight})
}

func (p *placing) done() []model.Backend {
	if p.without > 0 {
		family := "IPv6"
		if p.four {
			family = "IPv4"
		}
		p.t.warn(NodeAddressMissing, "node %s has no %s InternalIP that can be used%s", p.first, family, andMore(p.without))
	}
	return p.list
}

// via is how method nodes gets packets to nodes.
func (t *translation) via() model.Method {
	switch {
	case t.Options.NodesVia != "":
		return t.Options.NodesVia
	case t.Settings.NodesVia != "":
		return t.Settings.NodesVia
	}
	return model.IPIP
}
