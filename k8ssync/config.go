package k8ssync

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/election"
	"fairlead/k8ssync/gateway"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/report"
	"fairlead/k8ssync/translate"
	"fairlead/k8ssync/watch"
)

// Config is what a Sync is made of.
type Config struct {
	Settings  kube.Settings
	Sink      kube.Sink
	Fellows   kube.Fellows // the nodes of Fairlead's cluster, this one among them
	UserAgent string
	REST      *rest.Config // in place of what Settings say of the API server; optional
	// Observe is told of every change that has come into force. Optional.
	Observe func(Observation)
	Log     *slog.Logger     // optional
	Now     func() time.Time // optional
}

// Observation is how long a change of one object has taken until the data path
// went by it.
type Observation struct {
	Key kube.Key
	// Event is the time since this node learned of the change, Trigger since it has
	// happened in Kubernetes, by what the EndpointSlice says; 0: it does not say.
	Event, Trigger time.Duration
}

// Sync keeps a node in step with a Kubernetes cluster.
type Sync struct {
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	conn    *watch.Connection
	objects *Objects
	dirty   *dirty
	nodes   atomic.Pointer[translate.Nodes]
	holdFor time.Duration
	inForce chan struct{} // closed when everything is in force for the first time

	routes       *gateway.Room // nil when the Gateway API is not served
	nodesChanged atomic.Bool
	publisher    *report.Publisher // nil before Run
	election     *election.Election
	leader       atomic.Pointer[leader] // nil: this node does not write
	failures     atomic.Uint64          // of writing

	mu       sync.Mutex // guards what follows, which Run's loop alone changes
	entries  map[kube.Key]*entry
	refused  map[string]Refusal
	held     *held
	syncedAt time.Time
	through  versions
	applied  time.Time // when something was put in force last
	failing  string    // why nothing can be put in force; mostly ""
	batches  uint64
	version  string // of the API server; "": not known
	pending  int    // objects that the sink has not taken yet
}

// versions are how far what is in force has come.
type versions struct{ services, gateways string }

// entry is an object of which the sink has groups.
type entry struct {
	// groups are those that the sink was given last, by name; nil: one that is
	// remembered from before this process, and not known otherwise.
	groups map[string]*model.Group
}

// refresh is how often it is looked at whether the sink has changed its mind of
// groups, and whether there is news for the other nodes.
const refresh = time.Second

const defaultResync = 10 * time.Minute

// New prepares everything; nothing is asked of the API server before Run. Its
// error is one of the settings.
func New(cfg Config) (*Sync, error) {
	if cfg.Sink == nil {
		return nil, errors.New("k8ssync: there is nothing to put what Kubernetes wants in force")
	}
	if cfg.Fellows == nil {
		return nil, errors.New("k8ssync: who the nodes of Fairlead are is not known")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Settings.Resync <= 0 {
		cfg.Settings.Resync = defaultResync
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Observation) {}
	}
	s := &Sync{cfg: cfg, log: cfg.Log, now: cfg.Now, dirty: newDirty(), holdFor: holdFor, inForce: make(chan struct{}), entries: map[kube.Key]*entry{}}
	var err error
	s.conn, err = watch.Connect(watch.Config{Settings: cfg.Settings, UserAgent: cfg.UserAgent, REST: cfg.REST, Log: cfg.Log, Now: cfg.Now})
	if err != nil {
		return nil, err
	}
	if s.objects, err = newObjects(s.conn, &cfg.Settings); err != nil {
		return nil, err
	}
	if s.routes, err = s.newRoutes(); err != nil {
		return nil, err
	}
	if s.election, err = s.newElection(); err != nil {
		return nil, err
	}
	return s, nil
}

// Connection is the way to the API server, for those who write.
func (s *Sync) Connection() *watch.Connection { return s.conn }

// Objects are the copies that the node has.
func (s *Sync) Objects() *Objects { return s.objects }
