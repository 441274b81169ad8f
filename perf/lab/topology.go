package lab

import (
	"errors"
	"fmt"
	"net/netip"
)

// The parts of the address plan that every topology shares. A service's virtual
// address is either routed (its own subnet, which the clients reach by way of
// the load balancer's address) or on-link (in the segment on which the load
// balancer meets the clients, found by ARP or neighbour discovery).
const (
	lbHostNumber     = 1 // the client's gateway has it too, in the clients' own segment
	clientHostNumber = 2
	backendHostBase  = 10 // b1 is host number 11
	vipHostBase      = 100
	snatHostBase     = 200
	routerHostNumber = 254
	maxBackends      = vipHostBase - backendHostBase - 1
	maxVIPs          = snatHostBase - vipHostBase - 1
	maxSNATs         = routerHostNumber - snatHostBase - 1
	frontInterface   = "eth0"
	backInterface    = "eth1"
	hostInterface    = "eth0" // of hosts with one interface
	defaultBackends  = 3
)

// Segment is one Ethernet segment with its two subnets.
type Segment struct {
	IPv4 netip.Prefix
	IPv6 netip.Prefix
}

func segment(ipv4, ipv6 string) Segment {
	return Segment{IPv4: netip.MustParsePrefix(ipv4), IPv6: netip.MustParsePrefix(ipv6)}
}

var (
	frontSegment  = segment("198.18.0.0/24", "2001:db8:0::/64")
	backSegment   = segment("198.18.10.0/24", "2001:db8:10::/64")
	clientSegment = segment("198.18.20.0/24", "2001:db8:20::/64")
	vipSegment    = segment("198.18.100.0/24", "2001:db8:100::/64")
)

// Addr4 is the segment's IPv4 address with the given host number (1 to 254).
func (s Segment) Addr4(number int) netip.Addr { return hostAddr(s.IPv4, number) }

// Addr6 is the segment's IPv6 address with the given host number (1 to 254).
func (s Segment) Addr6(number int) netip.Addr { return hostAddr(s.IPv6, number) }

// hostAddr replaces the last byte of the prefix's address.
func hostAddr(p netip.Prefix, number int) netip.Addr {
	if number < 1 || number > 254 {
		panic(fmt.Sprintf("host number %d is not in 1..254", number))
	}
	raw := p.Addr().AsSlice()
	raw[len(raw)-1] = byte(number)
	a, _ := netip.AddrFromSlice(raw)
	return a
}

// Config says how large a topology is.
type Config struct {
	// Backends is how many there are; 0 means 3.
	Backends int
	// Queues is how many queues every interface has; 0 means 1.
	Queues int
	// MTU of every link in bytes; 0 means 1500.
	MTU int
	// Router puts a router between the clients and the load balancer, so that
	// clients are not on-link, and lets backends answer through it (TwoArm only).
	Router bool
}

func (c Config) backends() int {
	if c.Backends == 0 {
		return defaultBackends
	}
	return c.Backends
}

func (c Config) link() LinkConfig { return LinkConfig{Queues: c.Queues, MTU: c.MTU} }

// Node is a host of a topology with one interface on one segment.
type Node struct {
	*Host
	Interface *Interface
	IPv4      netip.Addr
	IPv6      netip.Addr
}

// Topology is a lab with a load balancer's usual surroundings. The load
// balancer's host is empty: nothing runs there and nothing answers for virtual
// or SNAT addresses until the test starts something.
type Topology struct {
	*Lab
	// Client is where requests come from. It has routes to the routed VIPs.
	Client *Node
	// LB is the load balancer's host.
	LB *Host
	// Front is where the load balancer meets the clients (or their router).
	// With one arm, Back is the same.
	Front, Back Arm
	// Backends are named b1, b2, and so on.
	Backends []*Node
	// Router is nil when there is none.
	Router *Host
	// FrontSwitch and BackSwitch carry the two arms' segments; with one arm they
	// are the same.
	FrontSwitch, BackSwitch *Switch
}

// Arm is the load balancer's connection to one segment.
type Arm struct {
	Segment   Segment
	Interface *Interface
	IPv4      netip.Addr
	IPv6      netip.Addr
	// Gateway4 and Gateway6 are the way to the clients from here, if that is
	// not the segment itself.
	Gateway4, Gateway6 netip.Addr
}

// VIP4 is the n-th routed IPv4 virtual address (n from 1).
func (t *Topology) VIP4(n int) netip.Addr { return vipSegment.Addr4(n) }

// VIP6 is the n-th routed IPv6 virtual address (n from 1).
func (t *Topology) VIP6(n int) netip.Addr { return vipSegment.Addr6(n) }

// OnLinkVIP4 is the n-th virtual address in the front segment (n from 1): who
// wants to send there asks by ARP.
func (t *Topology) OnLinkVIP4(n int) netip.Addr {
	return t.Front.Segment.Addr4(numbered(vipHostBase, n, maxVIPs))
}

// OnLinkVIP6 is the n-th virtual address in the front segment (n from 1): who
// wants to send there asks by neighbour discovery.
func (t *Topology) OnLinkVIP6(n int) netip.Addr {
	return t.Front.Segment.Addr6(numbered(vipHostBase, n, maxVIPs))
}

// SNAT4 is the n-th address in the back segment that is free for source NAT (n from 1).
func (t *Topology) SNAT4(n int) netip.Addr {
	return t.Back.Segment.Addr4(numbered(snatHostBase, n, maxSNATs))
}

// SNAT6 is the n-th address in the back segment that is free for source NAT (n from 1).
func (t *Topology) SNAT6(n int) netip.Addr {
	return t.Back.Segment.Addr6(numbered(snatHostBase, n, maxSNATs))
}

func numbered(base, n, most int) int {
	if n < 1 || n > most {
		panic(fmt.Sprintf("number %d is not in 1..%d", n, most))
	}
	return base + n
}

// build runs f on an empty topology and removes everything when it fails.
func build(cfg Config, f func(*Topology, Config) error) (*Topology, error) {
	if n := cfg.backends(); n < 1 || n > maxBackends {
		return nil, fmt.Errorf("%d backends: there can be 1 to %d", n, maxBackends)
	}
	l, err := New()
	if err != nil {
		return nil, err
	}
	t := &Topology{Lab: l}
	if err := f(t, cfg); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return t, nil
}

// addNode makes a host and plugs it into a switch.
func (t *Topology) addNode(sw *Switch, seg Segment, name string, number int, cfg Config) (*Node, error) {
	h, err := t.AddHost(name)
	if err != nil {
		return nil, err
	}
	ifc, err := sw.Plug(h, hostInterface, cfg.link())
	if err != nil {
		return nil, err
	}
	n := &Node{Host: h, Interface: ifc, IPv4: seg.Addr4(number), IPv6: seg.Addr6(number)}
	return n, addAddresses(ifc, seg, number)
}

func (t *Topology) addBackends(sw *Switch, seg Segment, cfg Config) error {
	for i := 1; i <= cfg.backends(); i++ {
		b, err := t.addNode(sw, seg, fmt.Sprintf("b%d", i), backendHostBase+i, cfg)
		if err != nil {
			return err
		}
		t.Backends = append(t.Backends, b)
	}
	return nil
}

// arm gives the load balancer's interface its addresses.
func arm(ifc *Interface, seg Segment) (Arm, error) {
	a := Arm{Segment: seg, Interface: ifc, IPv4: seg.Addr4(lbHostNumber), IPv6: seg.Addr6(lbHostNumber)}
	return a, addAddresses(ifc, seg, lbHostNumber)
}

// addAddresses gives an interface the segment's addresses with a host number.
func addAddresses(ifc *Interface, seg Segment, number int) error {
	for _, p := range []netip.Prefix{
		netip.PrefixFrom(seg.Addr4(number), seg.IPv4.Bits()),
		netip.PrefixFrom(seg.Addr6(number), seg.IPv6.Bits()),
	} {
		if err := ifc.AddAddress(p); err != nil {
			return err
		}
	}
	return nil
}

// addRoutes sends a segment's subnets to the host with the given number on another segment.
func addRoutes(h *Host, to Segment, via Segment, number int) error {
	if err := h.AddRoute(to.IPv4, via.Addr4(number)); err != nil {
		return err
	}
	return h.AddRoute(to.IPv6, via.Addr6(number))
}

// addDefaultRoutes sends everything else to the host with the given number on a segment.
func addDefaultRoutes(h *Host, via Segment, number int) error {
	if err := h.AddDefaultRoute(via.Addr4(number)); err != nil {
		return err
	}
	return h.AddDefaultRoute(via.Addr6(number))
}
