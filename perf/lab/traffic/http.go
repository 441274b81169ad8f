package traffic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"fairlead/perf/lab"
)

// maxBody bounds what the HTTP server echoes and the client reads, in bytes.
const maxBody = 64 << 20

// originHeader carries the origin of an HTTP answer.
const originHeader = "Lab-Origin"

// HTTPServer answers every request with its own name and the client's address
// it sees, in the header Lab-Origin. The body is the request's; a request
// without one gets the origin as a line of text.
type HTTPServer struct {
	server   *http.Server
	ended    chan error
	requests atomic.Uint64
	close    func() error
}

// ServeHTTP starts a server on a host. It listens on address ("198.18.0.9:80",
// ":80") and is closed with the lab.
func ServeHTTP(h *lab.Host, address string) (*HTTPServer, error) {
	ln, err := h.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("http server on %s: %w", h.Name, err)
	}
	s := &HTTPServer{ended: make(chan error, 1)}
	answer := Answer(h.Name)
	s.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		answer.ServeHTTP(w, r)
	}), ReadHeaderTimeout: 30 * time.Second}
	s.close = sync.OnceValue(func() error {
		if err := s.server.Close(); err != nil {
			return err
		}
		if err := <-s.ended; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	go func() { s.ended <- s.server.Serve(ln) }()
	h.Lab().OnClose(s.Close)
	return s, nil
}

// Answer answers as an HTTPServer of that name does.
func Answer(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(name, w, r) })
}

func answer(name string, w http.ResponseWriter, r *http.Request) {
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	from := origin{server: name, client: netip.AddrPortFrom(client.Addr().Unmap(), client.Port())}
	w.Header().Set(originHeader, from.line())
	if len(body) == 0 {
		body = []byte(from.line() + "\n")
	}
	// A client that is gone is the client's to report.
	_, _ = w.Write(body)
}

// Requests is how many requests the server has seen.
func (s *HTTPServer) Requests() uint64 { return s.requests.Load() }

// Close ends the server and its connections.
func (s *HTTPServer) Close() error { return s.close() }

// HTTPLoad is a run of HTTP requests, each on a new connection.
type HTTPLoad struct {
	Target netip.AddrPort
	// Source is the client's address; the zero Addr leaves it to the kernel.
	Source netip.Addr
	// Connections is how many to make in all, Parallel how many at a time.
	Connections, Parallel int
	// BodyBytes, if not 0, is the length of a body that the server must send
	// back unchanged.
	BodyBytes int
	// Timeout is for one request, from connecting on; 0 means 10 seconds.
	Timeout time.Duration
}

// Run makes the requests from a host. Requests that were not begun when ctx
// ended count as failed.
func (l HTTPLoad) Run(ctx context.Context, h *lab.Host) *Tally {
	if l.Timeout == 0 {
		l.Timeout = 10 * time.Second
	}
	transport := &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			// The transport may go on dialling for a request that was given up.
			ctx, cancel := context.WithTimeout(ctx, l.Timeout)
			defer cancel()
			return dial(ctx, h, "tcp", l.Source, l.Target)
		},
	}
	defer transport.CloseIdleConnections()
	t := newTally()
	left := spread(ctx, l.Connections, l.Parallel, func(i int) {
		from, err := l.request(ctx, transport, uint64(i))
		if err != nil {
			t.fail(fmt.Errorf("request %d to %s: %w", i, l.Target, err))
			return
		}
		t.answer(from)
	})
	for range left {
		t.fail(fmt.Errorf("not begun: %w", context.Cause(ctx)))
	}
	return t
}

func (l HTTPLoad) request(ctx context.Context, transport http.RoundTripper, seed uint64) (origin, error) {
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	method, want := http.MethodGet, []byte(nil)
	if l.BodyBytes > 0 {
		method, want = http.MethodPost, make([]byte, l.BodyBytes)
		newPattern(seed).fill(want)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+l.Target.String()+"/", bytes.NewReader(want))
	if err != nil {
		return origin{}, err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return origin{}, err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err != nil {
		return origin{}, err
	}
	if res.StatusCode != http.StatusOK {
		return origin{}, fmt.Errorf("status %s: %s", res.Status, bytes.TrimSpace(got))
	}
	line := res.Header.Get(originHeader)
	if want == nil {
		want = []byte(line + "\n")
	}
	if !bytes.Equal(got, want) {
		return origin{}, fmt.Errorf("body: %w", firstDifference(got, want, 0))
	}
	return parseOrigin(line)
}
