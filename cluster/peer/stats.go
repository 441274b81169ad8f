package peer

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Stats is what Peers count, since the start.
type Stats struct {
	Connections []Connection // with members, by name
	Missing     []Missing    // members that there is no connection with, by name
	Handshakes  int          // of others, under way
	Accepted    uint64       // connections that were taken
	Failed      uint64       // attempts to connect
	// Refused are connections that were not taken: "rate" (too many from one
	// address), "handshake" (no proof, no hello, or too slow), "version", "taken"
	// (a name), "known" (there is a better one), "self", "busy", "bad".
	Refused        map[string]uint64
	UnknownTopics  uint64 // messages and calls of topics that this node does not know
	UnknownFrames  uint64 // of kinds that this node does not know
	UnknownStreams uint64
}

// Connection is one that stands.
type Connection struct {
	Node     string
	Address  string // of the other end
	Dialed   bool   // by this node
	Since    time.Time
	Wire     int // version that both speak
	Software string

	Sent, Received           uint64 // messages
	SentBytes, ReceivedBytes uint64 // of everything, encrypted
	Waiting                  int    // bytes of messages that are not sent yet
}

// Missing is a connection that does not stand and should.
type Missing struct {
	Node   string
	Reason string // why not; "" when it has not been tried yet
}

type counts struct {
	accepted, failed                             atomic.Uint64
	unknownTopics, unknownFrames, unknownStreams atomic.Uint64

	mu      sync.Mutex
	refuses map[string]uint64
}

func (c *counts) refused(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuses == nil {
		c.refuses = map[string]uint64{}
	}
	c.refuses[why]++
}

// Stats is what has been counted.
func (p *Peers) Stats() Stats {
	out := Stats{
		Handshakes: p.gate.waiting(), Accepted: p.count.accepted.Load(), Failed: p.count.failed.Load(),
		UnknownTopics: p.count.unknownTopics.Load(), UnknownFrames: p.count.unknownFrames.Load(),
		UnknownStreams: p.count.unknownStreams.Load(), Refused: map[string]uint64{},
	}
	p.count.mu.Lock()
	for why, n := range p.count.refuses {
		out.Refused[why] = n
	}
	p.count.mu.Unlock()
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, r := range p.remotes {
		s := r.session.Load()
		if s == nil || s.ctx.Err() != nil {
			if m, missing := r.missing(); missing {
				out.Missing = append(out.Missing, m)
			}
			continue
		}
		sent, waiting := s.out.state()
		out.Connections = append(out.Connections, Connection{
			Node: s.name, Address: s.link.conn.RemoteAddr().String(), Dialed: s.link.dialed, Since: s.since,
			Wire: s.link.wire, Software: s.link.hello.Software,
			Sent: sent, Received: s.received.Load(),
			SentBytes: s.link.conn.written.Load(), ReceivedBytes: s.link.conn.read.Load(), Waiting: waiting,
		})
	}
	slices.SortFunc(out.Missing, func(a, b Missing) int { return cmp.Compare(a.Node, b.Node) })
	slices.SortFunc(out.Connections, func(a, b Connection) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

func (r *remote) missing() (m Missing, missing bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.Node = r.name
	if r.failed != nil {
		m.Reason = r.failed.Error()
	}
	return m, r.wanted
}
