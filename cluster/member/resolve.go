package member

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// resolve looks a name up: all of its A and AAAA records.
func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// resolveSeeds are the addresses of all seeds. A name that cannot be looked up is
// said, and is no reason not to try the others.
func (m *Members) resolveSeeds(ctx context.Context) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range m.cfg.Seeds {
		if a, err := netip.ParseAddr(s.Host); err == nil {
			out = append(out, netip.AddrPortFrom(a.Unmap(), uint16(s.Port)))
			continue
		}
		within, cancel := context.WithTimeout(ctx, helloTimeout)
		addrs, err := m.cfg.Resolve(within, s.Host)
		cancel()
		if err != nil && ctx.Err() == nil {
			m.log.Warn("a seed of the cluster cannot be looked up", "seed", s.Host, "error", err)
		}
		for _, a := range addrs {
			out = append(out, netip.AddrPortFrom(a.Unmap(), uint16(s.Port)))
		}
	}
	return out
}

// Address is the one that others reach this node at: what is configured, or the
// address that is listened on, or the one that the node has on its way to the
// first seed, or to the rest of the world.
func Address(ctx context.Context, advertise, bind netip.Addr, seeds []Seed) (netip.Addr, error) {
	if advertise.IsValid() {
		return advertise, nil
	}
	if bind.IsValid() && !bind.IsUnspecified() {
		return bind, nil
	}
	only := ""
	if bind.IsValid() && bind.Is4() {
		only = "4"
	}
	var towards []netip.Addr
	for _, s := range seeds {
		if a, err := netip.ParseAddr(s.Host); err == nil {
			towards = append(towards, a)
		} else if addrs, err := resolve(ctx, s.Host); err == nil {
			towards = append(towards, addrs...)
		}
	}
	// Nothing is sent to them: the documentation networks have no hosts.
	towards = append(towards, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"))
	for _, to := range towards {
		conn, err := net.Dial("udp"+only, netip.AddrPortFrom(to, 9).String())
		if err != nil {
			continue
		}
		from := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("")
		conn.Close()
		if !from.IsLoopback() || to.IsLoopback() {
			return from, nil
		}
	}
	return onlyAddress()
}

// onlyAddress is the node's address when it has one that is not of loopback or
// link-local.
func onlyAddress() (netip.Addr, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("the address that others reach this node at: %w", err)
	}
	var found []netip.Addr
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().IsGlobalUnicast() {
			found = append(found, p.Addr().Unmap())
		}
	}
	if len(found) != 1 {
		return netip.Addr{}, fmt.Errorf("the address that others reach this node at cannot be found out: the node has %d, and no route; set advertise in [cluster]", len(found))
	}
	return found[0], nil
}
