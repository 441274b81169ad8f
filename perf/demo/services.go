package main

import (
	"net/netip"

	"fairlead/perf/lab"
)

// Ports of the services at the VIPs, and of the servers that nat sends to.
const (
	httpPort    = 80
	udpPort     = 53
	natHTTPPort = 8080
	natUDPPort  = 5353
)

// packets is a forwarding method with the families it carries. All its
// services are at one VIP.
type packets struct {
	method   string
	families string     // as the tables show them: "IPv4", "4in6"
	name     string     // of the services, without the protocol: "ipip-4in6"
	vip      netip.Addr // a family of its own: what is carried
	outer6   bool       // the backends are reached by IPv6
}

// service is one service of the demo.
type service struct {
	packets
	protocol string // "tcp" for HTTP, or "udp"
}

// kind is what is spoken: "http" or "udp".
func (s *service) kind() string {
	if s.protocol == "tcp" {
		return "http"
	}
	return "udp"
}

// serviceName is the service's name in the configuration.
func (s *service) serviceName() string { return s.name + "-" + s.kind() }

func (s *service) port() uint16 {
	if s.protocol == "tcp" {
		return httpPort
	}
	return udpPort
}

func (s *service) target() netip.AddrPort { return netip.AddrPortFrom(s.vip, s.port()) }

// pool is the pool that serves it: of one family, and for nat with the port
// that the servers really have.
func (s *service) pool() string {
	family := "v4"
	if s.outer6 {
		family = "v6"
	}
	if s.method == "nat" {
		return s.kind() + "-" + family
	}
	return "direct-" + family
}

// services lists every method with every family it can carry, HTTP and UDP
// each, in the order they are tried and shown.
func services(topo *lab.Topology) []service {
	n := 0
	plain := func(method string, six bool) packets {
		n++
		if six {
			return packets{method, "IPv6", method + "-v6", topo.VIP6(n), true}
		}
		return packets{method, "IPv4", method + "-v4", topo.VIP4(n), false}
	}
	tunnel := func(method, families string) packets {
		n++
		p := packets{method: method, families: families, name: method + "-" + families, vip: topo.VIP4(n), outer6: families[3] == '6'}
		if families[0] == '6' {
			p.vip = topo.VIP6(n)
		}
		return p
	}
	all := []packets{plain("nat", false), plain("nat", true)}
	for _, method := range []string{"ipip", "gue"} {
		for _, families := range []string{"4in4", "6in6", "4in6", "6in4"} {
			all = append(all, tunnel(method, families))
		}
	}
	all = append(all, plain("l2", false), plain("l2", true))

	var list []service
	for _, p := range all {
		list = append(list, service{p, "tcp"}, service{p, "udp"})
	}
	return list
}

// directVIPs are the VIPs that backends must have: all but those of nat.
func directVIPs(list []service) []netip.Addr {
	var vips []netip.Addr
	for i := range list {
		if list[i].method != "nat" && list[i].protocol == "tcp" {
			vips = append(vips, list[i].vip)
		}
	}
	return vips
}

// onePerMethod picks the first service of each method.
func onePerMethod(list []service) []service {
	seen := make(map[string]bool)
	var few []service
	for _, s := range list {
		if !seen[s.method] {
			seen[s.method] = true
			few = append(few, s)
		}
	}
	return few
}
