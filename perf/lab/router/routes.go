package router

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/perf/lab"
)

// NextHops are the gateways that a host's kernel sends packets for a prefix to, in
// order; none when it has no route.
func NextHops(h *lab.Host, p netip.Prefix) ([]netip.Addr, error) {
	family := netlink.FAMILY_V4
	if p.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	routes, err := h.Netlink().RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("host %s: routes: %w", h.Name, err)
	}
	var hops []netip.Addr
	add := func(gw []byte, via netlink.Destination) {
		if v, ok := via.(*netlink.Via); ok {
			gw = v.Addr
		}
		if a, ok := netip.AddrFromSlice(gw); ok {
			hops = append(hops, a.Unmap())
		}
	}
	for _, r := range routes {
		if r.Dst == nil || r.Dst.String() != p.String() {
			continue
		}
		if len(r.MultiPath) == 0 {
			add(r.Gw, r.Via)
		}
		for _, hop := range r.MultiPath {
			add(hop.Gw, hop.Via)
		}
	}
	slices.SortFunc(hops, netip.Addr.Compare)
	return hops, nil
}
