package bfd

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// slowInterval is the least between packets of a session that is not up (RFC
// 5880, section 6.8.3).
const slowInterval = time.Second

// Config is a session.
type Config struct {
	Peer       netip.Addr // with a zone when it is link-local
	Local      netip.Addr // to send from; the zero Addr: by the routing table
	Interval   time.Duration
	Multiplier int
	// Number is the session's own discriminator. A process that comes after
	// another goes on with its sessions by giving them the same numbers.
	Number uint32
	// Resume goes on with the session of an earlier process, if the peer takes it
	// to be up still: nothing is said before it was heard of, or has not been for
	// the detection time.
	Resume bool
	// Changed is told of every change between up and not up, on the session's own
	// goroutine.
	Changed func(up bool, why string)
}

// Status is how a session is.
type Status struct {
	State    State
	Since    time.Time
	Sent     uint64
	Received uint64
	Detect   time.Duration // without a packet for so long, the peer is dead
}

// Session is a session with one router.
type Session struct {
	server *Server
	cfg    Config
	mine   uint32
	in     chan packet
	quit   chan struct{}
	leave  chan time.Duration
	done   chan struct{}
	once   sync.Once

	mu     sync.Mutex // guards status
	status Status

	// What follows is the session's own goroutine's.
	conn      *net.UDPConn // nil while the peer cannot be sent to
	state     State
	diag      diagnostic
	yours     uint32
	resuming  bool
	polling   bool          // a poll sequence is under way
	desiredTX time.Duration // as we say
	remoteRX  time.Duration // the least that the peer wants between our packets
	remoteTX  time.Duration
	mult      uint8 // the peer's
}

func newSession(s *Server, cfg Config, mine uint32) *Session {
	return &Session{
		server: s, cfg: cfg, mine: mine, in: make(chan packet, 16), quit: make(chan struct{}), leave: make(chan time.Duration), done: make(chan struct{}),
		state: Down, resuming: cfg.Resume, desiredTX: max(cfg.Interval, slowInterval), remoteRX: time.Microsecond,
		status: Status{State: Down, Since: time.Now()},
	}
}

// Status is how the session is.
func (s *Session) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Close ends the session. The router is told that this is on purpose, so that it
// draws no conclusion (RFC 5882, section 3.2).
func (s *Session) Close() {
	s.once.Do(func() { close(s.quit) })
	<-s.done
}

// Leave ends the session without a word, for a successor that is to resume it:
// for so long the peer is to wait. It is asked to before (RFC 5880, section
// 6.8.3), if it answers soon.
func (s *Session) Leave(wait time.Duration) {
	select {
	case s.leave <- wait:
	case <-s.done:
	}
	<-s.done
}

// pollFor is how long a peer is waited for that is asked for patience.
const pollFor = 500 * time.Millisecond

// patience asks the peer to take nothing for a sign of death for so long.
func (s *Session) patience(wait time.Duration) {
	if s.state != Up {
		return
	}
	s.desiredTX, s.polling = max(wait/time.Duration(s.cfg.Multiplier), s.desiredTX).Truncate(time.Microsecond), true
	deadline := time.NewTimer(pollFor)
	defer deadline.Stop()
	again := time.NewTicker(pollFor / 10)
	defer again.Stop()
	for s.polling && s.state == Up {
		s.send(false)
		select {
		case p := <-s.in:
			s.receive(&p)
		case <-again.C:
		case <-s.quit:
			return
		case <-deadline.C:
			return
		}
	}
}

// run is the session's life.
func (s *Session) run() {
	send := time.NewTimer(0)
	defer send.Stop()
	if s.resuming {
		send.Reset(time.Duration(s.cfg.Multiplier) * s.cfg.Interval)
	}
	expire := time.NewTimer(time.Hour)
	expire.Stop()
	defer expire.Stop()
	for {
		select {
		case <-send.C:
			s.resuming = false
			s.send(false)
			send.Reset(s.interval())
		case p := <-s.in:
			before, pace := s.state, s.pace()
			s.receive(&p)
			if s.state == Init || s.state == Up {
				expire.Reset(s.detect())
			}
			if p.poll {
				s.send(true)
			}
			if s.state != before || s.pace() < pace {
				s.send(false)
				send.Reset(s.interval())
			}
		case <-expire.C:
			s.yours = 0
			if s.state == Init || s.state == Up {
				s.become(Down, diagExpired, "nothing has come for "+s.detect().String())
			}
		case wait := <-s.leave:
			s.patience(wait)
			s.hangUp()
			return
		case <-s.quit:
			s.state, s.diag, s.polling = AdminDown, diagAdminDown, false
			s.send(false)
			s.hangUp()
			return
		}
	}
}

func (s *Session) hangUp() {
	if s.conn != nil {
		s.conn.Close()
	}
}

// interval is the time to the next packet, with the jitter of RFC 5880, section
// 6.8.7.
func (s *Session) interval() time.Duration {
	return time.Duration(float64(s.pace()) * (0.75 + rand.Float64()*0.25))
}

// pace is the most time between two packets: as we wish, but no faster than the
// peer wants.
func (s *Session) pace() time.Duration { return max(s.desiredTX, s.remoteRX) }

// detect is the detection time (RFC 5880, section 6.8.4).
func (s *Session) detect() time.Duration {
	return time.Duration(s.mult) * max(s.cfg.Interval, s.remoteTX)
}

// receive takes a packet of the peer over (RFC 5880, section 6.8.6).
func (s *Session) receive(p *packet) {
	s.mu.Lock()
	s.status.Received++
	s.mu.Unlock()
	s.yours, s.mult, s.remoteTX = p.mine, p.mult, p.desiredTX
	s.remoteRX = max(p.requireRX, time.Microsecond)
	if p.final {
		s.polling = false
	}
	resuming := s.resuming
	s.resuming = false
	switch {
	case resuming && p.state == Up && p.yours == s.mine:
		s.become(Up, diagNone, "")
	case p.state == AdminDown:
		if s.state != Down {
			s.become(Down, diagNeighborDown, "the peer has ended it")
		}
	case s.state == Down && p.state == Down:
		s.become(Init, diagNone, "")
	case s.state == Down && p.state == Init, s.state == Init && (p.state == Init || p.state == Up):
		s.become(Up, diagNone, "")
	case s.state == Up && p.state == Down:
		s.become(Down, diagNeighborDown, "the peer says it is down")
	}
	s.mu.Lock()
	s.status.Detect = s.detect()
	s.mu.Unlock()
}

// become changes the state. How often packets are wished to be sent changes with
// it, which a poll sequence tells the peer (RFC 5880, section 6.5).
func (s *Session) become(state State, diag diagnostic, why string) {
	before := s.state
	s.state, s.diag = state, diag
	s.mu.Lock()
	s.status.State, s.status.Since = state, time.Now()
	s.mu.Unlock()
	desired := max(s.cfg.Interval, slowInterval)
	if state == Up {
		desired = s.cfg.Interval
	}
	s.polling = state == Up && desired != s.desiredTX
	s.desiredTX = desired
	if (before == Up) != (state == Up) && s.cfg.Changed != nil {
		s.cfg.Changed(state == Up, why)
	}
}

// send sends how the session is; final answers a poll.
func (s *Session) send(final bool) {
	if s.conn == nil {
		conn, err := dial(s.cfg.Peer, s.cfg.Local)
		if err != nil {
			s.server.log.Debug("BFD packets cannot be sent; it is tried again", "peer", s.cfg.Peer, "error", err)
			return
		}
		s.conn = conn
	}
	p := packet{
		state: s.state, diag: s.diag, poll: s.polling && !final, final: final, mult: uint8(s.cfg.Multiplier),
		mine: s.mine, yours: s.yours, desiredTX: s.desiredTX, requireRX: s.cfg.Interval,
	}
	if _, err := s.conn.Write(p.append(make([]byte, 0, packetSize))); err != nil {
		s.server.log.Debug("BFD packet not sent", "peer", s.cfg.Peer, "error", err)
		if !isRefused(err) {
			s.conn.Close() // our address may be gone: the next one is dialled anew
			s.conn = nil
		}
		return
	}
	s.mu.Lock()
	s.status.Sent++
	s.mu.Unlock()
}
