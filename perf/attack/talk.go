package attack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fairlead/perf/lab"
)

// messageLen is the length of a request and of a response, in bytes.
const messageLen = 1024

// server answers requests.
type server struct {
	ln  net.Listener
	end sync.WaitGroup

	mu     sync.Mutex
	conns  []net.Conn
	closed bool
}

// serve answers every request on a host's port until the lab is closed.
func serve(h *lab.Host, port uint16) error {
	ln, err := h.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return fmt.Errorf("server on %s: %w", h.Name, err)
	}
	s := &server{ln: ln}
	s.end.Go(s.accept)
	h.Lab().OnClose(s.close)
	return nil
}

func (s *server) accept() {
	for {
		conn, err := s.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a client that gave up before it was accepted
		}
		if !s.add(conn) {
			conn.Close()
			return
		}
		s.end.Go(func() { answer(conn) })
	}
}

func (s *server) add(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, conn)
	return !s.closed
}

// answer sends back every message. Whatever ends the connection is the client's
// to report.
func answer(conn net.Conn) {
	var message [messageLen]byte
	for {
		if _, err := io.ReadFull(conn, message[:]); err != nil {
			return
		}
		if _, err := conn.Write(message[:]); err != nil {
			return
		}
	}
}

func (s *server) close() error {
	err := s.ln.Close()
	s.mu.Lock()
	s.closed = true
	for _, conn := range s.conns {
		err = errors.Join(err, ignoreClosed(conn.Close()))
	}
	s.mu.Unlock()
	s.end.Wait()
	return err
}

// talks are long-lived connections, on each of which a request is sent at a
// steady pace, and the next one when its response has come.
type talks struct {
	conns     []net.Conn
	exchanges atomic.Uint64
	stopping  chan struct{}
	end       sync.WaitGroup

	mu     sync.Mutex
	broken int
	why    error // of the first
}

// talk opens n connections from a host and begins to talk on them.
func talk(ctx context.Context, h *lab.Host, to netip.AddrPort, n int, pace time.Duration) (*talks, error) {
	t := &talks{stopping: make(chan struct{})}
	h.Lab().OnClose(t.abandon)
	for range n {
		conn, err := h.Dial(ctx, "tcp", to.String())
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", len(t.conns), err)
		}
		t.conns = append(t.conns, conn)
	}
	for i, conn := range t.conns {
		t.end.Go(func() {
			select { // not all at the same time
			case <-time.After(pace * time.Duration(i) / time.Duration(n)):
			case <-t.stopping:
				return
			}
			if err := t.converse(conn, byte(i), pace); err != nil {
				t.mu.Lock()
				defer t.mu.Unlock()
				if t.broken++; t.broken == 1 {
					t.why = fmt.Errorf("connection %v to %v: %w", conn.LocalAddr(), conn.RemoteAddr(), err)
				}
			}
		})
	}
	return t, nil
}

func (t *talks) converse(conn net.Conn, seed byte, pace time.Duration) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	var request, response [messageLen]byte
	for n := byte(0); ; n++ {
		for i := range request {
			request[i] = seed + n + byte(i)
		}
		if _, err := conn.Write(request[:]); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, response[:]); err != nil {
			return err
		}
		if request != response {
			return errors.New("the response is not what was sent")
		}
		t.exchanges.Add(1)
		select {
		case <-tick.C:
		case <-t.stopping:
			return nil
		}
	}
}

// Broken is how many connections have broken, and why the first has.
func (t *talks) Broken() (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.broken, t.why
}

// Stop has every connection end after the exchange it is in, and waits for that
// until ctx is done.
func (t *talks) Stop(ctx context.Context) (broken int, why error) {
	close(t.stopping)
	release := context.AfterFunc(ctx, t.expire)
	t.end.Wait()
	release()
	return t.Broken()
}

// expire ends everything that waits on the connections.
func (t *talks) expire() {
	for _, c := range t.conns {
		// An error means that the connection is closed.
		_ = c.SetDeadline(time.Unix(1, 0))
	}
}

func (t *talks) abandon() error {
	t.expire()
	select {
	case <-t.stopping:
	default:
		close(t.stopping)
	}
	t.end.Wait()
	var errs []error
	for _, c := range t.conns {
		errs = append(errs, ignoreClosed(c.Close()))
	}
	return errors.Join(errs...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// resent is how many TCP segments the hosts have sent again so far: each stands
// for one that was lost, or was late.
func resent(hosts ...*lab.Host) (total uint64, err error) {
	for _, h := range hosts {
		err := h.Do(func() error {
			text, err := os.ReadFile("/proc/thread-self/net/snmp")
			if err != nil {
				return err
			}
			var names, values []string
			for line := range strings.Lines(string(text)) {
				if fields := strings.Fields(line); len(fields) > 0 && fields[0] == "Tcp:" {
					names, values = values, fields
				}
			}
			i := slices.Index(names, "RetransSegs")
			if i < 0 || i >= len(values) {
				return errors.New("/proc/net/snmp does not say how many segments were sent again")
			}
			n, err := strconv.ParseUint(values[i], 10, 64)
			total += n
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	return total, nil
}
