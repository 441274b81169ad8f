// Package flows lets flows survive the death of a node while pools change, at
// almost no cost.
//
// Where a packet goes whose flow a node knows nothing of follows from tables
// that all nodes have: the *stateless answer*. Of a TCP packet that opens nothing
// it is the backend that the pool's *base* has for it, a table which all nodes
// agree on and which does not change when the pool does. Nodes tell each other
// of the flows alone that the stateless answer would send elsewhere, the
// *exceptions*: while a pool is what its base is made of, there are none. When a
// pool has been another for some time, its base is replaced, in steps (Phase),
// each of which waits until all live nodes know of all flows that the next would
// send elsewhere.
//
// What is guaranteed, and to which flows, is in docs/cluster.md, and is what the
// simulation in this package's tests asserts.
package flows

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"fairlead/cluster"
)

// Topic is that of the messages between nodes.
const Topic cluster.Topic = "flows"

// Defaults of Config.
const (
	DefaultWindow = time.Minute
	DefaultHold   = 5 * time.Minute

	defaultRefresh    = 10 * time.Second
	defaultCoordinate = time.Second
)

const (
	tickEvery = 10 * time.Millisecond
	idleEvery = 250 * time.Millisecond // where there is nobody to tell
	waitWrite = 4096                   // entries that wait to be written
)

// DataPath is what the room needs of the node's data path. Its methods may be
// called by several goroutines at once, each by one at a time.
type DataPath interface {
	// Events appends what has happened to exceptions since the call before, in
	// order, which is everything unless lost. It does not block.
	Events(to []Flow) (flows []Flow, lost bool)
	// Import has the flow table take over a flow. It does not block.
	Import(f *Flow) Outcome
	// Progress is how many flows were taken by Import, and how many of these are
	// in the flow table.
	Progress() (given, taken uint64)
	// Scan calls visit with all exceptions in the flow table, and affinities that
	// are some, by the bases in force when it is called; visit keeps nothing.
	Scan(ctx context.Context, visit func([]Flow)) error
	// Adopt has all workers go by these bases, those of other pools staying what
	// they are. It returns when no worker goes by those before any more.
	Adopt(ctx context.Context, bases []PoolBase) error
	// Pools are the node's pools, and a number that is another when they are.
	Pools() ([]Pool, uint64)
	// Generation is another when flows may be resolved that could not be before.
	Generation() uint64
}

// Config is what a Room is made of.
type Config struct {
	Members  cluster.Members
	Peers    cluster.Peers
	Store    cluster.Store
	DataPath DataPath
	Window   time.Duration // for which a pool is another before its base is replaced; 0: DefaultWindow
	Hold     time.Duration // after the loss of a node for which no base is replaced; 0: DefaultHold
	Log      *slog.Logger

	refresh, coordinate time.Duration
}

// Room keeps nodes in the know of each other's exceptions, from New to Close.
type Room struct {
	cfg     Config
	core    *core
	events  chan func()
	writes  chan write
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	stops   []func()
	told    chan struct{} // closed when all peers have told this node all they know
	warned  map[string]time.Time
}

type write struct {
	key    string
	value  []byte
	remove bool
}

// New makes a room and has it work. It is called before the node joins.
func New(cfg Config) *Room {
	orDefault := func(d *time.Duration, otherwise time.Duration) {
		if *d == 0 {
			*d = otherwise
		}
	}
	orDefault(&cfg.Window, DefaultWindow)
	orDefault(&cfg.Hold, DefaultHold)
	orDefault(&cfg.refresh, defaultRefresh)
	orDefault(&cfg.coordinate, defaultCoordinate)
	r := &Room{
		cfg: cfg, events: make(chan func(), 64), writes: make(chan write, waitWrite),
		told: make(chan struct{}), warned: map[string]time.Time{},
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.core = newCore(cfg.Members.Self().Name, (*surroundings)(r), settings{window: cfg.Window, hold: cfg.Hold, refresh: cfg.refresh, coordinate: cfg.coordinate})
	cfg.Peers.Listen(Topic, func(from string, message []byte) {
		r.wait(func() { r.core.message(from, message) })
	})
	cfg.Peers.Handle(Topic, func(ctx context.Context, _ string, request []byte) (answer []byte, err error) {
		if !r.wait(func() { answer, err = r.core.follower.asked(request) }) {
			return nil, errors.New("the node stops")
		}
		return answer, err
	})
	cfg.Peers.OnUp(func(node string) { r.post(func() { r.core.teller.up(node) }) })
	r.running.Go(r.run)
	r.running.Go(r.write)
	r.stops = []func(){
		cfg.Members.Watch(func(all []cluster.Node) { r.post(func() { r.core.membership(all) }) }),
		cfg.Store.Watch(cluster.DrainPrefix, func(list []cluster.Entry) { r.post(func() { r.core.drain(list) }) }),
		cfg.Store.Watch(cluster.BasePrefix, func(list []cluster.Entry) { r.post(func() { r.core.follower.entries(list) }) }),
	}
	return r
}

// Close ends the room.
func (r *Room) Close() {
	for _, stop := range r.stops {
		stop()
	}
	r.cancel()
	r.running.Wait()
}

// Told is closed when all nodes that are there have told this one of their
// exceptions: from then on it can take over flows of theirs.
func (r *Room) Told() <-chan struct{} { return r.told }

// post has f called by the room's goroutine.
func (r *Room) post(f func()) bool {
	select {
	case r.events <- f:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// wait is post that returns when f has been called.
func (r *Room) wait(f func()) bool {
	done := make(chan struct{})
	if !r.post(func() { f(); close(done) }) {
		return false
	}
	select {
	case <-done:
		return true
	case <-r.ctx.Done():
		return false
	}
}

func (r *Room) run() {
	timer := time.NewTimer(tickEvery)
	defer timer.Stop()
	var flows []Flow
	generation := r.cfg.DataPath.Generation()
	synced, complete := r.cfg.Store.Synced(), false
	for {
		select {
		case <-r.ctx.Done():
			return
		case f := <-r.events:
			f()
			continue
		case <-timer.C:
		}
		var lost bool
		if flows, lost = r.cfg.DataPath.Events(flows[:0]); len(flows) > 0 || lost {
			r.core.teller.observed(flows, lost)
		}
		if now := r.cfg.DataPath.Generation(); now != generation {
			generation = now
			r.core.receiver.generation()
		}
		r.core.tick()
		r.core.coordinator.synced = isClosed(synced)
		if !complete && r.core.coordinator.synced && r.core.receiver.told() {
			complete = true
			close(r.told)
		}
		if len(r.core.members) == 0 {
			timer.Reset(idleEvery)
		} else {
			timer.Reset(tickEvery)
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// write writes entries: that may take as long as the disk does.
func (r *Room) write() {
	for {
		select {
		case <-r.ctx.Done():
			return
		case w := <-r.writes:
			err := error(nil)
			if w.remove {
				err = r.cfg.Store.Delete(w.key)
			} else {
				err = r.cfg.Store.Put(w.key, w.value)
			}
			if err != nil {
				r.cfg.Log.Warn("the base of a pool is not written", "key", w.key, "error", err)
			}
		}
	}
}

// surroundings is the room as the core sees it.
type surroundings Room

func (s *surroundings) now() time.Time { return time.Now() }

func (s *surroundings) send(node string, message []byte) error {
	return s.cfg.Peers.Send(node, Topic, message)
}

func (s *surroundings) put(key string, value []byte) { s.enqueue(write{key: key, value: value}) }

func (s *surroundings) remove(key string) { s.enqueue(write{key: key, remove: true}) }

// enqueue drops what there is no room for: the coordinator comes back to it.
func (s *surroundings) enqueue(w write) {
	select {
	case s.writes <- w:
	default:
	}
}

func (s *surroundings) ask(node string, request []byte) {
	r := (*Room)(s)
	r.running.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, answerWithin)
		defer cancel()
		answer, err := r.cfg.Peers.Call(ctx, node, Topic, request)
		r.post(func() { r.core.coordinator.answered(node, answer, err) })
	})
}

func (s *surroundings) adopt(bases []PoolBase) {
	r := (*Room)(s)
	r.running.Go(func() {
		err := r.cfg.DataPath.Adopt(r.ctx, bases)
		if err != nil { // the next attempt is not to follow at once
			timer := time.NewTimer(time.Second)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.ctx.Done():
			}
		}
		r.post(func() { r.core.follower.adoptedAll(err) })
	})
}

func (s *surroundings) scan() {
	r := (*Room)(s)
	r.running.Go(func() {
		err := r.cfg.DataPath.Scan(r.ctx, func(flows []Flow) {
			r.wait(func() { r.core.teller.found(flows) })
		})
		r.post(func() { r.core.teller.scanned(err) })
	})
}

func (s *surroundings) imports(f *Flow) Outcome { return s.cfg.DataPath.Import(f) }

func (s *surroundings) progress() (given, taken uint64) { return s.cfg.DataPath.Progress() }

func (s *surroundings) pools() ([]Pool, uint64) { return s.cfg.DataPath.Pools() }

// warnEvery is how often the same is said.
const warnEvery = 10 * time.Second

func (s *surroundings) warn(what string, args ...any) {
	now := time.Now()
	if now.Sub(s.warned[what]) < warnEvery {
		return
	}
	s.warned[what] = now
	s.cfg.Log.Warn(what, args...)
}
