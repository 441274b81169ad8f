package translate

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// endpoint is one address and port that slices tell of.
type endpoint struct {
	at           netip.AddrPort
	namespace    string
	name         string // of the pod, or of whatever else it is
	pod          bool
	node         string // "" when that is not said
	ready        bool
	serving      bool
	terminating  bool
	zones        []string // that it is hinted for
	zonesCompare string
}

// gather merges the slices of one port and family. An address and port that is
// listed more than once, as happens while an endpoint moves to another slice, or
// when an address is used again before the pod that had it is deleted, is one
// endpoint: the one that does not terminate, is ready, and serves, in this order.
// The result is sorted by address and port.
func (t *translation) gather(port *corev1.ServicePort, four bool) []endpoint {
	var all []endpoint
	ignored := map[string]bool{} // by what is wrong with them
	here := map[string]bool{}    // on this node, by name
	for _, s := range t.Slices {
		if s.AddressType != discoveryv1.AddressTypeIPv4 && four || s.AddressType != discoveryv1.AddressTypeIPv6 && !four {
			continue
		}
		for _, number := range portsIn(s, port) {
			for i := range s.Endpoints {
				e, bad := t.endpoint(s, &s.Endpoints[i], number, four)
				switch {
				case bad != "":
					ignored[bad] = true
				case t.here(e.node):
					here[cmp.Or(e.name, e.at.String())] = true
				default:
					all = append(all, e)
				}
			}
		}
	}
	if len(ignored) > 0 {
		t.warn(EndpointIgnored, "endpoint ignored: %s%s", slices.Min(slices.Collect(maps.Keys(ignored))), andMore(len(ignored)))
	}
	if len(here) > 0 {
		t.warn(BackendOnBalancer, "endpoint %s is on node %s, which is this balancer, and cannot be reached from it%s; nothing that is served should run there",
			slices.Min(slices.Collect(maps.Keys(here))), t.Settings.NodeName, andMore(len(here)))
	}
	slices.SortFunc(all, endpoint.compare)
	return slices.CompactFunc(all, func(a, b endpoint) bool { return a.at == b.at })
}

// here reports whether a node is the one that we are.
func (t *translation) here(node string) bool { return node != "" && node == t.Settings.NodeName }

// portsIn are the numbers that a slice has for a port of the Service. They differ
// from slice to slice where pods name their ports differently. Port numbers that are
// left out mean "any" to some and nothing to a Service.
func portsIn(s *discoveryv1.EndpointSlice, port *corev1.ServicePort) (numbers []uint16) {
	for _, p := range s.Ports {
		name, protocol := "", corev1.ProtocolTCP
		if p.Name != nil {
			name = *p.Name
		}
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		if name == port.Name && protocol == protocolOf(port) && p.Port != nil && *p.Port > 0 && *p.Port <= 65535 {
			numbers = append(numbers, uint16(*p.Port))
		}
	}
	return numbers
}

// endpoint reads one. Only its first address means something. Of its conditions,
// those that are left out mean ready, serving, and not terminating.
func (t *translation) endpoint(s *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint, port uint16, four bool) (out endpoint, bad string) {
	if len(e.Addresses) == 0 {
		return out, "it has no address"
	}
	a, bad := address(e.Addresses[0])
	switch {
	case bad != "":
		return out, bad
	case a.Is4() != four:
		return out, a.String() + " is not of the family of its slice"
	case slices.Contains(t.vips, a):
		return out, a.String() + " is the Service's own VIP"
	}
	c := &e.Conditions
	out = endpoint{
		at: netip.AddrPortFrom(a, port), namespace: s.Namespace,
		ready:       c.Ready == nil || *c.Ready,
		serving:     c.Serving == nil || *c.Serving,
		terminating: c.Terminating != nil && *c.Terminating,
	}
	if e.TargetRef != nil {
		out.name, out.pod = e.TargetRef.Name, e.TargetRef.Kind == "Pod"
		if e.TargetRef.Namespace != "" {
			out.namespace = e.TargetRef.Namespace
		}
	}
	if e.NodeName != nil {
		out.node = *e.NodeName
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			out.zones = append(out.zones, z.Name)
		}
		slices.Sort(out.zones)
		out.zonesCompare = strings.Join(out.zones, "\x00")
	}
	return out, ""
}

// compare orders endpoints by address and port, and of one address and port the
// one that holds comes first.
func (e endpoint) compare(o endpoint) int {
	return cmp.Or(e.at.Compare(o.at), first(!e.terminating, !o.terminating), first(e.ready, o.ready), first(e.serving, o.serving),
		cmp.Compare(e.namespace, o.namespace), cmp.Compare(e.name, o.name), cmp.Compare(e.node, o.node),
		cmp.Compare(e.zonesCompare, o.zonesCompare), first(e.pod, o.pod))
}

// first has true before false.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// takers marks the endpoints that take new flows: those that are ready, and of these,
// where hints count, those of the zone; when none is ready, those that terminate and
// still serve (KEP-1669, KEP-1672), never one that fails its probe.
//
// Hints count as for every node (KEP-2433): when each ready endpoint has one, and one
// is for this zone. What a Service says by trafficDistribution is in the hints; hints
// for nodes mean nothing to a balancer that is not one of them.
func takers(all []endpoint, zone string) []bool {
	takes := make([]bool, len(all))
	ready, hinted, ours := 0, 0, 0
	for i := range all {
		if !all[i].ready {
			continue
		}
		ready++
		if len(all[i].zones) > 0 {
			hinted++
		}
		if slices.Contains(all[i].zones, zone) {
			ours++
		}
	}
	zonal := zone != "" && hinted == ready && ours > 0
	for i := range all {
		e := &all[i]
		switch {
		case ready == 0:
			takes[i] = e.serving && e.terminating
		case zonal:
			takes[i] = e.ready && slices.Contains(e.zones, zone)
		default:
			takes[i] = e.ready
		}
	}
	return takes
}
