package lab

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkUpTimeout bounds the wait for a new cable's carrier.
const linkUpTimeout = 30 * time.Second

// LinkConfig says how a cable is made. The zero value is one queue and an MTU
// of 1500 bytes.
type LinkConfig struct {
	// Queues is how many receive and transmit queues both ends have.
	Queues int
	// MTU is the link's MTU in bytes, the same at both ends.
	MTU int
}

func (c LinkConfig) withDefaults() LinkConfig {
	if c.Queues == 0 {
		c.Queues = 1
	}
	if c.MTU == 0 {
		c.MTU = 1500
	}
	return c
}

// Interface is one end of a cable.
type Interface struct {
	Host  *Host
	Name  string
	Index int
	MAC   net.HardwareAddr
	// Peer is the cable's other end. Taking it down is pulling the plug: this
	// end loses carrier and keeps its addresses and routes.
	Peer *Interface
}

// Cable joins two hosts by a veth pair and brings both ends up, with transmit
// offloads off: every frame on the wire carries complete checksums, and its
// VLAN tags where they belong and not beside the frame, as on a real cable.
func (l *Lab) Cable(a *Host, aName string, b *Host, bName string, cfg LinkConfig) (*Interface, *Interface, error) {
	cfg = cfg.withDefaults()
	fail := func(err error) (*Interface, *Interface, error) {
		return nil, nil, fmt.Errorf("cable %s:%s - %s:%s: %w", a.Name, aName, b.Name, bName, err)
	}
	aEnd := &Interface{Host: a, Name: aName, MAC: l.mac()}
	bEnd := &Interface{Host: b, Name: bName, MAC: l.mac(), Peer: aEnd}
	aEnd.Peer = bEnd

	attrs := netlink.NewLinkAttrs()
	attrs.Name = aName
	attrs.HardwareAddr = aEnd.MAC
	attrs.MTU = cfg.MTU
	attrs.NumTxQueues, attrs.NumRxQueues = cfg.Queues, cfg.Queues
	veth := netlink.NewVeth(attrs)
	veth.PeerName = bName
	veth.PeerHardwareAddr = bEnd.MAC
	veth.PeerMTU = uint32(cfg.MTU)
	veth.PeerNumTxQueues, veth.PeerNumRxQueues = uint32(cfg.Queues), uint32(cfg.Queues)
	veth.PeerNamespace = netlink.NsFd(int(b.ns))
	if err := a.link.LinkAdd(veth); err != nil {
		return fail(err)
	}
	for _, end := range []*Interface{aEnd, bEnd} {
		if err := end.prepare(); err != nil {
			return fail(err)
		}
	}
	for _, end := range []*Interface{aEnd, bEnd} {
		if err := end.waitUp(); err != nil {
			return fail(err)
		}
	}
	// With GRO an end receives by NAPI, so that XDP can send to it, as to any
	// real interface. The kernel says so of the other end only when GRO is
	// switched on while this end is up.
	for _, end := range []*Interface{aEnd, bEnd} {
		if err := end.SetFeatures(true, "rx-gro"); err != nil {
			return fail(err)
		}
	}
	return aEnd, bEnd, nil
}

func (i *Interface) prepare() error {
	link, err := i.link()
	if err != nil {
		return err
	}
	i.Index = link.Attrs().Index
	if err := i.SetTxChecksumOffload(false); err != nil {
		return err
	}
	if err := i.SetFeatures(false, "tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"); err != nil {
		return err
	}
	return i.SetUp()
}

func (i *Interface) link() (netlink.Link, error) {
	link, err := i.Host.link.LinkByName(i.Name)
	if err != nil {
		return nil, fmt.Errorf("host %s: interface %s: %w", i.Host.Name, i.Name, err)
	}
	return link, nil
}

// change applies one netlink operation to the interface.
func (i *Interface) change(what string, f func(netlink.Link) error) error {
	link, err := i.link()
	if err != nil {
		return err
	}
	if err := f(link); err != nil {
		return fmt.Errorf("host %s: interface %s: %s: %w", i.Host.Name, i.Name, what, err)
	}
	return nil
}

// waitUp returns when the interface can carry frames.
func (i *Interface) waitUp() error {
	what := fmt.Sprintf("host %s: interface %s has carrier", i.Host.Name, i.Name)
	return waitFor(what, linkUpTimeout, func() (bool, error) {
		link, err := i.link()
		return err == nil && link.Attrs().OperState == netlink.OperUp, err
	})
}

// SetUp enables the interface.
func (i *Interface) SetUp() error { return i.change("up", i.Host.link.LinkSetUp) }

// SetDown disables the interface: its peer loses carrier. The kernel forgets
// the interface's routes and its IPv6 addresses.
func (i *Interface) SetDown() error { return i.change("down", i.Host.link.LinkSetDown) }

// Delete removes the cable: both ends disappear.
func (i *Interface) Delete() error { return i.change("delete", i.Host.link.LinkDel) }

// SetMTU changes the MTU of this end, in bytes.
func (i *Interface) SetMTU(mtu int) error {
	return i.change("mtu", func(l netlink.Link) error { return i.Host.link.LinkSetMTU(l, mtu) })
}

// AddAddress gives the interface an address, usable at once (no duplicate
// address detection).
func (i *Interface) AddAddress(prefix netip.Prefix) error {
	return i.change("address "+prefix.String(), func(l netlink.Link) error {
		addr := &netlink.Addr{IPNet: ipNet(prefix)}
		if prefix.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		return i.Host.link.AddrAdd(l, addr)
	})
}

// AddRoute sends packets for dst to a next hop.
func (h *Host) AddRoute(dst netip.Prefix, via netip.Addr) error {
	route := &netlink.Route{Dst: ipNet(dst.Masked()), Gw: via.AsSlice()}
	if err := h.link.RouteAdd(route); err != nil {
		return fmt.Errorf("host %s: route %s via %s: %w", h.Name, dst, via, err)
	}
	return nil
}

// AddDefaultRoute sends what no other route matches, of via's family, to a next hop.
func (h *Host) AddDefaultRoute(via netip.Addr) error {
	if via.Is4() {
		return h.AddRoute(netip.PrefixFrom(netip.IPv4Unspecified(), 0), via)
	}
	return h.AddRoute(netip.PrefixFrom(netip.IPv6Unspecified(), 0), via)
}

// OwnQuietly puts addresses on the host's loopback and keeps the host from
// answering or announcing them by ARP (IPv6 neighbour discovery answers only
// for the interface's own addresses anyway). It is what a backend needs for
// direct server return.
func (h *Host) OwnQuietly(addrs ...netip.Addr) error {
	for _, s := range []struct{ key, value string }{
		{"net.ipv4.conf.all.arp_ignore", "1"},
		{"net.ipv4.conf.all.arp_announce", "2"},
	} {
		if err := h.Sysctl(s.key, s.value); err != nil {
			return err
		}
	}
	lo := &Interface{Host: h, Name: "lo"}
	for _, a := range addrs {
		if err := lo.AddAddress(netip.PrefixFrom(a, a.BitLen())); err != nil {
			return err
		}
	}
	return nil
}

// EnableForwarding makes the host a router.
func (h *Host) EnableForwarding() error {
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if err := h.Sysctl(key, "1"); err != nil {
			return err
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
