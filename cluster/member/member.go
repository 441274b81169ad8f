// Package member is the membership of the cluster: who is there, who is gone,
// and small messages to all, by gossip (memberlist).
//
// What others are told of a node (its Meta) is signed with the node's key, which
// the cluster's authority vouches for. So who has the gossip key alone can add no
// node, move none and rename none. It can say that one has died, which that node
// refutes.
//
// Nodes find each other by streams, which do not depend on the gossip keys: a node
// asks its seeds, and whom it knew before, for the present keys and for where they
// gossip (hello.go), and goes on doing so for all that are not there (rejoin.go).
package member

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"fairlead/cluster"
)

// Identity is who this node is, and how others prove who they are.
type Identity interface {
	Name() string
	PublicKey() ed25519.PublicKey
	Proof() []byte
	GossipKey() []byte // the first one: 32 bytes
	Sign(context string, message []byte) []byte
	VerifyProof(name string, proof []byte) (ed25519.PublicKey, error)
	Verify(name string, proof []byte, context string, message, signature []byte) error
}

// Dial sends one request to whoever takes streams at an address, a member or not,
// and waits for the answer. from is the name that the other side has proved.
type Dial func(ctx context.Context, stream netip.AddrPort, topic cluster.Topic, request []byte) (from string, answer []byte, err error)

// Config is what Members are made of.
type Config struct {
	Identity Identity
	Dir      string         // where keys and known nodes are kept; "": nowhere
	Listen   netip.AddrPort // of gossip, UDP and TCP; the zero address: all; port 0: a free one
	// Gossip is the address that others reach Listen at; its port may be 0, for
	// that of Listen.
	Gossip netip.AddrPort
	Stream netip.AddrPort // where others reach this node's streams
	Seeds  []Seed
	// ProbeInterval is how often this node probes another one; see settings.
	ProbeInterval time.Duration
	Software      string // version of the binary
	WireMin       int
	WireMax       int
	Log           *slog.Logger

	// What follows is set by tests and simulations.
	Transport memberlist.NodeAwareTransport // in place of UDP and TCP
	Resolve   func(ctx context.Context, host string) ([]netip.Addr, error)
	Now       func() time.Time // wall time, which may jump
	Pace      time.Duration    // between attempts to reach nodes that are not there; 0: the default
}

// Seed is where another node may take streams.
type Seed struct {
	Host string // a name or an address
	Port int
}

// NameTakenError says that another node has this node's name.
type NameTakenError struct {
	Name  string
	Other netip.AddrPort // where it gossips
}

func (e *NameTakenError) Error() string {
	return fmt.Sprintf("another node of the cluster, at %s, has the name %q already: give this one a name of its own ([node] name), or stop the other one", e.Other, e.Name)
}

// Members implements cluster.Members.
type Members struct {
	cfg      Config
	identity Identity
	log      *slog.Logger
	started  time.Time
	epoch    uint64 // of this process: greater than that of any before it
	keys     *keys
	saved    *saved
	guard    *guard
	peers    cluster.Peers // nil before Attach
	dial     Dial
	failed   chan error // at most one
	stop     context.CancelFunc
	running  context.Context
	loops    sync.WaitGroup
	table    table
	spread   spread
	count    counters
	list     *memberlist.Memberlist // nil before Join; never called with a lock held
	close    sync.Once
	lost     atomic.Bool // the name is another node's

	mu        sync.Mutex
	meta      []byte // what others are told of this node, signed
	sequence  uint64 // of meta
	leaving   bool
	joined    bool // has exchanged membership with another node since the start
	receivers map[cluster.Topic]func([]byte)
}

// New opens the ports of gossip; nothing is said or heard there before Join.
func New(cfg Config) (*Members, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Resolve == nil {
		cfg.Resolve = resolve
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Pace == 0 {
		cfg.Pace = defaultPace
	}
	m := &Members{
		cfg: cfg, identity: cfg.Identity, log: cfg.Log, started: cfg.Now().Round(0),
		failed: make(chan error, 1), receivers: map[cluster.Topic]func([]byte){},
	}
	m.running, m.stop = context.WithCancel(context.Background())
	var err error
	if m.saved, err = openSaved(cfg.Dir, cfg.Now, cfg.Log); err != nil {
		return nil, err
	}
	m.epoch = m.saved.epoch()
	if m.keys, err = openKeys(cfg.Dir, cfg.Identity.GossipKey(), cfg.Log); err != nil {
		return nil, err
	}
	if m.guard, err = newGuard(&m.cfg, &m.count, m.log); err != nil {
		return nil, err
	}
	m.spread.init(func() int { return m.table.serving() })
	m.table.init()
	if err := m.sign(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	m.table.put(m.self(), m.Meta())
	return m, nil
}

// Attach says how the node speaks with others by streams, and registers what it
// answers there. It is called once, before Join.
func (m *Members) Attach(peers cluster.Peers, dial Dial) {
	m.peers, m.dial = peers, dial
	m.handle()
}

// Join begins to speak with the others: those found by the seeds, and those that
// were known before. It returns when some are found, or none answers for the
// moment; the search goes on until Close. It fails with NameTakenError when the
// cluster has a node of this name already.
func (m *Members) Join(ctx context.Context) error {
	if m.peers == nil {
		return errors.New("members join by the streams of peers, and have none")
	}
	cfg, err := m.settings()
	if err != nil {
		return err
	}
	m.guard.open()
	if m.list, err = memberlist.Create(cfg); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	if err := m.firstRound(ctx); err != nil {
		return err
	}
	m.loops.Go(m.rejoin)
	m.loops.Go(m.keep)
	return nil
}

// Failed has the reason why this node cannot go on being a member: another node
// has its name, and has had it for longer.
func (m *Members) Failed() <-chan error { return m.failed }

func (m *Members) fail(err error) {
	m.lost.Store(true)
	select {
	case m.failed <- err:
	default:
	}
}

// leaveGrace is how long a node that leaves goes on after it has said so: others
// take over in that time what it has.
const leaveGrace = 700 * time.Millisecond

// Leave says that this node goes, waits until the others have had time to take
// over, and leaves. What is on its way then is not waited for. A node whose name is
// another's says nothing: it would be said of that one.
func (m *Members) Leave(ctx context.Context) error {
	if m.list == nil || m.running.Err() != nil || m.lost.Load() {
		return nil
	}
	m.mu.Lock()
	m.leaving = true
	m.mu.Unlock()
	if err := m.sign(); err != nil {
		return err
	}
	m.table.put(m.self(), m.Meta())
	others := m.table.serving() > 1
	err := m.list.UpdateNode(time.Second)
	if others {
		select {
		case <-time.After(leaveGrace):
		case <-ctx.Done():
		}
	}
	return errors.Join(err, m.list.Leave(time.Second))
}

// Close ends everything at once. Others take this node for dead unless it has
// left.
func (m *Members) Close() error {
	var err error
	m.close.Do(func() {
		m.stop()
		m.guard.cut()
		m.loops.Wait()
		if m.list != nil {
			m.remember()
			err = m.list.Shutdown()
		}
		err = errors.Join(err, m.guard.Shutdown())
		m.table.close()
	})
	return err
}

// Self implements cluster.Members.
func (m *Members) Self() cluster.Node { return m.self() }

func (m *Members) self() cluster.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := cluster.Node{
		Name: m.identity.Name(), Key: m.identity.PublicKey(), Gossip: m.guard.address, Stream: m.cfg.Stream,
		Software: m.cfg.Software, WireMin: m.cfg.WireMin, WireMax: m.cfg.WireMax,
		Started: m.started, State: cluster.Alive, Leaving: m.leaving, Changed: m.started,
	}
	return n
}

// All implements cluster.Members.
func (m *Members) All() []cluster.Node { return m.table.all() }

// Watch implements cluster.Members.
func (m *Members) Watch(f func([]cluster.Node)) (stop func()) { return m.table.watch(f) }

// Meta is what others are told of this node.
func (m *Members) Meta() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.meta
}

// sign makes meta anew from what it says now.
func (m *Members) sign() error {
	n := m.self()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sequence++
	d := description{Node: n, Epoch: m.epoch, Sequence: m.sequence}
	meta, err := d.encode(m.identity)
	if err != nil {
		return err
	}
	m.meta = meta
	return nil
}
