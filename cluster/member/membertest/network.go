// Package membertest is a network in memory for members of a cluster: packets and
// streams of gossip, and requests between peers, with loss, delay and partitions.
// Nothing in it waits for a receiver that is busy, so it holds any number of nodes.
package membertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"fairlead/cluster"
)

// Network connects hosts by their names.
type Network struct {
	mu      sync.Mutex
	hosts   map[string]*Host
	gossip  map[netip.AddrPort]*Host
	stream  map[netip.AddrPort]*Host
	groups  map[string]int // of a partition; nil: there is none
	loss    float64
	least   time.Duration
	most    time.Duration
	bytes   uint64
	packets uint64
	ended   sync.WaitGroup
	done    chan struct{}
}

// New makes a network without loss or delay.
func New() *Network {
	return &Network{hosts: map[string]*Host{}, gossip: map[netip.AddrPort]*Host{}, stream: map[netip.AddrPort]*Host{}, done: make(chan struct{})}
}

// Lose has a part of all packets lost: 0 to 1. Streams lose nothing.
func (n *Network) Lose(part float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = part
}

// Delay has everything take from least to most.
func (n *Network) Delay(least, most time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.least, n.most = least, most
}

// Part leaves hosts of different groups without a way to each other; those that
// are in none are alone. Without groups the network is whole.
func (n *Network) Part(groups ...[]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.groups = nil
	if len(groups) == 0 {
		return
	}
	n.groups = map[string]int{}
	for i, g := range groups {
		for _, name := range g {
			n.groups[name] = i + 1
		}
	}
}

// Traffic is how much has been sent: packets, and bytes in packets and streams.
func (n *Network) Traffic() (packets, bytes uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.packets, n.bytes
}

// Close waits until nothing is on its way.
func (n *Network) Close() {
	close(n.done)
	n.ended.Wait()
}

// reach says whether there is a way from one host to another.
func (n *Network) reach(from, to *Host) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if from.down || to.down {
		return false
	}
	return n.groups == nil || from == to || n.groups[from.part] != 0 && n.groups[from.part] == n.groups[to.part]
}

// transit is how long something takes; lost says that it does not arrive.
func (n *Network) transit(size int) (d time.Duration, lost bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.packets++
	n.bytes += uint64(size)
	d = n.least
	if n.most > n.least {
		d += rand.N(n.most - n.least)
	}
	return d, rand.Float64() < n.loss
}

// Host is one node's place in the network. It implements
// memberlist.NodeAwareTransport and cluster.Peers.
type Host struct {
	network *Network
	name    string
	part    string // its name in partitions; guarded by the network
	gossip  netip.AddrPort
	down    bool // guarded by the network

	packets chan *memberlist.Packet
	streams chan net.Conn

	mu       sync.Mutex
	handlers map[cluster.Topic]func(context.Context, string, []byte) ([]byte, error)
	listens  map[cluster.Topic]func(string, []byte)
	up       []func(string)
	refused  cluster.Topic // that it does not answer
	after    int           // so many requests
}

// Rename gives a host another name in partitions.
func (h *Host) Rename(name string) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	delete(h.network.hosts, h.name)
	h.part = name
}

// Refuse has a host not know a topic after so many requests of it; "" is none.
func (h *Host) Refuse(topic cluster.Topic, after int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused, h.after = topic, after
}

// Add makes a host; one of the same addresses that has been shut down is replaced.
func (n *Network) Add(name string, gossip, stream netip.AddrPort) *Host {
	h := &Host{
		network: n, name: name, part: name, gossip: gossip, packets: make(chan *memberlist.Packet, 1024), streams: make(chan net.Conn, 64),
		handlers: map[cluster.Topic]func(context.Context, string, []byte) ([]byte, error){}, listens: map[cluster.Topic]func(string, []byte){},
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[name], n.gossip[gossip], n.stream[stream] = h, h, h
	return h
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (h *Host) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return h.gossip.Addr().AsSlice(), int(h.gossip.Port()), nil
}

// PacketCh implements memberlist.Transport.
func (h *Host) PacketCh() <-chan *memberlist.Packet { return h.packets }

// StreamCh implements memberlist.Transport.
func (h *Host) StreamCh() <-chan net.Conn { return h.streams }

// Shutdown implements memberlist.Transport: the host is cut off.
func (h *Host) Shutdown() error {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	h.down = true
	return nil
}

// WriteTo implements memberlist.Transport.
func (h *Host) WriteTo(b []byte, addr string) (time.Time, error) {
	return h.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress implements memberlist.NodeAwareTransport. A receiver that does
// not keep up loses packets, as with a full socket buffer.
func (h *Host) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	to := h.network.at(a.Addr)
	d, lost := h.network.transit(len(b))
	if to == nil || lost {
		return time.Now(), nil
	}
	p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(h.gossip)}
	h.network.after(d, func() {
		if !h.network.reach(h, to) {
			return
		}
		p.Timestamp = time.Now()
		select {
		case to.packets <- p:
		default:
		}
	})
	return time.Now(), nil
}

// DialTimeout implements memberlist.Transport.
func (h *Host) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return h.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (h *Host) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	to := h.network.at(a.Addr)
	d, _ := h.network.transit(0)
	select {
	case <-time.After(min(d, timeout)):
	case <-h.network.done:
	}
	if to == nil || !h.network.reach(h, to) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("no route to host")}
	}
	ours, theirs := net.Pipe()
	select {
	case to.streams <- &counted{theirs, h.network}:
		return &counted{ours, h.network}, nil
	default:
		return nil, errors.Join(&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}, ours.Close(), theirs.Close())
	}
}

// counted is one end of a stream.
type counted struct {
	net.Conn
	network *Network
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.network.mu.Lock()
	c.network.bytes += uint64(n)
	c.network.mu.Unlock()
	return n, err
}

func (n *Network) at(addr string) *Host {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.gossip[a]
}

func (n *Network) after(d time.Duration, f func()) {
	if d == 0 {
		f()
		return
	}
	n.ended.Go(func() {
		select {
		case <-time.After(d):
			f()
		case <-n.done:
		}
	})
}

// Dial sends a request to whoever takes streams at an address.
func (h *Host) Dial(ctx context.Context, stream netip.AddrPort, topic cluster.Topic, request []byte) (string, []byte, error) {
	h.network.mu.Lock()
	to := h.network.stream[stream]
	h.network.mu.Unlock()
	if to == nil || !h.network.reach(h, to) {
		return "", nil, fmt.Errorf("%s: %w", stream, cluster.ErrUnreachable)
	}
	answer, err := h.call(ctx, to, topic, request)
	return to.name, answer, err
}

// Call implements cluster.Peers.
func (h *Host) Call(ctx context.Context, node string, topic cluster.Topic, request []byte) ([]byte, error) {
	h.network.mu.Lock()
	to := h.network.hosts[node]
	h.network.mu.Unlock()
	if to == nil || !h.network.reach(h, to) {
		return nil, cluster.ErrUnreachable
	}
	return h.call(ctx, to, topic, request)
}

func (h *Host) call(ctx context.Context, to *Host, topic cluster.Topic, request []byte) ([]byte, error) {
	d, _ := h.network.transit(len(request))
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	to.mu.Lock()
	f := to.handlers[topic]
	if to.refused == topic {
		if to.after--; to.after < 0 {
			f = nil
		}
	}
	to.mu.Unlock()
	if f == nil {
		return nil, cluster.ErrNoHandler
	}
	answer, err := f(ctx, h.name, request)
	if err != nil {
		return nil, errors.New(err.Error())
	}
	if !h.network.reach(to, h) {
		return nil, io.ErrUnexpectedEOF
	}
	h.network.transit(len(answer))
	return answer, nil
}

// Handle implements cluster.Peers.
func (h *Host) Handle(topic cluster.Topic, f func(context.Context, string, []byte) ([]byte, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handlers[topic] = f
}

// Send implements cluster.Peers.
func (h *Host) Send(node string, topic cluster.Topic, message []byte) error {
	h.network.mu.Lock()
	to := h.network.hosts[node]
	h.network.mu.Unlock()
	if to == nil || !h.network.reach(h, to) {
		return cluster.ErrUnreachable
	}
	d, _ := h.network.transit(len(message)) // streams lose nothing
	message = bytes.Clone(message)
	h.network.after(d, func() {
		to.mu.Lock()
		f := to.listens[topic]
		to.mu.Unlock()
		if f != nil && h.network.reach(h, to) {
			f(h.name, message)
		}
	})
	return nil
}

// Listen implements cluster.Peers.
func (h *Host) Listen(topic cluster.Topic, f func(string, []byte)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listens[topic] = f
}

// OnUp implements cluster.Peers.
func (h *Host) OnUp(f func(string)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up = append(h.up, f)
}

// Up has those told that have asked, of a connection to a node.
func (h *Host) Up(node string) {
	h.mu.Lock()
	up := append([]func(string){}, h.up...)
	h.mu.Unlock()
	for _, f := range up {
		f(node)
	}
}

var (
	_ memberlist.NodeAwareTransport = (*Host)(nil)
	_ cluster.Peers                 = (*Host)(nil)
)
