package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"fairlead/perf/lab/traffic"
)

// nameVariable says what the server calls itself; without it, it is the host's
// name.
const nameVariable = "POD_NAME"

// serve answers until the process is asked to end; then it goes on until nobody has
// come for a while, takes no more connections, and ends when those that it has do.
func serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	web := flags.String("http", ":8080", "where HTTP is served; empty: nowhere")
	udp := flags.String("udp", ":8053", "where datagrams are answered; empty: nowhere")
	stream := flags.String("stream", ":8007", "where streams are served; empty: nowhere")
	linger := flags.Duration("linger", 0, "for how long nobody must have come, after SIGTERM, before no more connections are taken")
	unready := flags.Bool("unready", false, "not ready until it is told that it is")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s := server{name: os.Getenv(nameVariable)}
	if s.name == "" {
		host, err := os.Hostname()
		if err != nil {
			return err
		}
		s.name = host
	}
	s.ready.Store(!*unready)
	failed := make(chan error, 1)
	if err := errors.Join(s.serveHTTP(*web, failed), s.serveUDP(*udp), s.serveStream(*stream)); err != nil {
		return err
	}
	fmt.Println("serving as", s.name)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	fmt.Println("ending")
	for before := -1; before != s.came() || s.open.Load() > 0; {
		before = s.came()
		select {
		case err := <-failed:
			return err
		case <-time.After(*linger):
		}
	}
	return s.drain()
}

type server struct {
	name    string
	ready   atomic.Bool
	pages   atomic.Int64 // that were asked for; probes ask for none
	open    atomic.Int64 // connections for HTTP, those of probes among them
	web     *http.Server
	udp     *traffic.UDPServer
	stream  *traffic.StreamServer
	streams net.Listener // of stream
}

// came counts who has come, but for probes and datagrams.
func (s *server) came() int {
	n := int(s.pages.Load())
	if s.stream != nil {
		n += int(s.stream.Accepted())
	}
	return n
}

// serveHTTP answers everything as traffic.HTTPServer does, but for these paths:
// /healthz is 200 while the server is ready, and /ready and /unready make it so.
func (s *server) serveHTTP(address string, failed chan<- error) error {
	if address == "" {
		return nil
	}
	ln, err := listen(address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	answer := traffic.Answer(s.name)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.pages.Add(1)
		answer.ServeHTTP(w, r)
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.ready.Load() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/ready", func(http.ResponseWriter, *http.Request) { s.ready.Store(true) })
	mux.HandleFunc("/unready", func(http.ResponseWriter, *http.Request) { s.ready.Store(false) })
	s.web = &http.Server{Handler: mux, ReadHeaderTimeout: 30 * time.Second, ConnState: s.count}
	go func() {
		if err := s.web.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}()
	return nil
}

// count notes that a connection has begun or ended.
func (s *server) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.open.Add(-1)
	}
}

func (s *server) serveUDP(address string) error {
	if address == "" {
		return nil
	}
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	s.udp, err = traffic.NewUDPServer(s.name, conn.(*net.UDPConn))
	return err
}

func (s *server) serveStream(address string) error {
	if address == "" {
		return nil
	}
	ln, err := listen(address)
	if err != nil {
		return err
	}
	s.streams, s.stream = ln, traffic.NewStreamServer(s.name, ln)
	return nil
}

// drain takes no more connections and returns when those there are have ended.
func (s *server) drain() error {
	if s.web != nil {
		if err := s.web.Shutdown(context.Background()); err != nil {
			return err
		}
	}
	if s.stream != nil {
		if err := errors.Join(s.streams.Close(), s.stream.Wait(context.Background())); err != nil {
			return err
		}
	}
	if s.udp != nil {
		return s.udp.Close()
	}
	return nil
}

// listen makes a listener for plain TCP: no multipath.
func listen(address string) (net.Listener, error) {
	var cfg net.ListenConfig
	cfg.SetMultipathTCP(false)
	return cfg.Listen(context.Background(), "tcp", address)
}
