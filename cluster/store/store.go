// Package store is what all nodes share: entries under keys, signed by who wrote
// them. Small ones are gossiped as they are written, and nodes compare digests of
// what they have, so that all come to have the same, whatever was lost on the
// way. It implements cluster.Store.
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/clock"
)

// topic is that of all messages, by gossip and between peers.
const topic cluster.Topic = "store"

// Defaults of Config.
const (
	DefaultInterval      = 10 * time.Second
	DefaultTombstoneKept = 30 * 24 * time.Hour
	DefaultLiveKept      = 5 * time.Minute
	DefaultMaxEntries    = 500_000
	DefaultMaxBytes      = 1 << 30
)

// liveTombstoneKept is how long a tombstone of something live is kept: longer than
// any node keeps what a dead one had.
const liveTombstoneKept = time.Hour

// Config is what a store is made of.
type Config struct {
	Dir      string // where it keeps what it has; "": nowhere
	Identity Identity
	Members  cluster.Members
	Peers    cluster.Peers
	Log      *slog.Logger // nil: none is written

	Interval      time.Duration // between two comparisons with another node
	TombstoneKept time.Duration // for how long what was deleted is remembered
	LiveKept      time.Duration // for how long what a node has under cluster.LivePrefix outlives it
	MaxEntries    int           // tombstones among them
	MaxBytes      int           // of all entries
	ClockLimit    time.Duration // how far the clocks of nodes may be apart

	// Joined is closed when the node has looked for others: who is not there then is
	// not waited for. nil: it is looking for some seconds after Open.
	Joined <-chan struct{}

	Wall func() time.Time     // nil: time.Now
	Mono func() time.Duration // nil: since the store was opened

	folder   folder // for tests
	leastLog int64  // for tests: see defaultLeast
}

func (c *Config) defaults() {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	set(&c.Interval, DefaultInterval)
	set(&c.TombstoneKept, DefaultTombstoneKept)
	set(&c.LiveKept, DefaultLiveKept)
	set(&c.MaxEntries, DefaultMaxEntries)
	set(&c.MaxBytes, DefaultMaxBytes)
}

func set[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Store implements cluster.Store. It is safe for concurrent use. Values that it
// gives are not to be changed.
type Store struct {
	cfg      Config
	identity Identity
	clock    *clock.Clock
	watchers *watchers
	grumble  *complaints
	requests chan *request
	incoming chan []byte // gossip
	relays   chan relayed
	fetches  chan *item // without their values
	wake     chan struct{}
	serving  chan struct{} // one for each large value that is being sent
	synced   chan struct{}
	opened   time.Time

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu        sync.Mutex
	table     *table
	id        storeID
	seq       uint64 // of what has come last and is in the table
	equals    history
	mine      map[string]bool            // keys of this node alone, written since the start
	floor     map[string]cluster.Version // of such keys: others have had this
	reclaim   map[string]bool            // of such keys: to be written again
	fetching  map[string]*item           // by key: the last that was announced
	gone      map[string]bool            // nodes whose live entries are not kept
	absent    map[string]time.Time       // since when nodes with live entries are not there
	ups       []string                   // nodes to be compared with soon
	comparing string                     // the node that is compared with now
	sessions  map[string]time.Time       // of nodes that compare themselves with this one: the last request
	yields    bool                       // that one compares itself with this one, and goes first
	unsaved   error                      // why not all is on disk
	gossiped  allowance                  // of what was relayed
	stats     Stats
}

var _ cluster.Store = (*Store)(nil)

// Errors of writing.
var (
	ErrClosed = errors.New("the shared state is closed")
	// ErrNotStored says that an entry could not be written to disk, and that
	// nothing was changed.
	ErrNotStored = errors.New("the shared state cannot be stored")
)

// Open gives a store with what is in its directory. Members and Peers deliver to
// it from now on.
func Open(c Config) (*Store, error) {
	c.defaults()
	s := &Store{
		cfg: c, identity: c.Identity, watchers: newWatchers(),
		clock:    clock.New(clock.Config{Writer: c.Identity.Name(), Limit: c.ClockLimit, Wall: c.Wall, Mono: c.Mono}),
		grumble:  &complaints{log: c.Log, state: map[Reason]*complaint{}},
		requests: make(chan *request, 256), incoming: make(chan []byte, 4096), relays: make(chan relayed, 4096), fetches: make(chan *item, 1024),
		wake: make(chan struct{}, 1), serving: make(chan struct{}, maxServing), synced: make(chan struct{}), opened: time.Now(),
		table: newTable(), mine: map[string]bool{}, floor: map[string]cluster.Version{}, reclaim: map[string]bool{},
		fetching: map[string]*item{}, sessions: map[string]time.Time{}, gone: map[string]bool{}, absent: map[string]time.Time{},
	}
	s.stats.Refused = map[Reason]uint64{}
	f, err := s.openFolder()
	if err != nil {
		return nil, fmt.Errorf("the shared state: %w", err)
	}
	d, have, err := openDisk(f, c.Log)
	if err == nil {
		err = s.load(d, have)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the shared state: %w", err), f.Close())
	}
	if c.leastLog > 0 {
		d.least = c.leastLog
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	c.Members.Receive(topic, s.receive)
	c.Peers.Handle(topic, s.serve)
	c.Peers.OnUp(s.up)
	c.Peers.Listen(topicRelay, s.takeRelay)
	s.running.Go(func() { s.commit(d) })
	s.running.Go(s.read)
	s.running.Go(func() { s.readRelays(s.ctx) })
	s.running.Go(s.reconcile)
	s.running.Go(s.keep)
	for range fetchers {
		s.running.Go(s.fetch)
	}
	return s, nil
}

func (s *Store) openFolder() (folder, error) {
	switch {
	case s.cfg.folder != nil:
		return s.cfg.folder, nil
	case s.cfg.Dir == "":
		return nowhere{}, nil
	}
	return openDirectory(s.cfg.Dir, lockPatience)
}

// load takes over what is on disk.
func (s *Store) load(d *disk, have *contents) error {
	if have.damaged {
		have.id = newStoreID()
	}
	s.id, s.seq, s.equals = have.id, have.seq, have.equals
	s.clock.Observe(have.last)
	for _, it := range have.items {
		if ownerOf(it.Key) == "" {
			s.clock.Observe(it.Version)
		}
		s.table.set(it)
	}
	s.sweep()
	if d.file != nil {
		return nil
	}
	if err := d.begin(s.contents(), s.durable); err != nil {
		s.unsaved = err
		s.cfg.Log.Error("the shared state cannot be stored: what is changed on this node is refused", "error", err)
	}
	return nil
}

// contents is what a snapshot says besides its items.
func (s *Store) contents() *contents {
	return &contents{id: s.id, equals: s.equals, last: s.clock.Last()}
}

// durable calls f with what is kept on disk.
func (s *Store) durable(f func(*item)) {
	s.table.each(func(it *item) {
		if !live(it.Key) {
			f(it)
		}
	})
}

// Close ends the store. What was put is on disk.
func (s *Store) Close() error {
	s.cancel()
	s.running.Wait()
	s.watchers.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsaved != nil {
		return fmt.Errorf("%w: %w", ErrNotStored, s.unsaved)
	}
	return nil
}

// Put implements cluster.Store. It fails, and changes nothing, when the key is
// another node's, when key or value are too long, with ErrNotStored when it cannot
// be stored, and with a *clock.SkewError when this node's clock is wrong.
func (s *Store) Put(key string, value []byte) error {
	if len(value) > MaxValue {
		return fmt.Errorf("a value of %d bytes under %q: want at most %d", len(value), key, MaxValue)
	}
	return s.write(&request{key: key, value: bytes.Clone(value)})
}

// Delete implements cluster.Store. It fails as Put does.
func (s *Store) Delete(key string) error {
	return s.write(&request{key: key, deleted: true})
}

func (s *Store) write(r *request) error {
	if err := checkKey(r.key); err != nil {
		return err
	}
	if owner := ownerOf(r.key); owner != "" && owner != s.identity.Name() {
		return fmt.Errorf("%q is for node %q alone to write", r.key, owner)
	}
	if s.ctx.Err() != nil {
		return ErrClosed
	}
	if live(r.key) {
		s.mu.Lock()
		it, err := s.stage(r, s.table.get(r.key))
		if it != nil {
			s.put(it)
		}
		s.mu.Unlock()
		if it != nil {
			s.publish(it)
		}
		return err
	}
	r.kind = requestWrite
	return s.ask(r)
}

// Get implements cluster.Store.
func (s *Store) Get(key string) (cluster.Entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.table.get(key)
	if it == nil || it.Deleted {
		return cluster.Entry{}, false
	}
	return it.Entry, true
}

// List implements cluster.Store.
func (s *Store) List(prefix string) []cluster.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list(prefix)
}

func (s *Store) list(prefix string) []cluster.Entry {
	var out []cluster.Entry
	for _, it := range s.table.list(prefix) {
		out = append(out, it.Entry)
	}
	return out
}

// Watch implements cluster.Store. Of several changes of one key that f has not
// been called with, it sees the last one alone. stop does not wait for a call
// that is under way. An entry that is forgotten, because its node is dead or it
// has come back from the past, is seen as a tombstone.
func (s *Store) Watch(prefix string, f func([]cluster.Entry)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watchers.add(prefix, s.list(prefix), f)
}

// Synced implements cluster.Store.
func (s *Store) Synced() <-chan struct{} { return s.synced }
