// Package attack has a node carry long-lived TCP connections while it is flooded
// with SYNs, on the wire that the connections come by too.
package attack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"fairlead/perf/lab"
	"fairlead/perf/rig"
	"fairlead/xdp/decap"
)

// The networks of the lab, and the service.
var (
	front  = netip.MustParsePrefix("198.18.0.0/24")
	back   = netip.MustParsePrefix("198.18.10.0/24")
	direct = netip.MustParsePrefix("198.18.20.0/24") // on which servers answer past the node
	vip    = netip.MustParseAddrPort("198.18.100.1:80")
	nobody = netip.MustParseAddrPort("198.18.101.1:80") // no address of the node's
)

// backends is how many addresses the servers' host has.
const backends = 4

// world is the lab: kernels with their TCP stacks at both ends, the node between
// them, and no switch, so that a flood reaches it undiminished.
//
//	client eth0 ---- eth0 lb eth1 ---- eth0 server
//	client eth1 --------------------- eth1 server
type world struct {
	*lab.Lab
	client, lb, server *lab.Host
	wire, in           *lab.Interface // the cable that clients and flood share: their end, and the node's
	out                *lab.Interface // the node's, towards the servers
	serverIn           *lab.Interface
}

func newWorld(method string) (*world, error) {
	l, err := lab.New()
	if err != nil {
		return nil, err
	}
	w := &world{Lab: l}
	if err := w.build(method); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return w, nil
}

// at is a host's address in a network, for its interface.
func at(network netip.Prefix, number byte) netip.Prefix {
	a := network.Addr().As4()
	a[3] = number
	return netip.PrefixFrom(netip.AddrFrom4(a), network.Bits())
}

func (w *world) build(method string) (err error) {
	for name, h := range map[string]**lab.Host{"client": &w.client, "lb": &w.lb, "server": &w.server} {
		if *h, err = w.AddHost(name); err != nil {
			return err
		}
	}
	var clientIn, serverOut *lab.Interface
	if w.wire, w.in, err = w.Cable(w.client, "eth0", w.lb, "eth0", lab.LinkConfig{}); err != nil {
		return err
	}
	if w.out, w.serverIn, err = w.Cable(w.lb, "eth1", w.server, "eth0", lab.LinkConfig{}); err != nil {
		return err
	}
	if clientIn, serverOut, err = w.Cable(w.client, "eth1", w.server, "eth1", lab.LinkConfig{}); err != nil {
		return err
	}
	err = errors.Join(
		w.wire.AddAddress(at(front, 2)), w.in.AddAddress(at(front, 1)), w.out.AddAddress(at(back, 1)),
		clientIn.AddAddress(at(direct, 2)), serverOut.AddAddress(at(direct, 3)),
		w.client.AddRoute(netip.PrefixFrom(vip.Addr(), 32), at(front, 1).Addr()),
		w.server.AddRoute(front, at(direct, 2).Addr()),
		knows(w.in, at(front, 2).Addr()),
	)
	for i := range byte(backends) {
		err = errors.Join(err, w.serverIn.AddAddress(at(back, 11+i)))
	}
	if err != nil {
		return err
	}
	if err := w.shield(); err != nil {
		return err
	}
	if method != "nat" {
		if err := w.unpack(method); err != nil {
			return err
		}
	}
	return serve(w.server, vip.Port())
}

// knows tells a host that an address is at the other end of its cable.
func knows(ifc *lab.Interface, addr netip.Addr) error {
	err := ifc.Host.Netlink().NeighSet(&netlink.Neigh{
		LinkIndex: ifc.Index, State: netlink.NUD_PERMANENT, IP: net.IP(addr.AsSlice()), HardwareAddr: ifc.Peer.MAC,
	})
	if err != nil {
		return fmt.Errorf("neighbour %s: %w", addr, err)
	}
	return nil
}

// unpack makes the server's host a backend for methods that leave the VIP in the
// packet.
func (w *world) unpack(method string) error {
	node := &lab.Node{Host: w.server, Interface: w.serverIn}
	err := rig.Own(node, vip.Addr())
	if err == nil && method != "l2" {
		_, err = rig.Decapsulate(node, decap.Config{VIPs: []netip.Addr{vip.Addr()}})
	}
	return err
}

// shield drops the flood where it reaches the server's host: what it would cost
// machines of their own is no concern of the node, and here they would take its
// CPU.
func (w *world) shield() error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: dropMarked(), License: "Dual BSD/GPL"})
	if err != nil {
		return fmt.Errorf("shield: %w", err)
	}
	defer program.Close()
	var attached link.Link
	err = w.server.Do(func() (err error) {
		attached, err = link.AttachTCX(link.TCXOptions{Program: program, Interface: w.serverIn.Index, Attach: ebpf.AttachTCXIngress})
		return err
	})
	if err != nil {
		return fmt.Errorf("shield: %w", err)
	}
	w.OnClose(attached.Close)
	return nil
}

// config is the node's configuration.
func (w *world) config(s *Setup) *rig.Config {
	cfg := &rig.Config{
		Options:    fmt.Sprintf("[dataplane]\ncpus = [%d]\nflow_memo = %q\nflow_table_size = %d\n", s.WorkerCPU, s.FlowMemo, s.TableSize),
		Interfaces: []rig.Interface{{Name: w.in.Name}, {Name: w.out.Name}},
		Tunnel4:    at(back, 1).Addr(),
		Services:   []rig.Service{{Name: "web", VIP: vip.Addr(), Protocol: "tcp", Port: vip.Port(), Pool: "web", Method: s.Method}},
	}
	for i := range byte(2) {
		cfg.SNAT = append(cfg.SNAT, at(back, 201+i).Addr())
	}
	pool := rig.Pool{Name: "web"}
	for i := range byte(backends) {
		addr := at(back, 11+i).Addr()
		pool.Backends = append(pool.Backends, rig.Backend{Address: addr, Weight: 1})
		cfg.Neighbors = append(cfg.Neighbors, rig.Neighbor{Address: addr, MAC: w.serverIn.MAC.String(), Interface: w.out.Name})
	}
	cfg.Pools = []rig.Pool{pool}
	return cfg
}
