package metrics

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// maxConnections is how many connections to the TCP address may be open.
const maxConnections = 32

// Server says where metrics are served over TCP.
type Server struct {
	Listen          string // address and port
	TLSCert, TLSKey string // PEM files; empty: plain HTTP
	Handler         http.Handler
}

// Listener is a bound address that is not served yet.
type Listener struct {
	listener net.Listener
	server   *http.Server
}

// Open binds the address, so that a node that cannot does not start.
func Open(s Server) (*Listener, error) {
	var config *tls.Config
	if s.TLSCert != "" {
		if _, err := tls.LoadX509KeyPair(s.TLSCert, s.TLSKey); err != nil {
			return nil, fmt.Errorf("metrics: certificate: %w", err)
		}
		// Read for each connection, so that a renewed certificate is used.
		config = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(s.TLSCert, s.TLSKey)
			return &c, err
		}}
	}
	l, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	l = netutil.LimitListener(l, maxConnections)
	if config != nil {
		l = tls.NewListener(l, config)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.Handler)
	return &Listener{l, &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	}}, nil
}

// Addr is the address that is bound.
func (l *Listener) Addr() net.Addr { return l.listener.Addr() }

// Serve answers until ctx ends.
func (l *Listener) Serve(ctx context.Context) error {
	stopped := context.AfterFunc(ctx, func() { l.server.Close() })
	defer stopped()
	if err := l.server.Serve(l.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// Close gives the address back when Serve is never called.
func (l *Listener) Close() error { return l.listener.Close() }
