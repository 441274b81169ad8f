package peer

import (
	"context"
	"errors"
	"net"
	"time"
)

const (
	maxVisits   = 64
	maxSessions = 2048
)

// listenForPeers takes connections until the listener is closed.
func (p *Peers) listenForPeers() {
	pause := time.Duration(0)
	for {
		c, err := p.cfg.Listener.Accept()
		if err != nil {
			if p.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			// Such as too many open files: it may pass.
			pause = min(max(2*pause, 10*time.Millisecond), time.Second)
			p.cfg.Log.Warn("connections of nodes cannot be taken for the moment", "reason", err)
			select {
			case <-time.After(pause):
				continue
			case <-p.ctx.Done():
				return
			}
		}
		pause = 0
		e := p.gate.enter(c, time.Now())
		if e == nil {
			p.count.refused("rate")
			c.Close()
			continue
		}
		p.wg.Go(func() {
			defer p.gate.leave(e)
			if err := p.take(c); err != nil {
				p.refused(c.RemoteAddr(), err)
				c.Close()
			}
		})
	}
}

// take does the handshakes of a connection and puts it in force.
func (p *Peers) take(c net.Conn) error {
	ctx, cancel := context.WithTimeout(p.ctx, handshakeTime)
	defer cancel()
	conn := watch(c)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	l, err := p.receive(ctx, conn)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("it has not finished the handshake in time")
		}
		if !errors.As(err, new(*refusal)) {
			p.count.refused("handshake")
		}
		return err
	}
	p.mu.RLock()
	visits, sessions := p.visits, len(p.sessions)
	p.mu.RUnlock()
	if sessions >= maxSessions || l.hello.Use == useVisit && visits >= maxVisits {
		return p.refuse(l, refusedBusy, errBusy)
	}
	if l.hello.Use == useVisit {
		if err := p.answer(l); err != nil {
			return err
		}
		if !stop() {
			return ctx.Err()
		}
		return p.newSession(l).start(nil)
	}
	r, s, err := p.adopt(l)
	if err != nil {
		return p.refuse(l, refusedKnown, err)
	}
	if err := p.answer(l); err != nil || !stop() {
		s.end(errors.Join(err, ctx.Err()))
		r.drop(s)
		p.forget(r)
		return s.why()
	}
	p.count.accepted.Add(1)
	return r.begin(s)
}

// refused says that a connection has not been taken: the first time of many from
// one address in a minute aloud.
func (p *Peers) refused(from net.Addr, err error) {
	if p.ctx.Err() != nil {
		return
	}
	why := ""
	var r *refusal
	if errors.As(err, &r) {
		why = r.code + " " + r.node
		if r.code == refusedKnown {
			p.cfg.Log.Debug("a second connection is refused", "peer", r.node)
			return
		}
	}
	if p.said.often(sourceOf(from).String()+" "+why, time.Now()) {
		p.cfg.Log.Debug("a connection is refused", "from", from, "reason", err)
		return
	}
	p.cfg.Log.Warn("a connection is refused", "from", from, "reason", err)
}
