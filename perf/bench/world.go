package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"fairlead/perf/lab"
)

// clients are the addresses that requests come from: behind the generator.
var clients = netip.MustParsePrefix("198.19.0.0/16")

// vip is what requests are sent to.
var vip = netip.MustParseAddr("198.18.100.1")

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

	generator, local, gateway netip.Addr // addresses of gen, in and out
	backends                  []netip.Addr
	snat                      []netip.Addr
}

// network is a /24 of the lab.
type network [3]byte

func (n network) addr(host int) netip.Addr {
	return netip.AddrFrom4([4]byte{n[0], n[1], n[2], byte(host)})
}

func (n network) prefix(host int) netip.Prefix { return netip.PrefixFrom(n.addr(host), 24) }

var (
	frontNet = network{198, 18, 0}
	backNet  = network{198, 18, 10}
)

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
	w.generator, w.local, w.gateway = frontNet.addr(2), frontNet.addr(1), frontNet.addr(1)
	if err := w.gen.AddAddress(frontNet.prefix(2)); err != nil {
		return err
	}
	if err := w.in.AddAddress(frontNet.prefix(1)); err != nil {
		return err
	}
	w.out, w.far = w.in, w.gen
	back := frontNet
	if w.arms == 2 {
		back = backNet
		if err := w.addSink(lb, cfg); err != nil {
			return err
		}
	}
	for i := range backendCount {
		w.backends = append(w.backends, back.addr(11+i))
	}
	for i := range snatCount {
		w.snat = append(w.snat, back.addr(201+i))
	}
	return w.addNeighbors()
}

func (w *world) addSink(lb *lab.Host, cfg lab.LinkConfig) error {
	host, err := w.AddHost("sink")
	if err != nil {
		return err
	}
	if w.out, w.far, err = w.Cable(lb, "eth1", host, "eth0", cfg); err != nil {
		return err
	}
	w.gateway = backNet.addr(1)
	if err := w.out.AddAddress(backNet.prefix(1)); err != nil {
		return err
	}
	return w.far.AddAddress(backNet.prefix(2))
}

// addNeighbors tells the balancer's kernel where everybody is: nobody asks and
// nobody answers while traffic runs.
func (w *world) addNeighbors() error {
	set := func(at *lab.Interface, addr netip.Addr) error {
		neighbor := &netlink.Neigh{
			LinkIndex: at.Index, State: netlink.NUD_PERMANENT,
			IP: net.IP(addr.AsSlice()), HardwareAddr: at.Peer.MAC,
		}
		if err := at.Host.Netlink().NeighSet(neighbor); err != nil {
			return fmt.Errorf("neighbour %s: %w", addr, err)
		}
		return nil
	}
	for _, b := range w.backends {
		if err := set(w.out, b); err != nil {
			return err
		}
	}
	if err := set(w.in, w.generator); err != nil {
		return err
	}
	return w.in.Host.AddRoute(clients, w.generator)
}

// stream is a case's traffic in this world.
func (w *world) stream(c Case) *stream {
	s := &stream{Case: c, vip: netip.AddrPortFrom(vip, servicePort), stamped: c.Rate > 0}
	copy(s.srcMAC[:], w.gen.MAC)
	copy(s.dstMAC[:], w.in.MAC)
	return s
}
