package peer

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/identity"

	"golang.org/x/sync/semaphore"
)

// Config is what Peers are made of.
type Config struct {
	Identity *identity.Identity
	// Listener is where other nodes connect to. Peers closes it.
	Listener net.Listener
	// Dial connects to another node; nil is TCP. It ends with its context.
	Dial func(context.Context, netip.AddrPort) (net.Conn, error)
	// WireMin and WireMax are the versions of messages that this node speaks.
	WireMin, WireMax int
	// Software is the version of this binary, for others to show.
	Software string
	Log      *slog.Logger
}

// flushTime is how long Close waits for messages that are on their way.
const flushTime = time.Second

// checkEvery is how often sessions are looked after.
const checkEvery = 200 * time.Millisecond

type handler func(ctx context.Context, from string, request []byte) ([]byte, error)

// Peers implements cluster.Peers. It is safe for concurrent use.
type Peers struct {
	cfg   Config
	name  string
	boot  string
	large *semaphore.Weighted // bytes of large requests in memory
	gate  gate
	said  said
	count counts

	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // everything that runs

	mu        sync.RWMutex
	handlers  map[cluster.Topic]handler
	listeners map[cluster.Topic]func(string, []byte)
	up        []func(string)
	remotes   map[string]*remote
	sessions  map[*session]bool
	visits    int // of others
	started   bool
	closed    bool
	unwatch   func()
}

var _ cluster.Peers = (*Peers)(nil)

// New makes the node's end of all connections. Dial works at once; other nodes
// are listened to, and dialed, after Start.
func New(cfg Config) (*Peers, error) {
	switch {
	case cfg.Identity == nil || cfg.Listener == nil || cfg.Log == nil:
		return nil, errors.New("peers need an identity, a listener and a log")
	case cfg.WireMin < 1 || cfg.WireMax < cfg.WireMin:
		return nil, fmt.Errorf("peers cannot speak versions %d to %d", cfg.WireMin, cfg.WireMax)
	}
	if cfg.Dial == nil {
		cfg.Dial = dialTCP
	}
	boot := make([]byte, 8)
	rand.Read(boot)
	p := &Peers{
		cfg: cfg, name: cfg.Identity.Name(), boot: hex.EncodeToString(boot),
		large:    semaphore.NewWeighted(maxLarge),
		handlers: map[cluster.Topic]handler{}, listeners: map[cluster.Topic]func(string, []byte){},
		remotes: map[string]*remote{}, sessions: map[*session]bool{},
	}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	p.wg.Go(p.lookAfter)
	return p, nil
}

// Start begins to take connections of other nodes, and to dial the members.
// Handlers are registered before.
func (p *Peers) Start(members cluster.Members) error {
	p.mu.Lock()
	if p.started || p.closed {
		p.mu.Unlock()
		return errors.New("peers are started once, and not after they are closed")
	}
	p.started = true
	p.wg.Go(p.listenForPeers)
	p.mu.Unlock()
	unwatch := members.Watch(p.follow)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		go unwatch()
		return errors.New("peers are closed")
	}
	p.unwatch = unwatch
	return nil
}

// Close ends all connections. What has been sent has a second to arrive.
func (p *Peers) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.wg.Wait()
		return nil
	}
	p.closed = true
	unwatch := p.unwatch
	open := make([]*session, 0, len(p.sessions))
	for s := range p.sessions {
		if !s.plain() {
			open = append(open, s)
		}
	}
	p.mu.Unlock()
	if unwatch != nil {
		unwatch()
	}
	err := p.cfg.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	until, stop := context.WithTimeout(p.ctx, flushTime)
	defer stop()
	for _, s := range open {
		close(s.finish)
	}
	for _, s := range open {
		s.await(until)
	}
	p.cancel(errClosing)
	p.wg.Wait()
	return err
}

// follow learns who the members are.
func (p *Peers) follow(nodes []cluster.Node) {
	there := map[string]bool{p.name: true}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	for _, n := range nodes {
		if !there[n.Name] {
			there[n.Name] = true
			p.remoteOf(n.Name).member(n)
		}
	}
	for name, r := range p.remotes {
		if !there[name] {
			r.member(cluster.Node{Name: name, State: cluster.Left})
			p.forgetLocked(r)
		}
	}
}

// adopt puts the link of a node that has dialed in force: see remote.adopt.
func (p *Peers) adopt(l *link) (*remote, *session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.remoteOf(l.hello.Node)
	s, err := r.adopt(l)
	return r, s, err
}

// remoteOf is what is known of a node, beginning now when that is nothing. p.mu
// is held, and until something keeps it from being forgotten again.
func (p *Peers) remoteOf(name string) *remote {
	r := p.remotes[name]
	if r == nil {
		r = &remote{p: p, name: name, kick: make(chan struct{}, 1)}
		p.remotes[name] = r
	}
	return r
}

// remote is what is known of a node, nil when that is nothing.
func (p *Peers) remote(name string) *remote {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.remotes[name]
}

// forget forgets a node that is neither connected nor wanted.
func (p *Peers) forget(r *remote) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetLocked(r)
}

func (p *Peers) forgetLocked(r *remote) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.remotes[r.name] == r && !r.wanted && !r.dialing && r.session.Load() == nil {
		delete(p.remotes, r.name)
	}
}

// enter keeps Close waiting until leave is called; it is false after Close.
func (p *Peers) enter() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return false
	}
	p.wg.Add(1)
	return true
}

func (p *Peers) leave() { p.wg.Done() }

// track and untrack keep the sessions that run.
func (p *Peers) track(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions[s] = true
	if s.visitor() {
		p.visits++
	}
}

func (p *Peers) untrack(s *session) {
	p.mu.Lock()
	delete(p.sessions, s)
	if s.visitor() {
		p.visits--
	}
	r := p.remotes[s.name]
	p.mu.Unlock()
	if r != nil {
		r.drop(s)
		p.forget(r)
	}
}

// lookAfter finds sessions on which nothing arrives. When this process itself has
// been kept from running, the other nodes get the time again.
func (p *Peers) lookAfter() {
	t := time.NewTicker(checkEvery)
	defer t.Stop()
	last, resumed := now(), now()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-t.C:
		}
		at := now()
		if at-last > int64(5*checkEvery) {
			resumed = at
		}
		last = at
		p.mu.RLock()
		for s := range p.sessions {
			s.check(time.Duration(at - max(s.link.conn.lastRead.Load(), resumed)))
		}
		p.mu.RUnlock()
	}
}

// Handle is cluster.Peers.Handle.
func (p *Peers) Handle(topic cluster.Topic, f func(ctx context.Context, from string, request []byte) ([]byte, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handlers[topic] = f
}

// Listen is cluster.Peers.Listen.
func (p *Peers) Listen(topic cluster.Topic, f func(from string, message []byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listeners[topic] = f
}

// OnUp is cluster.Peers.OnUp. The funcs of a node are called in order, in a
// goroutine of their own.
func (p *Peers) OnUp(f func(node string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up = append(p.up, f)
}

func (p *Peers) handler(topic []byte) handler {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.handlers[cluster.Topic(topic)]
}

func (p *Peers) listener(topic []byte) func(string, []byte) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.listeners[cluster.Topic(topic)]
}

func (p *Peers) upCalls() []func(string) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.up[:len(p.up):len(p.up)]
}

// Call is cluster.Peers.Call. Errors are cluster.ErrUnreachable,
// cluster.ErrNoHandler, cluster.ErrBacklog, RemoteError for what the handler
// says, and those of ctx.
func (p *Peers) Call(ctx context.Context, node string, topic cluster.Topic, request []byte) ([]byte, error) {
	if err := checkMessage(topic, request); err != nil {
		return nil, err
	}
	s, err := p.sessionWith(node)
	if err != nil {
		return nil, err
	}
	return s.call(ctx, topic, request)
}

// Send is cluster.Peers.Send. The message is copied.
func (p *Peers) Send(node string, topic cluster.Topic, message []byte) error {
	if err := checkMessage(topic, message); err != nil {
		return err
	}
	s, err := p.sessionWith(node)
	if err != nil {
		return err
	}
	return s.send(topic, message)
}

func (p *Peers) sessionWith(node string) (*session, error) {
	r := p.remote(node)
	if r == nil {
		return nil, fmt.Errorf("%w: %q", cluster.ErrUnreachable, node)
	}
	return r.reachable()
}
