package neighbor

import (
	"hash/fnv"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// probeRivalsEvery is how often a hop is asked whether it is there when there
// are others in its place. With the kernel's own timers it takes that and three
// seconds until targets go another way; on its own the kernel asks every half a
// minute.
const probeRivalsEvery = 2 * time.Second

// way is a path out of one of our interfaces.
type way struct {
	path
	port int
}

// choice is one hop that a target may be reached by.
type choice struct {
	*hop
	weight int // against the others
}

// rank is how good a hop is; less is better.
type rank int

const (
	answers rank = iota // as far as is known
	unknown             // its address is not known yet
	silent              // it does not answer
)

func (h *hop) rank() rank {
	switch {
	case h.lost:
		return silent
	case !h.resolved:
		return unknown
	}
	return answers
}

// choose picks the hop that a target is reached by: of those that answer, the
// one with the highest score. Scores are of the target and the hop alone
// (rendezvous hashing), so targets spread by weight, and those whose hop stays
// do not move when another one fails or comes back. A hop whose address is not
// known yet does not take the place of one that answers: the route has changed,
// and packets go the old way for the moment.
func (r *resolver) choose(t *target) {
	var best *hop
	var score float64
	for _, c := range t.choices {
		s := c.score(t)
		if best == nil || c.rank() < best.rank() || c.rank() == best.rank() && s > score {
			best, score = c.hop, s
		}
	}
	if best.rank() == unknown && t.interim != nil && t.interim.rank() == answers {
		t.hop = t.interim
		return
	}
	r.endInterim(t)
	t.hop = best
}

// score is the choice's weight over an exponentially distributed number made of
// target and hop.
func (c *choice) score(t *target) float64 {
	h := fnv.New64a()
	a, b := t.addr.As16(), c.addr.As16()
	h.Write(a[:])
	h.Write(b[:])
	h.Write([]byte{byte(c.port)})
	x := h.Sum64()
	x ^= x >> 32 // what differs late must tell in the high bits, too
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	uniform := (float64(x>>11) + 0.5) / (1 << 53)
	return float64(c.weight) / -math.Log(uniform)
}

// chooseAll has targets with several ways, and those that wait for the right one
// to be known, choose anew when a hop has been lost or found.
func (r *resolver) chooseAll() {
	if !r.choosing {
		return
	}
	r.choosing = false
	for _, t := range r.targets {
		if len(t.choices) < 2 && t.interim == nil {
			continue
		}
		before := t.hop
		if r.choose(t); t.hop != before {
			r.dirty = true
			r.log.Debug("another way is taken", "address", t.addr, "interface", r.ports[t.hop.port].Interface.Name, "by", t.hop.addr, "before", before.addr)
		}
	}
}

// probeRivals has the kernel ask the hops that others stand beside, when it is
// time to. Those that do not answer are asked by ask.
func (r *resolver) probeRivals(now time.Time) error {
	if r.contested == 0 || now.Before(r.probeDue) {
		return nil
	}
	r.probeDue = now.Add(probeRivalsEvery)
	var list []*hop
	for _, h := range r.hops {
		const asking = unix.NUD_PROBE | unix.NUD_INCOMPLETE | unix.NUD_FAILED
		if h.rivals > 0 && !h.static && r.ports[h.port].index != 0 && h.entry.usable() && h.entry.state&(fixedStates|asking) == 0 {
			list = append(list, h)
		}
	}
	put := func(i int, e *encoder) {
		index, addr := r.ports[list[i/2].port].index, list[i/2].addr
		if i%2 == 0 {
			putProbe(e, index, addr)
		} else {
			putManage(e, index, addr)
		}
	}
	return r.conn.batch(2*len(list), put, func(i int, m *message) {
		if err := m.err(); err != nil && !gone(err) {
			r.log.Debug("a neighbour cannot be probed", "address", list[i/2].addr, "error", err)
		}
	})
}
