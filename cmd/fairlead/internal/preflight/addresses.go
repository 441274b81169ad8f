package preflight

import (
	"net/netip"

	"github.com/vishvananda/netlink"

	"fairlead/controlplane/model"
)

// addresses finds those of Fairlead's addresses that the host has itself.
func (c *checker) addresses() {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		c.add(Error, "addresses", "list those of the host: %v", err)
		return
	}
	host := make(map[netip.Addr]string, len(list))
	for i := range list {
		if a, ok := netip.AddrFromSlice(list[i].IP); ok {
			host[a.Unmap()] = nameOf(list[i].LinkIndex)
		}
	}
	for _, n := range c.cfg.State.SNATs {
		if on, taken := host[n.Address]; taken {
			c.add(Error, "snat "+n.Address.String(), "the host has this address itself, on %s: replies to the host's own connections would be taken from it", on)
			c.do("use another address, or take it from the host", "ip addr del %s dev %s", n.Address, on)
		}
	}
	for _, vip := range vips(&c.cfg.State) {
		if on, taken := host[vip]; taken {
			c.add(Warning, "vip "+vip.String(), "the host has this address itself, on %s: what it serves there is no longer reached through Fairlead's interfaces", on)
			c.do("take it from the host, unless it is to serve the address while the node is stopped", "ip addr del %s dev %s", vip, on)
		}
	}
}

// vips are the virtual addresses, each once.
func vips(s *model.State) []netip.Addr {
	var out []netip.Addr
	seen := make(map[netip.Addr]bool)
	add := func(a netip.Addr) {
		if !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	for i := range s.VIPs {
		add(s.VIPs[i].Address)
	}
	for i := range s.Services {
		add(s.Services[i].VIP)
	}
	return out
}

// routes finds backends that no interface of Fairlead's leads to.
func (c *checker) routes() {
	ours, known := make(map[int]bool), make(map[netip.Addr]bool)
	for i := range c.cfg.Interfaces {
		if link, err := netlink.LinkByName(c.cfg.Interfaces[i].Name); err == nil {
			ours[link.Attrs().Index] = true
		}
	}
	for _, n := range c.cfg.Neighbors {
		known[n.Address] = true
	}
	gateway4, gateway6 := c.gateways()
	for i := range c.cfg.State.Pools {
		pool := &c.cfg.State.Pools[i]
		for _, b := range pool.Backends {
			if known[b.Address] || b.Address.Is4() && gateway4 || b.Address.Is6() && gateway6 {
				continue
			}
			known[b.Address] = true // is not asked for again
			c.route("backend "+b.Label()+" of pool "+pool.Name, b.Address, ours)
		}
	}
}

// gateways reports for which families an interface has a configured gateway.
func (c *checker) gateways() (is4, is6 bool) {
	for i := range c.cfg.Interfaces {
		g := c.cfg.Interfaces[i].Gateway
		is4, is6 = is4 || g.Is4(), is6 || g.Is6()
	}
	return is4, is6
}

// route checks that the host's routing table sends packets to a backend out of
// an interface of Fairlead's.
func (c *checker) route(subject string, a netip.Addr, ours map[int]bool) {
	routes, err := netlink.RouteGet(a.AsSlice())
	switch {
	case err != nil || len(routes) == 0:
		c.add(Warning, subject, "no route to it")
		c.do("add a route, or set gateway of an [[interface]]", "ip route get %s", a)
	case !ours[routes[0].LinkIndex]:
		c.add(Warning, subject, "the way to it is through %s, which is none of Fairlead's interfaces", nameOf(routes[0].LinkIndex))
		c.do("name that interface in [[interface]], or route it through one that is", "ip route get %s", a)
	}
}
