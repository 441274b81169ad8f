package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"fairlead/perf/lab"
)

// clients4 and clients6 are the addresses that requests come from: behind the
// generator.
var (
	clients4 = netip.MustParsePrefix("198.19.0.0/16")
	clients6 = netip.MustParsePrefix("2001:db8:19::/64")
)

// vip4 and vip6 are what requests are sent to.
var (
	vip4 = netip.MustParseAddr("198.18.100.1")
	vip6 = netip.MustParseAddr("2001:db8:100::1")
)

// servicePort is the port of the services, for both protocols.
const servicePort = 80

// Sizes of the lab.
const (
	backendCount = 10
	// snatCount is how many addresses NAT may use: each gives some 64,000 flows
	// a backend.
	snatCount = 8
)

// world is the lab: a generator, the balancer and, with two arms, a sink. The
// backends are addresses behind the generator (one arm) or the sink (two).
//
//	gen eth0 ---- eth0 lb                 one arm: what lb sends comes back to gen
//	gen eth0 ---- eth0 lb eth1 ---- eth0 sink
type world struct {
	*lab.Lab
	arms int

	gen *lab.Interface // the generator's
	in  *lab.Interface // the balancer's, towards the generator
	out *lab.Interface // the balancer's, towards the backends: in, with one arm
	far *lab.Interface // where forwarded frames arrive: gen, with one arm

	v4, v6 addresses
}

// addresses are those of one family.
type addresses struct {
	vip                netip.Addr
	clients            netip.Prefix
	generator, gateway netip.Addr // of gen, and of the balancer towards the backends
	backends           []netip.Addr
	snat               []netip.Addr
}

// of are the addresses of a case's family.
func (w *world) of(c Case) *addresses {
	if c.IPv6 {
		return &w.v6
	}
	return &w.v4
}

// The networks of the lab, by family: in front of the balancer and behind it.
var (
	front4 = netip.MustParsePrefix("198.18.0.0/24")
	back4  = netip.MustParsePrefix("198.18.10.0/24")
	front6 = netip.MustParsePrefix("2001:db8::/64")
	back6  = netip.MustParsePrefix("2001:db8:10::/64")
)

// host is an address of a network, by its last byte.
func host(network netip.Prefix, number int) netip.Addr {
	a := network.Addr().AsSlice()
	a[len(a)-1] = byte(number)
	addr, _ := netip.AddrFromSlice(a)
	return addr
}

// attached is the same with the network's length, for an interface.
func attached(network netip.Prefix, number int) netip.Prefix {
	return netip.PrefixFrom(host(network, number), network.Bits())
}

func newWorld(arms int) (*world, error) {
	l, err := lab.New()
	if err != nil {
		return nil, err
	}
	w := &world{Lab: l, arms: arms}
	if err := w.build(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return w, nil
}

func (w *world) build() error {
	gen, err := w.AddHost("gen")
	if err != nil {
		return err
	}
	lb, err := w.AddHost("lb")
	if err != nil {
		return err
	}
	if err := lb.EnableForwarding(); err != nil {
		return err
	}
	cfg := lab.LinkConfig{}
	if w.gen, w.in, err = w.Cable(gen, "eth0", lb, "eth0", cfg); err != nil {
		return err
	}
	w.out, w.far = w.in, w.gen
	if w.arms == 2 {
		sink, err := w.AddHost("sink")
		if err != nil {
			return err
		}
		if w.out, w.far, err = w.Cable(lb, "eth1", sink, "eth0", cfg); err != nil {
			return err
		}
	}
	for _, at := range []*lab.Interface{w.gen, w.in, w.out, w.far} {
		// What the sink drops is not to cost more than dropping: merging it
		// first would be charged to who has sent it.
		if err := at.SetFeatures(false, "rx-gro"); err != nil {
			return err
		}
	}
	if w.v4, err = w.family(vip4, clients4, front4, back4); err != nil {
		return err
	}
	w.v6, err = w.family(vip6, clients6, front6, back6)
	return err
}

// family gives everybody addresses, and tells the balancer's kernel where
// everybody is: nobody asks and nobody answers while traffic runs.
func (w *world) family(vip netip.Addr, clients, front, back netip.Prefix) (a addresses, err error) {
	a = addresses{vip: vip, clients: clients, generator: host(front, 2), gateway: host(front, 1)}
	err = errors.Join(w.gen.AddAddress(attached(front, 2)), w.in.AddAddress(attached(front, 1)))
	if w.arms == 2 {
		a.gateway = host(back, 1)
		err = errors.Join(err, w.out.AddAddress(attached(back, 1)), w.far.AddAddress(attached(back, 2)))
	} else {
		back = front
	}
	for i := range snatCount {
		a.snat = append(a.snat, host(back, 201+i))
	}
	for i := range backendCount {
		a.backends = append(a.backends, host(back, 11+i))
		err = errors.Join(err, knows(w.out, a.backends[i]))
	}
	err = errors.Join(err, knows(w.in, a.generator))
	if err == nil {
		err = w.in.Host.AddRoute(clients, a.generator)
	}
	return a, err
}

// knows tells a host that an address is at the other end of its cable.
func knows(at *lab.Interface, addr netip.Addr) error {
	neighbor := &netlink.Neigh{
		LinkIndex: at.Index, State: netlink.NUD_PERMANENT,
		IP: net.IP(addr.AsSlice()), HardwareAddr: at.Peer.MAC,
	}
	if err := at.Host.Netlink().NeighSet(neighbor); err != nil {
		return fmt.Errorf("neighbour %s: %w", addr, err)
	}
	return nil
}

// stream is a case's traffic in this world.
func (w *world) stream(c Case) *stream {
	s := &stream{Case: c, clients: w.of(c).clients.Addr(), vip: netip.AddrPortFrom(w.of(c).vip, servicePort), stamped: c.Rate > 0}
	copy(s.srcMAC[:], w.gen.MAC)
	copy(s.dstMAC[:], w.in.MAC)
	return s
}
