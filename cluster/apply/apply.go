// Package apply keeps what all nodes are to do the same on all of them: services,
// pools and VIPs, and what operators have set of backends.
//
// A change is made in two steps. The node that an operator speaks to asks every
// node it reaches to prepare it: each one merges it with what it has of its own,
// validates and compiles all of it, and answers whether it could be put in force.
// Only when nobody refuses is it put in force on this node and written to what all
// share; from there every node adopts it, also those that were not reached. There
// is no consensus: both halves of a partition take changes, and the later one
// holds everywhere when they meet again. A node whose change has been replaced
// without knowledge of it says so.
package apply

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"fairlead/cluster"
)

// The sources of what is shared, as the rest of the control plane calls them.
const (
	// SourceFile is what nodes' files declare of what is shared. It lies under
	// the key "file".
	SourceFile = "cluster"
	// SourceAPI is what operators send to the admin API.
	SourceAPI = "api"
)

// sources are those that are shared, and the keys they lie under.
var sources = []struct{ name, key string }{
	{SourceAPI, cluster.DesiredPrefix + "api"},
	{SourceFile, cluster.DesiredPrefix + "file"},
}

func keyOf(source string) string {
	for _, s := range sources {
		if s.name == source {
			return s.key
		}
	}
	return cluster.DesiredPrefix + source
}

// Local is the desired state of this node. Its methods are called from any
// goroutine.
type Local interface {
	// Shared are the contents that are in force here, by source.
	Shared() map[string]Content
	// Pending is until when a change waits here to be confirmed, the zero time
	// when none does.
	Pending() time.Time
	// Try finds out whether contents of sources could be put in force together
	// with everything else that the node has: all of it is validated and
	// compiled. unknown are keys in them that this software does not know.
	Try(contents map[string]Content) (unknown []string, err error)
	// Adopt puts contents in force. It is all or nothing.
	Adopt(contents map[string]Content, how Adoption) error
	// Unknown are the keys in a content that this software does not know.
	Unknown(source string, c Content) []string
	// Settings are what operators have set of backends, by pool/endpoint.
	Settings() map[string][]byte
	// AdoptSettings makes these the ones to go by. Those of backends that nobody
	// declares are left out.
	AdoptSettings(settings map[string][]byte) error
}

// Adoption is how a change came to be that is put in force here as elsewhere.
type Adoption struct {
	Origin  string // the node that it was made on
	User    string
	Comment string
	// Until is when it is undone unless it is confirmed; the zero time: it stays.
	Until time.Time
}

// Config is what a node's part is made of.
type Config struct {
	Members cluster.Members
	Peers   cluster.Peers
	Store   cluster.Store
	Local   Local
	// File is what the node's own file declares of what is shared. It is called
	// when Run begins; FileRead tells of later ones. Optional.
	File func() Content
	// HashSeed stands for the seed of the node's hashes: it must be the same on
	// all nodes.
	HashSeed string
	// PublishFile shares what the node's file declares, when it was changed while
	// the node was stopped and nobody else has changed anything since: over is what
	// all share until then (Change.Over). nil: it is left to a reload.
	PublishFile func(ctx context.Context, over cluster.Version) error

	Log *slog.Logger     // optional
	Now func() time.Time // optional

	// SyncWithin is how long a node that has not found others yet waits before it
	// goes on alone; 0: syncWithin.
	SyncWithin time.Duration
}

// How long things take, and wait.
const (
	syncWithin      = 15 * time.Second
	prepareWithin   = 90 * time.Second // a large node is compiled
	reservePatience = 2 * time.Second  // for another change to be over
	retryLeast      = time.Second
	retryMost       = 30 * time.Second
	reclaimAfter    = 300 * time.Millisecond // for each node that comes before this one
	strangerGrace   = 3 * time.Second        // for which a node keeps what nobody else seems to have
	undoneGrace     = 500 * time.Millisecond // in which a node undoes a change by itself
)

// The topics.
const (
	topicPrepare = cluster.Topic("apply/prepare")
	topicRelease = cluster.Topic("apply/release")
	topicGoesOn  = cluster.Topic("apply/goes-on")
)

// Apply is a node's part.
type Apply struct {
	cfg  Config
	self string
	log  *slog.Logger
	now  func() time.Time

	changing chan struct{} // holds a token while an operator's change is being made
	wake     chan struct{}

	reserving reservation
	making    making

	mu       sync.Mutex // held while anything is put in force
	began    time.Time  // when that was so
	ready    bool       // what the others have is known, or there is nobody
	seen     map[string]version
	file     Content
	memory   memory
	retry    backoff
	refused  string               // why what is shared is not in force here
	unset    string               // why settings that are shared are not
	unknown  map[string]ignored   // by source: keys of what is in force that this software does not know
	emptied  bool                 // the file has declared something and no longer does
	mismatch string               // of hash seeds
	lost     map[string]version   // replaced by what a node began with
	reclaim  map[string]time.Time // when it is taken back

	running sync.WaitGroup
	status  status
}

// ignored are the keys of a text that this software does not know.
type ignored struct {
	text string
	keys []string
}

// version is what is known of a source's entry.
type version struct {
	entry cluster.Entry
	doc   *Document // nil: it cannot be read
	err   error
}

// New makes a node's part. It is called before the node joins; Run does the work.
func New(cfg Config) *Apply {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.SyncWithin == 0 {
		cfg.SyncWithin = syncWithin
	}
	a := &Apply{
		cfg: cfg, self: cfg.Members.Self().Name, log: cfg.Log, now: cfg.Now,
		changing: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		seen: map[string]version{}, unknown: map[string]ignored{}, lost: map[string]version{}, reclaim: map[string]time.Time{},
	}
	a.status.now = cfg.Now
	cfg.Peers.Handle(topicPrepare, a.prepared)
	cfg.Peers.Listen(topicRelease, a.released)
	cfg.Peers.Handle(topicGoesOn, a.goesOn)
	return a
}

// Run keeps this node at what all share, until ctx ends.
func (a *Apply) Run(ctx context.Context) {
	if a.cfg.File != nil {
		a.mu.Lock()
		a.file = a.cfg.File()
		a.mu.Unlock()
	}
	var stops []func()
	for _, prefix := range []string{cluster.DesiredPrefix, cluster.SettingPrefix, cluster.LivePrefix} {
		prefix := prefix
		stops = append(stops, a.cfg.Store.Watch(prefix, func(batch []cluster.Entry) {
			if prefix != cluster.LivePrefix || ofApply(batch) {
				a.look()
			}
		}))
	}
	defer func() {
		for _, stop := range stops {
			stop()
		}
		a.running.Wait()
	}()
	if !a.sync(ctx) {
		return
	}
	for {
		next := a.round(ctx)
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-a.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// look has Run look at what is shared.
func (a *Apply) look() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// sync waits until it is known what the others have.
func (a *Apply) sync(ctx context.Context) bool {
	alone := time.NewTimer(a.cfg.SyncWithin)
	defer alone.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-a.cfg.Store.Synced():
	case <-alone.C:
		a.log.Warn("no other node has been reached; this one goes on with what it has")
	}
	return true
}

// ErrNotSynced says that a node does not know yet what the others have.
var ErrNotSynced = errors.New("the node has just started and does not know yet what the other nodes have; try again in a few seconds")

// backoff is how long what has failed waits.
type backoff struct {
	wait time.Duration
	next time.Time
}

func (b *backoff) failed(now time.Time) {
	b.wait = min(max(2*b.wait, retryLeast), retryMost)
	b.next = now.Add(b.wait)
}

func (b *backoff) clear() { *b = backoff{} }
