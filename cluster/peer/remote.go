package peer

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"fairlead/cluster"
)

// How a node is dialed again.
const (
	courtesy   = time.Second            // that the node whose name comes later leaves the other to dial
	firstRetry = 100 * time.Millisecond // after a failure; it doubles
	lastRetry  = 5 * time.Second
)

// remote is another node: what is known of it, and the session with it.
type remote struct {
	p       *Peers
	name    string
	session atomic.Pointer[session] // that is in force, or nil
	kick    chan struct{}           // something has changed for who dials

	mu      sync.Mutex
	wanted  bool // it is a member that is to be counted on
	dialing bool // somebody sees to it that there is a session
	addr    netip.AddrPort
	key     ed25519.PublicKey // by gossip; nil when it is not known
	started time.Time
	failed  error // why there is no session
}

// member tells what gossip says of the node.
func (r *remote) member(n cluster.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := n.State.Serves() && n.Stream.IsValid()
	changed := wanted != r.wanted || n.Stream != r.addr || !n.Started.Equal(r.started)
	r.wanted, r.addr, r.started, r.key = wanted, n.Stream, n.Started, nil
	if len(n.Key) == ed25519.PublicKeySize && wanted {
		r.key = n.Key
		if s := r.session.Load(); s != nil && !s.link.key.Equal(n.Key) {
			s.end(errOtherKey)
		}
	}
	if changed {
		notify(r.kick)
	}
	if wanted && !r.dialing {
		r.dialing = true
		r.p.wg.Go(r.dial)
	}
}

// keyOf is the key of the node that has the name now, nil when none is known.
func (r *remote) keyOf() ed25519.PublicKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.key != nil {
		return r.key
	}
	if s := r.session.Load(); s != nil && s.ctx.Err() == nil {
		return s.link.key
	}
	return nil
}

// dial keeps a session with the node for as long as it is wanted.
func (r *remote) dial() {
	failures := 0
	for r.p.ctx.Err() == nil {
		r.mu.Lock()
		wanted, addr, key := r.wanted, r.addr, r.key
		if !wanted {
			r.dialing = false
			r.mu.Unlock()
			r.p.forget(r)
			return
		}
		s := r.session.Load()
		r.mu.Unlock()

		if s != nil {
			failures = 0
			select {
			case <-s.ctx.Done():
				r.drop(s)
				r.wait(jitter(firstRetry)) // both sides notice at once
			case <-r.kick:
			case <-r.p.ctx.Done():
			}
			continue
		}
		if failures == 0 && r.p.name > r.name && r.wait(courtesy) {
			continue
		}
		if r.session.Load() != nil {
			continue
		}
		err := r.attempt(addr, key)
		if errors.Is(err, errKnown) { // the other side has been quicker
			r.wait(jitter(firstRetry))
			continue
		}
		if err != nil && r.p.ctx.Err() == nil {
			r.note(err, failures)
			failures++
			if r.wait(jitter(min(lastRetry, firstRetry<<min(failures, 10)))) {
				failures = 0
			}
			continue
		}
		failures = 0
	}
}

// wait waits, unless something changes: then it is true.
func (r *remote) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return false
	case <-r.kick:
		return true
	case <-r.p.ctx.Done():
		return true
	}
}

// jitter is between half of a time and all of it.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// attempt dials once.
func (r *remote) attempt(addr netip.AddrPort, key ed25519.PublicKey) error {
	l, err := r.p.connect(r.p.ctx, r.name, addr, useMember)
	if err != nil {
		return err
	}
	if key != nil && !l.key.Equal(key) {
		l.conn.Close()
		return fmt.Errorf("%s: the node there has another key than the member %q", addr, r.name)
	}
	s, err := r.adopt(l)
	if err != nil {
		l.conn.Close()
		return err
	}
	return r.begin(s)
}

// adopt puts a link in force, unless there is a better one: that of the process
// that runs now, of two such the one that the node has dialed whose name comes
// first, and of two such the later. The session does not run yet.
func (r *remote) adopt(l *link) (*session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.session.Load()
	if old != nil && old.ctx.Err() == nil {
		first := r.p.name < r.name // this node's links are the better ones
		if old.link.hello.Boot == l.hello.Boot && old.link.dialed == first && l.dialed != first {
			return nil, errKnown
		}
		old.end(errReplaced)
	}
	s := r.p.newSession(l)
	r.session.Store(s)
	return s, nil
}

// begin has an adopted session run, and the dialer know of it.
func (r *remote) begin(s *session) error {
	if err := s.start(r.p.upCalls()); err != nil {
		r.drop(s)
		return err
	}
	r.mu.Lock()
	again := r.failed != nil
	r.failed = nil
	r.mu.Unlock()
	notify(r.kick)
	r.p.cfg.Log.Info("connected to a node", "peer", r.name, "address", s.link.conn.RemoteAddr(), "dialed", s.link.dialed, "wire", s.link.wire, "again", again)
	return nil
}

// drop takes an ended session out of force.
func (r *remote) drop(s *session) {
	if !r.session.CompareAndSwap(s, nil) {
		return
	}
	why := s.why()
	r.mu.Lock()
	r.failed = why
	r.mu.Unlock()
	notify(r.kick)
	if !errors.Is(why, errClosing) {
		r.p.cfg.Log.Warn("the connection to a node has ended", "peer", r.name, "reason", why)
	}
}

// note keeps why a node cannot be reached, and says so the first time.
func (r *remote) note(err error, failures int) {
	r.mu.Lock()
	r.failed = err
	r.mu.Unlock()
	r.p.count.failed.Add(1)
	if failures == 0 {
		r.p.cfg.Log.Warn("a node cannot be reached; this goes on being tried", "peer", r.name, "reason", err)
	} else {
		r.p.cfg.Log.Debug("a node cannot be reached", "peer", r.name, "reason", err, "failures", failures+1)
	}
}

// reachable is the session in force.
func (r *remote) reachable() (*session, error) {
	if s := r.session.Load(); s != nil && s.ctx.Err() == nil {
		return s, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed != nil {
		return nil, fmt.Errorf("%w: %q: %w", cluster.ErrUnreachable, r.name, r.failed)
	}
	return nil, fmt.Errorf("%w: %q", cluster.ErrUnreachable, r.name)
}
