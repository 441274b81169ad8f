package member

import (
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Bounds of what strangers may cost. Nobody has proved anything when a stream is
// taken: only who has a gossip key can say something on it, within streamTimeout.
const (
	maxStreams     = 128 // at a time
	maxStreamsFrom = 8   // of one address
	maxStreamBytes = 4 << 20
)

// guard is the transport of the gossip: memberlist's own over UDP and TCP, or
// another one, with bounds and counters.
type guard struct {
	memberlist.NodeAwareTransport
	address netip.AddrPort // that others reach it at
	count   *counters
	log     *slog.Logger
	packets chan *memberlist.Packet
	streams chan net.Conn

	mu     sync.Mutex
	opened bool
	conns  map[*guarded]bool
	from   map[netip.Addr]int
	shut   sync.Once
	done   chan struct{}
	ended  sync.WaitGroup
	err    error
}

func newGuard(cfg *Config, count *counters, log *slog.Logger) (*guard, error) {
	g := &guard{
		NodeAwareTransport: cfg.Transport, address: cfg.Gossip, count: count, log: log,
		packets: make(chan *memberlist.Packet, 64), streams: make(chan net.Conn),
		conns: map[*guarded]bool{}, from: map[netip.Addr]int{}, done: make(chan struct{}),
	}
	if g.NodeAwareTransport == nil {
		t, err := listen(cfg, log)
		if err != nil {
			return nil, err
		}
		g.NodeAwareTransport = t
		if g.address.Port() == 0 {
			g.address = netip.AddrPortFrom(g.address.Addr(), uint16(t.GetAutoBindPort()))
		}
	}
	if a := g.address.Addr(); !a.IsValid() || a.IsUnspecified() {
		return nil, errors.Join(fmt.Errorf("nobody reaches this node at %s", g.address), g.NodeAwareTransport.Shutdown())
	}
	g.ended.Go(g.receive)
	return g, nil
}

func listen(cfg *Config, logger *slog.Logger) (*memberlist.NetTransport, error) {
	host := ""
	if a := cfg.Listen.Addr(); a.IsValid() && a != netip.IPv6Unspecified() {
		host = a.String()
	}
	t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{host}, BindPort: int(cfg.Listen.Port()), Logger: log.New(&logWriter{logger, nil}, "", 0),
	})
	if err != nil {
		return nil, fmt.Errorf("gossip port: %w", err)
	}
	return t, nil
}

// open lets packets and streams through. Until then they are dropped.
func (g *guard) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = true
}

func (g *guard) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opened
}

// receive passes on what arrives, until the transport below is shut down.
func (g *guard) receive() {
	for {
		select {
		case p := <-g.NodeAwareTransport.PacketCh():
			g.count.packetsIn.Add(1)
			g.count.bytesIn.Add(uint64(len(p.Buf)))
			if !g.isOpen() {
				continue
			}
			select {
			case g.packets <- p:
			case <-g.done:
			}
		case c := <-g.NodeAwareTransport.StreamCh():
			conn := g.take(c)
			if conn == nil {
				c.Close()
				continue
			}
			select {
			case g.streams <- conn:
			case <-g.done:
				conn.Close()
			}
		case <-g.done:
			return
		}
	}
}

// take counts a stream; nil when there are too many.
func (g *guard) take(c net.Conn) *guarded {
	var from netip.Addr
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		from = a.Addr().Unmap()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.opened {
		return nil
	}
	if len(g.conns) >= maxStreams || from.IsValid() && g.from[from] >= maxStreamsFrom {
		g.count.streamsRefused.Add(1)
		return nil
	}
	conn := &guarded{Conn: c, guard: g, from: from, left: maxStreamBytes}
	g.conns[conn] = true
	g.from[from]++
	return conn
}

func (g *guard) drop(c *guarded) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.conns[c] {
		return
	}
	delete(g.conns, c)
	if g.from[c.from]--; g.from[c.from] <= 0 {
		delete(g.from, c.from)
	}
}

// guarded is a stream that somebody else has opened.
type guarded struct {
	net.Conn
	guard *guard
	from  netip.Addr
	left  int
}

var errTooMuch = errors.New("more than a node ever sends")

func (c *guarded) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	c.guard.count.bytesIn.Add(uint64(n))
	return n, err
}

func (c *guarded) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.guard.count.bytesOut.Add(uint64(n))
	return n, err
}

func (c *guarded) Close() error {
	c.guard.drop(c)
	return c.Conn.Close()
}

// PacketCh implements memberlist.Transport.
func (g *guard) PacketCh() <-chan *memberlist.Packet { return g.packets }

// StreamCh implements memberlist.Transport.
func (g *guard) StreamCh() <-chan net.Conn { return g.streams }

// FinalAdvertiseAddr implements memberlist.Transport.
func (g *guard) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return g.address.Addr().AsSlice(), int(g.address.Port()), nil
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (g *guard) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	g.count.packetsOut.Add(1)
	g.count.bytesOut.Add(uint64(len(b)))
	return g.NodeAwareTransport.WriteToAddress(b, a)
}

// WriteTo implements memberlist.Transport.
func (g *guard) WriteTo(b []byte, addr string) (time.Time, error) {
	return g.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (g *guard) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	c, err := g.NodeAwareTransport.DialAddressTimeout(a, timeout)
	if err != nil {
		return nil, err
	}
	conn := &guarded{Conn: c, guard: g, left: maxStreamBytes}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.done:
		c.Close()
		return nil, io.ErrClosedPipe
	default:
	}
	g.conns[conn] = true
	g.from[conn.from]++
	return conn, nil
}

// Shutdown implements memberlist.Transport. No stream outlives it.
func (g *guard) Shutdown() error {
	g.shut.Do(func() {
		g.mu.Lock()
		close(g.done)
		conns := g.conns
		g.conns = map[*guarded]bool{}
		g.mu.Unlock()
		for c := range conns {
			c.Conn.Close()
		}
		g.ended.Wait()
		// Whatever the transport below still wants to give is thrown away: it waits
		// for that before it ends.
		stopped := make(chan struct{})
		g.ended.Go(func() {
			for {
				select {
				case <-g.NodeAwareTransport.PacketCh():
				case c := <-g.NodeAwareTransport.StreamCh():
					c.Close()
				case <-stopped:
					return
				}
			}
		})
		g.err = g.NodeAwareTransport.Shutdown()
		close(stopped)
		g.ended.Wait()
	})
	return g.err
}
