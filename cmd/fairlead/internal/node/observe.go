package node

import (
	"net/netip"

	"fairlead/controlplane/model"
)

// observe is what the configuration says of interfaces and neighbours.
func (n *Node) observe() *model.Observations {
	o := &model.Observations{NextHops: make(map[netip.Addr]model.NextHop)}
	for i := range n.ports {
		o.Interfaces = append(o.Interfaces, n.ports[i].model())
	}
	for _, s := range n.cfg.Neighbors {
		o.NextHops[s.Address] = model.NextHop{Interface: s.Interface, MAC: s.MAC, Resolved: true}
	}
	return o
}
