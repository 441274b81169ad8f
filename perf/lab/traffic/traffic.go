// Package traffic has real servers and clients for the hosts of a lab: HTTP,
// UDP and TCP streams through the hosts' own network stacks. They prove what a
// user would notice: that every answer came, from which server, that it saw the
// client's address, and that every byte was the right one.
//
// Everything runs in the calling process: only the sockets belong to the hosts.
// Clients end when their context does; servers when they, or their lab, are
// closed.
package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"fairlead/perf/lab"
)

// keptErrors is how many of a client's errors a Tally quotes.
const keptErrors = 5

// Tally is what the clients of one run found out.
type Tally struct {
	// Requests is how many were asked, Answers how many were answered rightly.
	Requests, Answers int
	// Retries counts datagrams that were sent again because no answer had come.
	Retries int
	// Moves counts answers that came from another server than the one before,
	// within one flow.
	Moves int
	// ByServer counts answers by the name of the server that gave them.
	ByServer map[string]int
	// Clients counts answers by the client address that the server saw.
	Clients map[netip.Addr]int

	mu     sync.Mutex
	errors []error
	failed int
}

func newTally() *Tally {
	return &Tally{ByServer: map[string]int{}, Clients: map[netip.Addr]int{}}
}

func (t *Tally) answer(from origin) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Requests++
	t.Answers++
	t.ByServer[from.server]++
	t.Clients[from.client.Addr()]++
}

func (t *Tally) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Requests++
	t.failed++
	if len(t.errors) < keptErrors {
		t.errors = append(t.errors, err)
	}
}

func (t *Tally) add(retries, moves int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Retries += retries
	t.Moves += moves
}

// Err is nil when every request was answered rightly; else it says how many
// were not and quotes the first few.
func (t *Tally) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d requests failed, for example: %w", t.failed, t.Requests, errors.Join(t.errors...))
}

// Failed is how many requests were not answered rightly.
func (t *Tally) Failed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// origin is what every server says about an exchange.
type origin struct {
	server string
	client netip.AddrPort // as the server saw it
}

// line is the form in which origins travel: name, space, address.
func (o origin) line() string { return o.server + " " + o.client.String() }

func parseOrigin(line string) (origin, error) {
	server, address, ok := strings.Cut(line, " ")
	if !ok {
		return origin{}, fmt.Errorf("answer %q does not name a server and a client", line)
	}
	client, err := netip.ParseAddrPort(address)
	if err != nil {
		return origin{}, fmt.Errorf("answer %q: %w", line, err)
	}
	return origin{server: server, client: client}, nil
}

// clientAddress is a connection's remote address without the form IPv4
// addresses have in IPv6 sockets.
func clientAddress(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// dial connects from a host, from a source address if one is given.
func dial(ctx context.Context, h *lab.Host, network string, source netip.Addr, target netip.AddrPort) (net.Conn, error) {
	if source.IsValid() {
		return h.DialFrom(ctx, netip.AddrPortFrom(source, 0), network, target.String())
	}
	return h.Dial(ctx, network, target.String())
}

// bound ends what waits on the connection when ctx is done. The returned
// function undoes that.
func bound(ctx context.Context, conn net.Conn) (release func() bool) {
	return context.AfterFunc(ctx, func() {
		// An error means that the connection is closed, so nothing waits.
		_ = conn.SetDeadline(time.Unix(1, 0))
	})
}

// because prefers the context's reason over the error it led to.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return err
}

// spread runs f for 0 to n-1, at most parallel at a time (0: one at a time),
// until ctx is done, and returns how many were not begun.
func spread(ctx context.Context, n, parallel int, f func(i int)) (left int) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range max(1, min(n, parallel)) {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	defer wg.Wait()
	defer close(next)
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			return n - i
		}
	}
	return 0
}
