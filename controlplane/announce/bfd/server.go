package bfd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ports and TTL of RFC 5881, sections 4 and 5.
const (
	port            = 3784
	sourcePortFirst = 49152
	sourcePorts     = 65536 - sourcePortFirst
	linkTTL         = 255
)

// Server hears the packets of all peers of a process.
type Server struct {
	log       *slog.Logger
	listeners []*net.UDPConn
	running   sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	byNumber map[uint32]*Session
	byPeer   map[netip.Addr]*Session
}

// Listen opens the ports that routers send to, of both families.
func Listen(log *slog.Logger) (*Server, error) {
	s := &Server{log: log, byNumber: make(map[uint32]*Session), byPeer: make(map[netip.Addr]*Session)}
	for _, network := range []string{"udp4", "udp6"} {
		conn, err := listen(network)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("BFD: listen on UDP port %d: %w", port, err), s.Close())
		}
		s.listeners = append(s.listeners, conn)
		s.running.Go(func() { s.hear(conn) })
	}
	return s, nil
}

// listen opens a socket that says of each packet how many hops it had left.
func listen(network string) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var set error
		err := raw.Control(func(fd uintptr) {
			if network == "udp4" {
				set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTTL, 1)
			} else {
				set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
			}
		})
		return errors.Join(err, set)
	}}
	conn, err := lc.ListenPacket(context.Background(), network, fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// dial opens a socket that a session sends by.
func dial(peer, local netip.Addr) (*net.UDPConn, error) {
	d := net.Dialer{Control: func(network, _ string, raw syscall.RawConn) error {
		var set error
		err := raw.Control(func(fd uintptr) {
			if network == "udp4" {
				set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, linkTTL)
			} else {
				set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, linkTTL)
			}
		})
		return errors.Join(err, set)
	}}
	var last error
	for range 8 { // a port may be taken
		from := &net.UDPAddr{Port: sourcePortFirst + rand.IntN(sourcePorts)}
		if local.IsValid() {
			from.IP, from.Zone = local.AsSlice(), local.Zone()
		}
		d.LocalAddr = from
		conn, err := d.Dial("udp", netip.AddrPortFrom(peer, port).String())
		if err == nil {
			return conn.(*net.UDPConn), nil
		}
		if last = err; !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return nil, last
}

// isRefused reports whether a peer has no BFD at the moment.
func isRefused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }

// Add begins a session. There is one with each peer.
func (s *Server) Add(cfg Config) (*Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, net.ErrClosed
	}
	if s.byPeer[cfg.Peer] != nil {
		return nil, fmt.Errorf("BFD: there is a session with %s", cfg.Peer)
	}
	mine := cfg.Number
	for mine == 0 || s.byNumber[mine] != nil {
		mine = rand.Uint32()
	}
	session := newSession(s, cfg, mine)
	s.byNumber[mine], s.byPeer[cfg.Peer] = session, session
	s.running.Go(func() {
		defer close(session.done)
		session.run()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.byNumber, mine)
		delete(s.byPeer, cfg.Peer)
	})
	return session, nil
}

// hear hands packets to their sessions.
func (s *Server) hear(conn *net.UDPConn) {
	message, control := make([]byte, 256), make([]byte, 128)
	for {
		n, c, _, from, err := conn.ReadMsgUDPAddrPort(message, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || hops(control[:c]) != linkTTL {
			continue // RFC 5881, section 5: whoever sent it is not beside us
		}
		p, err := parse(message[:n])
		if err != nil {
			s.log.Debug("BFD packet discarded", "peer", from.Addr(), "error", err)
			continue
		}
		if session := s.session(&p, from.Addr()); session != nil {
			select {
			case session.in <- p:
			default: // more than it can take: it is none the worse for those lost
			}
		}
	}
}

// session finds the session that a packet is for. A packet names it, but only
// the peer's own address may.
func (s *Server) session(p *packet, from netip.Addr) *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.byPeer[from.Unmap()]
	if session == nil || p.yours != 0 && p.yours != session.mine {
		return nil
	}
	return session
}

// hops is the TTL or hop limit that a packet came with; 0 when it is not told.
func hops(control []byte) int {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		ttl := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_TTL
		limit := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_HOPLIMIT
		if (ttl || limit) && len(m.Data) >= 4 {
			return int(int32(binary.NativeEndian.Uint32(m.Data)))
		}
	}
	return 0
}

// Close ends all sessions in order.
func (s *Server) Close() error { return s.end((*Session).Close) }

// Leave ends all sessions without a word, for a successor that resumes them, for
// which the peers are asked to wait so long.
func (s *Server) Leave(wait time.Duration) error {
	return s.end(func(session *Session) { session.Leave(wait) })
}

func (s *Server) end(session func(*Session)) error {
	s.mu.Lock()
	s.closed = true
	sessions := make([]*Session, 0, len(s.byPeer))
	for _, one := range s.byNumber {
		sessions = append(sessions, one)
	}
	s.mu.Unlock()
	var ended sync.WaitGroup
	for _, one := range sessions {
		ended.Go(func() { session(one) })
	}
	ended.Wait()
	var errs []error
	for _, l := range s.listeners {
		errs = append(errs, l.Close())
	}
	s.running.Wait()
	return errors.Join(errs...)
}
