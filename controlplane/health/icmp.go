package health

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// icmpProbe succeeds when an echo request is answered.
type icmpProbe struct {
	dialer
	echo *echo
}

func (p *icmpProbe) try(ctx context.Context, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	return plain(p.echo.ask(ctx, &p.dialer), false)
}

// echo asks for echoes. All checks share one raw socket for each family and
// way, because each raw socket is given every ICMP message of the host.
type echo struct {
	ctx    context.Context
	tunnel *tunnel

	mu      sync.Mutex // guards what follows
	sockets map[echoKind]*echoSocket
}

// echoKind is what sets the sockets apart.
type echoKind struct {
	is6      bool
	tunneled bool // what it sends is marked for the tunnel
}

// echoSocket is one of them.
type echoSocket struct {
	kind echoKind
	conn *net.IPConn
	p4   *ipv4.PacketConn
	p6   *ipv6.PacketConn
	done chan struct{}

	mu      sync.Mutex // guards what follows
	next    uint16
	waiting map[uint16]*question // by identifier
}

// question waits for an answer.
type question struct {
	to       netip.Addr
	cookie   [16]byte
	answered chan struct{}
}

// echoBuffer is how many bytes of answers may wait to be read.
const echoBuffer = 4 << 20

func newEcho(ctx context.Context, t *tunnel) *echo {
	return &echo{ctx: ctx, tunnel: t, sockets: make(map[echoKind]*echoSocket)}
}

// ask sends an echo request and waits for the answer.
func (e *echo) ask(ctx context.Context, d *dialer) error {
	s, err := e.socket(echoKind{d.to.Addr().Is6(), d.tunnel != nil})
	if err != nil {
		return err
	}
	q := &question{to: d.to.Addr(), answered: make(chan struct{})}
	rand.Read(q.cookie[:]) //nolint:errcheck // it never fails
	id, err := s.await(q)
	if err != nil {
		return err
	}
	defer s.forget(id)
	source := d.source
	var f *passage
	if d.tunnel != nil {
		if source, err = d.from(); err != nil {
			return err
		}
		proto := uint8(unix.IPPROTO_ICMP)
		if s.kind.is6 {
			proto = unix.IPPROTO_ICMPV6
		}
		f, err = d.tunnel.open(ident{proto, netip.AddrPortFrom(source, id)}, d.backend, d.way)
		if err != nil {
			return err
		}
		defer f.release()
	}
	if err := s.send(q, id, source); err != nil {
		return err
	}
	select {
	case <-q.answered:
		return f.result(nil)
	case <-ctx.Done():
		return f.result(plain(ctx.Err(), false))
	}
}

// socket gives the socket of a kind, opened when it is first needed.
func (e *echo) socket(kind echoKind) (*echoSocket, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.sockets[kind]; s != nil {
		return s, nil
	}
	if err := e.ctx.Err(); err != nil {
		return nil, err
	}
	s := &echoSocket{kind: kind, done: make(chan struct{}), waiting: make(map[uint16]*question)}
	network := "ip4:icmp"
	if kind.is6 {
		network = "ip6:ipv6-icmp"
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return control(raw, func(fd int) error {
			if !kind.tunneled {
				return nil
			}
			return os.NewSyscallError("SO_MARK", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, fwMark))
		})
	}}
	conn, err := lc.ListenPacket(e.ctx, network, "")
	if err != nil {
		return nil, own(fmt.Errorf("raw socket: %w", err))
	}
	s.conn = conn.(*net.IPConn)
	// The answers of thousands of checks come through it; without the right to
	// have more the kernel's own bound holds.
	if raw, err := s.conn.SyscallConn(); err == nil {
		control(raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, echoBuffer) }) //nolint:errcheck // the kernel's own
	}
	if err := s.filter(); err != nil {
		conn.Close()
		return nil, own(fmt.Errorf("raw socket: %w", err))
	}
	e.sockets[kind] = s
	go s.read()
	return s, nil
}

// filter has the kernel give us echo replies alone.
func (s *echoSocket) filter() error {
	if s.kind.is6 {
		s.p6 = ipv6.NewPacketConn(s.conn)
		var f ipv6.ICMPFilter
		f.SetAll(true)
		f.Accept(ipv6.ICMPTypeEchoReply)
		return s.p6.SetICMPFilter(&f)
	}
	s.p4 = ipv4.NewPacketConn(s.conn)
	var f ipv4.ICMPFilter
	f.SetAll(true)
	f.Accept(ipv4.ICMPTypeEchoReply)
	return s.p4.SetICMPFilter(&f)
}

// await registers a question under an identifier that no other has.
func (s *echoSocket) await(q *question) (uint16, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) > 0xf000 {
		return 0, own(errors.New("too many echo requests wait for answers"))
	}
	for {
		s.next++
		if _, taken := s.waiting[s.next]; !taken {
			s.waiting[s.next] = q
			return s.next, nil
		}
	}
}

func (s *echoSocket) forget(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, id)
}

func (s *echoSocket) send(q *question, id uint16, source netip.Addr) error {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(id), Seq: 1, Data: q.cookie[:]}}
	if s.kind.is6 {
		m.Type = ipv6.ICMPTypeEchoRequest // whose checksum is the kernel's
	}
	data, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	to := &net.IPAddr{IP: q.to.AsSlice()}
	if s.kind.is6 {
		var c *ipv6.ControlMessage
		if source.IsValid() {
			c = &ipv6.ControlMessage{Src: source.AsSlice()}
		}
		_, err = s.p6.WriteTo(data, c, to)
		return err
	}
	var c *ipv4.ControlMessage
	if source.IsValid() {
		c = &ipv4.ControlMessage{Src: source.AsSlice()}
	}
	_, err = s.p4.WriteTo(data, c, to)
	return err
}

// read gives answers to those who wait for them. Everything else that arrives
// is somebody else's.
func (s *echoSocket) read() {
	defer close(s.done)
	buf := make([]byte, 1500)
	for {
		n, from, err := s.receive(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of one message; the socket is good
		}
		proto := unix.IPPROTO_ICMP
		if s.kind.is6 {
			proto = unix.IPPROTO_ICMPV6
		}
		m, err := icmp.ParseMessage(proto, buf[:n])
		if err != nil {
			continue
		}
		if body, is := m.Body.(*icmp.Echo); is {
			s.answer(from, body)
		}
	}
}

func (s *echoSocket) receive(buf []byte) (n int, from netip.Addr, err error) {
	var a net.Addr
	if s.kind.is6 {
		n, _, a, err = s.p6.ReadFrom(buf)
	} else {
		n, _, a, err = s.p4.ReadFrom(buf) // without the IP header
	}
	if ip, is := a.(*net.IPAddr); is {
		from, _ = netip.AddrFromSlice(ip.IP)
	}
	return n, from.Unmap(), err
}

func (s *echoSocket) answer(from netip.Addr, body *icmp.Echo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.waiting[uint16(body.ID)]
	if q == nil || q.to.WithZone("") != from || string(body.Data) != string(q.cookie[:]) {
		return
	}
	delete(s.waiting, uint16(body.ID))
	close(q.answered)
}

func (e *echo) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, s := range e.sockets {
		errs = append(errs, s.conn.Close())
		<-s.done
	}
	clear(e.sockets)
	return errors.Join(errs...)
}
