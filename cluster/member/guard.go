package member

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
	maxPacket      = 2048 // this package's have up to 1,400
)

// How encrypted gossip begins: a packet with the version of the encryption, a
// stream with its type, the length of the rest, and that version. What follows the
// version is a nonce, the text and a tag. memberlist ends the process when the
// text is empty, and when an older version's padding is wrong, so neither gets to
// it, whoever has the key.
const (
	encrypted         = 10
	encryptionVersion = 1
	encryptionExtra   = 1 + 12 + 16
	streamHead        = 1 + 4 + 1
)

var errNotGossip = errors.New("this is no encrypted gossip")

// plausible reports whether a packet may be gossip.
func plausible(packet []byte) bool {
	return len(packet) > encryptionExtra && len(packet) <= maxPacket && packet[0] == encryptionVersion
}

// guard is the transport of the gossip: memberlist's own over UDP and TCP, or
// another one, with bounds and counters.
type guard struct {
	memberlist.NodeAwareTransport
	address netip.AddrPort // that others reach it at
	tcp     bool           // streams are memberlist's own
	count   *counters
	log     *slog.Logger
	packets chan *memberlist.Packet
	streams chan net.Conn

	mu      sync.Mutex
	opened  bool
	conns   map[*guarded]bool
	from    map[netip.Addr]int
	cutting sync.Once
	shut    sync.Once
	running context.Context // until it is cut
	stop    context.CancelFunc
	ended   sync.WaitGroup
	err     error
}

func newGuard(cfg *Config, count *counters, log *slog.Logger) (*guard, error) {
	g := &guard{
		NodeAwareTransport: cfg.Transport, address: cfg.Gossip, count: count, log: log,
		packets: make(chan *memberlist.Packet, 64), streams: make(chan net.Conn),
		conns: map[*guarded]bool{}, from: map[netip.Addr]int{},
	}
	g.running, g.stop = context.WithCancel(context.Background())
	if g.tcp = cfg.Transport == nil; g.tcp {
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
	lines := slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	lines.SetFlags(0)
	lines.SetOutput(&logWriter{logger, nil})
	t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{host}, BindPort: int(cfg.Listen.Port()), Logger: lines,
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
			if !plausible(p.Buf) {
				g.count.undecipherable.Add(1)
				g.log.Warn("packets that are no gossip", "from", p.From, "bytes", len(p.Buf))
				continue
			}
			if !g.isOpen() {
				continue
			}
			select {
			case g.packets <- p:
			case <-g.running.Done():
			}
		case c := <-g.NodeAwareTransport.StreamCh():
			conn := g.take(c)
			if conn == nil {
				c.Close()
				continue
			}
			select {
			case g.streams <- conn:
			case <-g.running.Done():
				conn.Close()
			}
		case <-g.running.Done():
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
	conn := &guarded{Conn: c, guard: g, from: from}
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

// guarded is a stream of gossip.
type guarded struct {
	net.Conn
	guard *guard
	from  netip.Addr
	head  []byte // that has been read, and not passed on
	begun bool
	left  int // bytes that may still come
}

// Read gives what is one message of encrypted gossip at most.
func (c *guarded) Read(b []byte) (int, error) {
	if !c.begun {
		head := make([]byte, streamHead)
		if _, err := io.ReadFull(c.Conn, head); err != nil {
			return 0, err
		}
		length := binary.BigEndian.Uint32(head[1:])
		if head[0] != encrypted || length <= encryptionExtra || length > maxStreamBytes || head[5] != encryptionVersion {
			c.guard.count.undecipherable.Add(1)
			return 0, errNotGossip
		}
		c.guard.count.bytesIn.Add(streamHead)
		c.begun, c.head, c.left = true, head, int(length)-1
	}
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	if c.left == 0 {
		return 0, io.EOF
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

// DialAddressTimeout implements memberlist.NodeAwareTransport. Over TCP it ends
// when the guard is cut.
func (g *guard) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(g.running, timeout)
	defer cancel()
	var c net.Conn
	var err error
	if g.tcp {
		var d net.Dialer
		c, err = d.DialContext(ctx, "tcp", a.Addr)
	} else {
		c, err = g.NodeAwareTransport.DialAddressTimeout(a, timeout)
	}
	if err != nil {
		return nil, err
	}
	conn := &guarded{Conn: c, guard: g}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running.Err() != nil {
		c.Close()
		return nil, net.ErrClosed
	}
	g.conns[conn] = true
	g.from[conn.from]++
	return conn, nil
}

// cut ends everything that is on its way, and lets nothing more through.
func (g *guard) cut() {
	g.cutting.Do(func() {
		g.mu.Lock()
		g.stop()
		conns := g.conns
		g.conns = map[*guarded]bool{}
		g.mu.Unlock()
		for c := range conns {
			c.Conn.Close()
		}
		g.ended.Wait()
	})
}

// Shutdown implements memberlist.Transport. No stream outlives it; a connection
// that is being made may, until its time is over, and is then closed.
func (g *guard) Shutdown() error {
	g.shut.Do(func() {
		g.cut()
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
