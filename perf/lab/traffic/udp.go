package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/perf/lab"
)

// maxDatagram is the largest payload of a datagram, in bytes; maxQuestion leaves
// room for the first line of the answer.
const (
	maxDatagram = 65507
	maxQuestion = maxDatagram - 128
)

// UDPServer answers every datagram with its own name and the client's address
// it sees, a newline, and the datagram. Answers come from the address that the
// question was sent to, also when the server listens on all addresses.
type UDPServer struct {
	name     string
	conn     *net.UDPConn
	ended    chan error
	requests atomic.Uint64
	close    func() error
}

// ServeUDP starts a server on a host. It listens on address ("198.18.0.9:53",
// ":53") and is closed with the lab.
func ServeUDP(h *lab.Host, address string) (*UDPServer, error) {
	pc, err := h.ListenPacket("udp", address)
	if err != nil {
		return nil, fmt.Errorf("udp server on %s: %w", h.Name, err)
	}
	s, err := NewUDPServer(h.Name, pc.(*net.UDPConn))
	if err != nil {
		return nil, fmt.Errorf("udp server on %s: %w", h.Name, err)
	}
	h.Lab().OnClose(s.Close)
	return s, nil
}

// NewUDPServer serves on a socket, which is its own from then on, for as long as it
// is not closed.
func NewUDPServer(name string, conn *net.UDPConn) (*UDPServer, error) {
	s := &UDPServer{name: name, conn: conn, ended: make(chan error, 1)}
	if err := askForDestination(s.conn); err != nil {
		return nil, errors.Join(err, s.conn.Close())
	}
	s.close = sync.OnceValue(func() error {
		if err := s.conn.Close(); err != nil {
			return err
		}
		if err := <-s.ended; !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	go func() { s.ended <- s.serve() }()
	return s, nil
}

func (s *UDPServer) serve() error {
	in, oob, out := make([]byte, maxDatagram), make([]byte, 128), make([]byte, 0, maxDatagram)
	for {
		n, oobn, _, client, err := s.conn.ReadMsgUDPAddrPort(in, oob)
		if err != nil {
			if isTransient(err) {
				continue
			}
			return err
		}
		s.requests.Add(1)
		from := origin{server: s.name, client: netip.AddrPortFrom(client.Addr().Unmap(), client.Port())}
		out = append(append(append(out[:0], from.line()...), '\n'), in[:n]...)
		_, _, err = s.conn.WriteMsgUDPAddrPort(out, sourceFromDestination(oob[:oobn]), client)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		// Any other failure is an answer that the client misses and reports.
	}
}

// isTransient is true for what an ICMP error about an earlier datagram leaves
// on a socket: the next call may succeed.
func isTransient(err error) bool {
	for _, e := range []error{
		unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EMSGSIZE, unix.EPROTO, unix.ENOPROTOOPT,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// askForDestination has every received datagram say where it was sent to.
func askForDestination(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var optErr error
	err = raw.Control(func(fd uintptr) {
		domain, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil {
			optErr = fmt.Errorf("socket family: %w", err)
			return
		}
		// On a socket for both families, IPv4 datagrams come with IP_PKTINFO.
		if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1); err != nil {
			optErr = fmt.Errorf("IP_PKTINFO: %w", err)
			return
		}
		if domain == unix.AF_INET6 {
			if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1); err != nil {
				optErr = fmt.Errorf("IPV6_RECVPKTINFO: %w", err)
			}
		}
	})
	return errors.Join(err, optErr)
}

// sourceFromDestination makes the control message that sends a datagram from
// the address another one was received at, out of the interface that routing
// picks. It is nil when the address is not known.
func sourceFromDestination(oob []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			// struct in_pktinfo: interface index, local address, header destination.
			var info unix.Inet4Pktinfo
			copy(info.Spec_dst[:], m.Data[8:12])
			return unix.PktInfo4(&info)
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			// struct in6_pktinfo: address, interface index.
			var info unix.Inet6Pktinfo
			copy(info.Addr[:], m.Data[:16])
			return unix.PktInfo6(&info)
		}
	}
	return nil
}

// Requests is how many datagrams the server has seen.
func (s *UDPServer) Requests() uint64 { return s.requests.Load() }

// Close ends the server.
func (s *UDPServer) Close() error { return s.close() }

// UDPLoad is a run of questions and answers over UDP. A flow is one source port.
type UDPLoad struct {
	Target netip.AddrPort
	// Source is the client's address; the zero Addr leaves it to the kernel.
	Source netip.Addr
	// Flows is how many source ports are used, Parallel how many at a time,
	// PerFlow how many questions each asks, one after the other (0: one).
	Flows, Parallel, PerFlow int
	// PayloadBytes is a question's length; 16 to 65,379 are
	// sent.
	PayloadBytes int
	// Attempts is how often a question is sent before it has failed (0: three),
	// Timeout how long each waits for its answer (0: one second).
	Attempts int
	Timeout  time.Duration
}

// questionHeaderLen is the length of the flow's and the question's number, with
// which every datagram begins.
const questionHeaderLen = 16

// Run asks the questions from a host. Flows that were not begun when ctx ended
// count as failed.
func (l UDPLoad) Run(ctx context.Context, h *lab.Host) *Tally {
	l.PerFlow = max(l.PerFlow, 1)
	l.PayloadBytes = min(max(l.PayloadBytes, questionHeaderLen), maxQuestion)
	if l.Attempts == 0 {
		l.Attempts = 3
	}
	if l.Timeout == 0 {
		l.Timeout = time.Second
	}
	t := newTally()
	left := spread(ctx, l.Flows, l.Parallel, func(i int) { l.flow(ctx, h, i, t) })
	for range left * l.PerFlow {
		t.fail(fmt.Errorf("not begun: %w", context.Cause(ctx)))
	}
	return t
}

func (l UDPLoad) flow(ctx context.Context, h *lab.Host, number int, t *Tally) {
	conn, err := dial(ctx, h, "udp", l.Source, l.Target)
	if err != nil {
		for range l.PerFlow {
			t.fail(fmt.Errorf("flow %d to %s: %w", number, l.Target, err))
		}
		return
	}
	defer conn.Close()
	payload, buf := make([]byte, l.PayloadBytes), make([]byte, maxDatagram)
	newPattern(uint64(number)).fill(payload)
	binary.BigEndian.PutUint64(payload, uint64(number))
	previous := ""
	for q := range l.PerFlow {
		binary.BigEndian.PutUint64(payload[8:], uint64(q))
		from, retries, err := l.ask(ctx, conn, payload, buf)
		t.add(retries, 0)
		if err != nil {
			t.fail(fmt.Errorf("flow %d (from %s) to %s, question %d: %w", number, conn.LocalAddr(), l.Target, q, err))
			continue
		}
		t.answer(from)
		if previous != "" && previous != from.server {
			t.add(0, 1)
		}
		previous = from.server
	}
}

// ask sends one question until it is answered, and returns how often it had to
// be sent again.
func (l UDPLoad) ask(ctx context.Context, conn net.Conn, payload, buf []byte) (from origin, retries int, err error) {
	var lastErr error
	for attempt := range l.Attempts {
		if err := ctx.Err(); err != nil {
			return origin{}, attempt, context.Cause(ctx)
		}
		from, err := l.attempt(ctx, conn, payload, buf)
		if err == nil {
			return from, attempt, nil
		}
		lastErr = err
	}
	return origin{}, l.Attempts - 1, fmt.Errorf("no answer to %d datagrams: %w", l.Attempts, because(ctx, lastErr))
}

func (l UDPLoad) attempt(ctx context.Context, conn net.Conn, payload, buf []byte) (origin, error) {
	if err := conn.SetDeadline(time.Now().Add(l.Timeout)); err != nil {
		return origin{}, err
	}
	release := bound(ctx, conn)
	defer release()
	if err := send(conn, payload); err != nil {
		return origin{}, err
	}
	var refused error
	for {
		n, err := conn.Read(buf)
		if isTransient(err) {
			refused = err
			continue
		}
		if err != nil {
			return origin{}, errors.Join(err, refused)
		}
		from, mine, err := parseAnswer(buf[:n], payload)
		if err != nil || mine {
			return from, err
		}
	}
}

// send sends one datagram. An error that an earlier datagram left on the socket
// keeps the kernel from sending this one, once for each such error.
func send(conn net.Conn, payload []byte) error {
	const most = 8
	var err error
	for range most {
		if _, err = conn.Write(payload); !isTransient(err) {
			return err
		}
	}
	return err
}

// parseAnswer takes an answer apart. mine is false for the answer to an earlier
// question of the flow, which came late or twice.
func parseAnswer(answer, question []byte) (from origin, mine bool, err error) {
	for i, c := range answer {
		if c != '\n' {
			continue
		}
		if from, err = parseOrigin(string(answer[:i])); err != nil {
			return origin{}, false, err
		}
		body := answer[i+1:]
		if len(body) == len(question) && len(body) >= questionHeaderLen &&
			string(body[:8]) == string(question[:8]) && string(body[8:16]) != string(question[8:16]) {
			return origin{}, false, nil
		}
		if err := firstDifference(body, question, 0); err != nil {
			return origin{}, false, fmt.Errorf("answer: %w", err)
		}
		return from, true, nil
	}
	return origin{}, false, fmt.Errorf("answer of %d bytes has no first line", len(answer))
}
