package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/perf/lab"
)

// Sizes of the lab for connections.
const (
	connClients  = 32
	connBackends = 4
)

// vips are what backends own that answer clients directly.
var vips = []netip.Addr{vip4}

// direct4 is the network on which servers answer clients without the balancer.
var direct4 = netip.MustParsePrefix("198.18.20.0/24")

// connWorld is the lab for connections: kernels with their TCP stacks at both
// ends, and a cable on which a server can answer a client directly.
//
//	client eth0 ---- eth0 lb eth1 ---- eth0 server
//	client eth1 --------------------- eth1 server
type connWorld struct {
	*lab.Lab
	client, lb, server *lab.Host
	in, out            *lab.Interface // the balancer's
	serverIn           *lab.Interface // the server's, towards the balancer
	serverOut          *lab.Interface // the server's, towards the client
	threads            []int          // that take in the balancer's frames
	others             []int          // that take in the clients' and the servers'
	clients, backends  []netip.Addr
	snat               []netip.Addr
}

func newConnWorld(c cpus) (*connWorld, error) {
	l, err := lab.New()
	if err != nil {
		return nil, err
	}
	w := &connWorld{Lab: l}
	if err := w.build(c); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return w, nil
}

func (w *connWorld) build(c cpus) (err error) {
	for name, host := range map[string]**lab.Host{"client": &w.client, "lb": &w.lb, "server": &w.server} {
		if *host, err = w.AddHost(name); err != nil {
			return err
		}
		// Ports that rest after a connection must not run out.
		if err := (*host).Sysctl("net.ipv4.ip_local_port_range", "1024\t65535"); err != nil {
			return err
		}
		if err := (*host).Sysctl("net.ipv4.tcp_tw_reuse", "1"); err != nil {
			return err
		}
	}
	if err := w.lb.EnableForwarding(); err != nil {
		return err
	}
	clientOut, in, err := w.Cable(w.client, "eth0", w.lb, "eth0", lab.LinkConfig{})
	if err != nil {
		return err
	}
	out, serverIn, err := w.Cable(w.lb, "eth1", w.server, "eth0", lab.LinkConfig{})
	if err != nil {
		return err
	}
	clientIn, serverOut, err := w.Cable(w.client, "eth1", w.server, "eth1", lab.LinkConfig{})
	if err != nil {
		return err
	}
	w.in, w.out, w.serverIn, w.serverOut = in, out, serverIn, serverOut
	if err := w.address(clientOut, clientIn); err != nil {
		return err
	}
	if w.threads, err = threadsOf(c.worker, in, out); err != nil {
		return err
	}
	w.others, err = threadsOf(c.generator, clientOut, clientIn, serverIn, serverOut)
	return err
}

// address gives addresses and routes.
func (w *connWorld) address(clientOut, clientIn *lab.Interface) error {
	err := errors.Join(
		w.in.AddAddress(attached(front4, 1)), w.out.AddAddress(attached(back4, 1)),
		clientIn.AddAddress(attached(direct4, 1)), w.serverOut.AddAddress(attached(direct4, 2)),
	)
	for i := range connClients {
		w.clients = append(w.clients, host(front4, 101+i))
		err = errors.Join(err, clientOut.AddAddress(attached(front4, 101+i)))
	}
	for i := range connBackends {
		w.backends = append(w.backends, host(back4, 11+i))
		err = errors.Join(err, w.serverIn.AddAddress(attached(back4, 11+i)))
	}
	for i := range snatCount {
		w.snat = append(w.snat, host(back4, 201+i))
	}
	if err != nil {
		return err
	}
	return errors.Join(
		w.client.AddRoute(netip.PrefixFrom(vip4, 24), host(front4, 1)),
		w.server.AddRoute(front4, host(back4, 1)),
	)
}

// threadsOf has threads of their own take in the interfaces' frames, so that
// each host's share of the kernel's work can be told from the others'.
func threadsOf(cpu int, interfaces ...*lab.Interface) ([]int, error) {
	var pids []int
	for _, at := range interfaces {
		n, err := threadNAPI(at, cpu)
		if err != nil {
			return nil, err
		}
		pids = append(pids, n.PIDs()...)
	}
	return pids, nil
}

// answerDirectly has the servers answer clients past the balancer, until the
// function it returns is called.
func (w *connWorld) answerDirectly() (undo func() error, err error) {
	route := func(via netip.Addr) error {
		dst := &net.IPNet{IP: front4.Addr().AsSlice(), Mask: net.CIDRMask(front4.Bits(), 32)}
		return w.server.Netlink().RouteReplace(&netlink.Route{Dst: dst, Gw: via.AsSlice()})
	}
	return func() error { return route(host(back4, 1)) }, route(host(direct4, 1))
}

// own gives the balancer's host itself the VIP, until the function it returns
// is called.
func (w *connWorld) own() (undo func() error, err error) {
	nl := w.lb.Netlink()
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	addr := &netlink.Addr{IPNet: netlink.NewIPNet(vip4.AsSlice())}
	return func() error { return nl.AddrDel(lo, addr) }, nl.AddrAdd(lo, addr)
}

// connTraffic are the clients at work.
type connTraffic struct {
	mem     []byte
	counts  *connCounts
	process *lab.Process
}

// startClients has the clients make connections to the VIP.
func (w *connWorld) startClients(cpu int) (*connTraffic, error) {
	fd, err := unix.MemfdCreate("fairlead-bench-connections", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	shared := os.NewFile(uintptr(fd), "connections")
	defer shared.Close()
	if err := shared.Truncate(connCountsSize); err != nil {
		return nil, err
	}
	t := &connTraffic{}
	if t.mem, t.counts, err = mapConnCounts(fd); err != nil {
		return nil, err
	}
	cmd, err := childCommand("child-connect", netip.AddrPortFrom(vip4, servicePort).String(), w.clients[0].String(), strconv.Itoa(connClients), strconv.Itoa(cpu))
	if err == nil {
		cmd.ExtraFiles = []*os.File{shared}
		t.process, err = w.client.Start(cmd)
	}
	if err != nil {
		return nil, errors.Join(err, t.unmap())
	}
	return t, nil
}

// startServer starts the server behind all backends' addresses.
func (w *connWorld) startServer(ctx context.Context, cpu int) (*lab.Process, error) {
	cmd, err := childCommand("child-serve", strconv.Itoa(servicePort), strconv.Itoa(cpu))
	if err != nil {
		return nil, err
	}
	return startReady(ctx, w.server, cmd)
}

func (t *connTraffic) completed() uint64 { return atomic.LoadUint64(&t.counts.completed) }
func (t *connTraffic) failed() uint64    { return atomic.LoadUint64(&t.counts.failed) }

// wait returns when so many connections were completed.
func (t *connTraffic) wait(ctx context.Context, n uint64) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for t.completed() < n {
		select {
		case <-tick.C:
		case <-t.process.Done():
			return fmt.Errorf("the clients have ended: %s", t.process.Output())
		case <-ctx.Done():
			return fmt.Errorf("%d connections were completed, %d failed: %w", t.completed(), t.failed(), context.Cause(ctx))
		}
	}
	return nil
}

func (t *connTraffic) unmap() error { return unix.Munmap(t.mem) }

// Stop ends the clients.
func (t *connTraffic) Stop() error { return errors.Join(t.process.Kill(), t.unmap()) }

// forgetConnections empties the balancer's connection tracking table.
func (w *connWorld) forgetConnections() error {
	return w.lb.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
}
