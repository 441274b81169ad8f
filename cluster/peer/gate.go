package peer

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits of connections on which nobody has proved anything yet. Handshakes of
// nodes take some milliseconds; so when there are too many, the oldest goes, and
// it is hardly ever one of a node.
const (
	maxPending     = 256 // at once
	maxPendingFrom = 64  // of them from one address
	rateFrom       = 50  // from one address, per second
	burstFrom      = 200 // from one address, at once
	maxSources     = 4096
)

// gate limits what has not proved yet who it is.
type gate struct {
	mu      sync.Mutex
	pending []*entrant // the oldest first
	sources map[netip.Prefix]*source
}

// entrant is a connection in its handshake.
type entrant struct {
	conn net.Conn
	from netip.Prefix
}

// source is an address with the tokens it has left.
type source struct {
	tokens float64
	at     time.Time
}

// enter lets a connection in. It is nil when the address has tried too often.
func (g *gate) enter(c net.Conn, at time.Time) *entrant {
	e := &entrant{c, sourceOf(c.RemoteAddr())}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.spend(e.from, at) {
		return nil
	}
	same := 0
	for _, o := range g.pending {
		if o.from == e.from {
			same++
		}
	}
	if same >= maxPendingFrom || len(g.pending) >= maxPending {
		for i, o := range g.pending {
			if same < maxPendingFrom || o.from == e.from {
				o.conn.Close() // its owner notices, and leaves
				g.pending = append(g.pending[:i], g.pending[i+1:]...)
				break
			}
		}
	}
	g.pending = append(g.pending, e)
	return e
}

// leave ends a handshake, whatever it came to.
func (g *gate) leave(e *entrant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, o := range g.pending {
		if o == e {
			g.pending = append(g.pending[:i], g.pending[i+1:]...)
			return
		}
	}
}

func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.pending)
}

// spend takes one token of an address.
func (g *gate) spend(from netip.Prefix, at time.Time) bool {
	if g.sources == nil {
		g.sources = map[netip.Prefix]*source{}
	}
	s := g.sources[from]
	if s == nil {
		if len(g.sources) >= maxSources {
			g.forget(at)
		}
		s = &source{tokens: burstFrom, at: at}
		g.sources[from] = s
	}
	s.tokens = min(burstFrom, s.tokens+at.Sub(s.at).Seconds()*rateFrom)
	s.at = at
	if s.tokens < 1 {
		return false
	}
	s.tokens--
	return true
}

// forget forgets addresses that have all their tokens again, and when there are
// none such, all.
func (g *gate) forget(at time.Time) {
	for from, s := range g.sources {
		if s.tokens+at.Sub(s.at).Seconds()*rateFrom >= burstFrom {
			delete(g.sources, from)
		}
	}
	if len(g.sources) >= maxSources {
		clear(g.sources)
	}
}

// sourceOf is an IPv4 address, or the /64 of an IPv6 address: what one host has.
// What has no address is one source together.
func sourceOf(a net.Addr) netip.Prefix {
	if a == nil {
		return netip.Prefix{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{}
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return netip.PrefixFrom(ip, 32)
	}
	p, err := ip.Prefix(64)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
