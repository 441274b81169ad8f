package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"fairlead/perf/lab"
)

// weights are those of the backends in every pool, in order; they begin anew
// when there are more backends.
var weights = []int{1, 1, 2}

func weight(backend int) int { return weights[backend%len(weights)] }

// configuration is the load balancer's configuration file for some services.
func configuration(topo *lab.Topology, list []service) string {
	b := new(strings.Builder)
	fmt.Fprintf(b, `# The load balancer of the demo. "fairlead config reference" explains every key.

[node]
name = "lb"

# Clients are behind one interface, backends behind the other.
[[interface]]
name = %q

[[interface]]
name = %q

[xdp]
# The XDP program ends with this demo. A real node keeps it on the BPF file
# system, which is the default.
pin_path = ""

# nat: connections to backends come from these addresses.
[[snat]]
address = "%s-%s"

[[snat]]
address = "%s-%s"

# ipip and gue: tunnel packets to backends come from these addresses.
[tunnel]
source_ipv4 = %q
source_ipv6 = %q
`, topo.Front.Interface.Name, topo.Back.Interface.Name,
		topo.SNAT4(1), topo.SNAT4(4), topo.SNAT6(1), topo.SNAT6(4), topo.Back.IPv4, topo.Back.IPv6)
	var done []string
	for i := range list {
		if pool := list[i].pool(); !slices.Contains(done, pool) {
			done = append(done, pool)
			writePool(b, topo, &list[i])
		}
	}
	for i := range list {
		writeService(b, &list[i])
	}
	return b.String()
}

func writePool(b *strings.Builder, topo *lab.Topology, s *service) {
	if s.method == "nat" {
		fmt.Fprintf(b, "\n# nat may change the port.")
	} else {
		fmt.Fprintf(b, "\n# ipip, gue and l2 leave the port as it is.")
	}
	fmt.Fprintf(b, "\n[[pool]]\nname = %q\nbackend = [\n", s.pool())
	for i, n := range topo.Backends {
		fmt.Fprintf(b, "  { name = %q, address = %q, weight = %d },\n", n.Name, s.backendAddress(n), weight(i))
	}
	fmt.Fprintf(b, "]\n")
}

// backendAddress is how the service's pool names a backend.
func (s *service) backendAddress(n *lab.Node) string {
	a := n.IPv4
	if s.outer6 {
		a = n.IPv6
	}
	switch {
	case s.method != "nat":
		return a.String()
	case s.protocol == "tcp":
		return netip.AddrPortFrom(a, natHTTPPort).String()
	}
	return netip.AddrPortFrom(a, natUDPPort).String()
}

func writeService(b *strings.Builder, s *service) {
	fmt.Fprintf(b, "\n[[service]]\nname = %q\nvip = %q\nprotocol = %q\nport = %d\npool = %q\nmethod = %q\n",
		s.serviceName(), s.vip, s.protocol, s.port(), s.pool(), s.method)
}
