package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// DefaultSocket is where a node listens for its command line.
const DefaultSocket = "/run/fairlead/fairlead.sock"

// Config is where and to whom a node answers.
type Config struct {
	Socket  string // path of the Unix socket; empty: none
	Group   string // that may open the socket, by name or number; empty: the node's own
	Access  Access
	TCP     *TCP   // nil: none
	Version string // of the program, for the document
	Log     *slog.Logger
	// Audit has a line for everything that operators have done, so it should not
	// be one that leaves lines out; nil: Log.
	Audit *slog.Logger
}

// Provider is the running node: one small interface for each thing that it can
// be asked for or told.
type Provider interface {
	StatusProvider
	ServiceProvider
	FlowProvider
	PacketProvider
	Profiler
	Explainer
	ConfigProvider
	MetricsServer
	LogLeveler
	Announcer
	WayProvider
	Upgrader
	LogKeeper
	ClusterProvider
	Revoker
	SumProvider
	FactsProvider
	KubernetesProvider
}

// NewRouter registers every endpoint of a node.
func NewRouter(node Provider) *Router {
	r := &Router{}
	registerStatus(r, node)
	registerServices(r, node)
	registerFlows(r, node)
	registerPackets(r, node)
	registerProfile(r, node)
	registerExplain(r, node)
	registerConfig(r, node)
	registerMetrics(r, node)
	registerLogLevel(r, node)
	registerAnnounce(r, node)
	registerWays(r, node)
	registerUpgrade(r, node)
	registerCluster(r, node)
	registerRevoked(r, node)
	registerSums(r, node)
	registerFacts(r, node)
	registerKubernetes(r, node)
	registerDebug(r, node)
	return r
}

// Serve answers until ctx ends.
func Serve(ctx context.Context, c Config, node Provider) error {
	if err := serve(ctx, c, NewRouter(node)); err != nil {
		return fmt.Errorf("admin API: %w", err)
	}
	return nil
}

// serve answers by a router. What it returns when ctx ends is nil, after the
// last handler has returned.
func serve(ctx context.Context, c Config, r *Router) error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	h, err := r.handler(c.Version, c.TCP, c.Log)
	if err != nil {
		return err
	}
	if c.Audit != nil {
		h.audited = c.Audit
	}
	listeners, err := c.open()
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: h, ConnContext: callerOfConn,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
	stopped := context.AfterFunc(ctx, func() { server.Close() })
	defer stopped()
	ended := make(chan error)
	for _, l := range listeners {
		go func() { ended <- server.Serve(l) }()
	}
	var errs []error
	for range listeners {
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			errs = append(errs, err)
			server.Close()
		}
	}
	h.active.Wait() // their connections are closed, and the contexts of their requests have ended
	return errors.Join(errs...)
}

// open opens the listeners: all, or none.
func (c *Config) open() (list []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range list {
				l.Close()
			}
		}
	}()
	counted := &limits{each: make(map[string]int)}
	if c.Socket != "" {
		l, err := listen(c.Socket, c.Group)
		if err != nil {
			return list, err
		}
		list = append(list, &limitedListener{Listener: l, limits: counted, policy: newPolicy(c.Access, c.Log), log: c.Log})
	}
	if c.TCP != nil {
		if err := c.TCP.check(); err != nil {
			return list, err
		}
		certificates, err := newCertificates(*c.TCP, c.Log)
		if err != nil {
			return list, err
		}
		l, err := net.Listen("tcp", c.TCP.Listen)
		if err != nil {
			return list, err
		}
		list = append(list, tls.NewListener(&limitedListener{Listener: l, limits: counted, log: c.Log}, certificates.server()))
	}
	return list, nil
}
