package watch

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"

	"fairlead/k8ssync/kube"
)

// The pace of requests, per second: enough for the one node that writes, and a
// bound on what a mistake costs the API server. Watches are not counted.
const (
	requestRate  = 100
	requestBurst = 200
)

// Config is what a Connection is made of.
type Config struct {
	Settings  kube.Settings
	UserAgent string           // by which the API server's log knows us; optional
	REST      *rest.Config     // in place of what Settings say; optional
	Log       *slog.Logger     // optional
	Now       func() time.Time // optional
}

// Connection is the way to one API server, and what is known of it.
type Connection struct {
	log       *slog.Logger
	now       func() time.Time
	transport *transport
	config    *rest.Config
	client    *http.Client

	mu    sync.Mutex
	kinds []*kindState // that are followed
	since time.Time    // that connected has its value
	up    bool
	told  bool    // the log says that it is down
	last  failure // the one that ended the connection, or kept it from coming up
}

// Connect prepares the way to the API server that the settings name, and asks it
// nothing. An error is one of the settings: a file that cannot be read, or that
// names no server.
func Connect(cfg Config) (*Connection, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	load := loader(cfg.Settings)
	if cfg.REST != nil {
		load = func() (*rest.Config, error) { return rest.CopyConfig(cfg.REST), nil }
	}
	routeKlog(cfg.Log)
	t, err := newTransport(load, cfg.UserAgent, cfg.Log, cfg.Now)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: t}
	return &Connection{
		log: cfg.Log, now: cfg.Now, transport: t, client: client, since: cfg.Now(),
		config: &rest.Config{
			Host: t.origin, Transport: t, UserAgent: cfg.UserAgent, QPS: requestRate, Burst: requestBurst,
		},
	}, nil
}

// REST is how requests of any kind are made by this connection. Credentials are
// read again when they change.
func (c *Connection) REST() *rest.Config { return rest.CopyConfig(c.config) }

// HTTP is the client that goes with REST, for constructors that take one.
func (c *Connection) HTTP() *http.Client { return c.client }

// Server is the URL of the API server.
func (c *Connection) Server() string { return c.transport.server() }

// Close lets go of connections that nothing uses any more.
func (c *Connection) Close() { utilnet.CloseIdleConnectionsFor(c.transport.inner()) }

// failure is an answer, or a lack of one, that a watch could not be made of.
type failure struct {
	text string
	code int // HTTP status; 0: there was no answer
}

// kindState is how the watch of one kind of objects is.
type kindState struct {
	name     string // "services", "gateways.gateway.networking.k8s.io"
	rule     string // that RBAC needs
	optional bool
	state    State
	since    time.Time
	failure  failure
	synced   bool
	count    func() int
	returned func() // called when it is watched again after the server was away; it is not to block
}

// follow adds a kind to the status; the function that it returns takes it out.
func (c *Connection) follow(k *kindState) (forget func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k.state, k.since = Connecting, c.now()
	c.kinds = append(c.kinds, k)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i := range c.kinds {
			if c.kinds[i] == k {
				c.kinds = append(c.kinds[:i:i], c.kinds[i+1:]...)
				break
			}
		}
		c.look()
	}
}

// succeeded notes that the API server has answered with objects of the kind.
func (c *Connection) succeeded(k *kindState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn(k, Watching, failure{})
}

// failed notes that it has not, and why.
func (c *Connection) failed(k *kindState, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	state, f := judge(err)
	c.turn(k, state, f)
}

// turn gives a kind another state. The caller holds mu.
func (c *Connection) turn(k *kindState, state State, f failure) {
	changed := k.state != state
	if changed {
		if k.state == Away && state == Watching {
			k.returned()
		}
		k.state, k.since = state, c.now()
	}
	k.failure = f
	if changed {
		switch state {
		case Forbidden:
			c.log.Error("Kubernetes refuses what is needed", "objects", k.name, "error", f.text, "rule", k.rule)
		case Missing:
			level := slog.LevelError
			if k.optional {
				level = slog.LevelInfo
			}
			c.log.Log(context.Background(), level, "Kubernetes does not know a kind of objects; it is asked again", "objects", k.name)
		}
	}
	c.look()
}

// look works out whether there is a connection. The caller holds mu.
func (c *Connection) look() {
	up, last := len(c.kinds) > 0, c.last
	for _, k := range c.kinds {
		switch k.state {
		case Away:
			up, last = false, k.failure
		case Connecting:
			// What is followed since a moment ago says nothing of a connection that stands.
			up = up && c.up
		}
	}
	c.last = last
	if up == c.up && (up || c.told || last.text == "") {
		return
	}
	c.told = !up && last.text != ""
	now := c.now()
	if up {
		c.log.Info("connected to Kubernetes", "server", c.transport.server(), "after", now.Sub(c.since).Round(time.Millisecond))
		c.last = failure{}
	} else if last.text != "" {
		c.log.Error("Kubernetes is away; the node goes on with what it knows", "server", c.transport.server(), "error", last.text, "status", last.code)
	}
	if up != c.up {
		c.up, c.since = up, now
	}
}

// synced notes that all objects of the kind are known.
func (c *Connection) synced(k *kindState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !k.synced {
		k.synced = true
		c.log.Debug("all objects are known", "objects", k.name, "count", k.count())
	}
}
