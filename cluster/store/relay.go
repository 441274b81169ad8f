package store

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"fairlead/cluster"
)

// What is written reaches the others over streams: at once, however much is written,
// and each node once. With few nodes the writer sends it to all; with many, to some
// of them, with the names of those that they pass it on to, so that nobody sends it
// to more than about twice the square root of their number. What is lost on the way,
// as with a node that has just died, is found by gossip, which goes along while little
// is written, and by comparing.
const topicRelay cluster.Topic = "store/relay"

const (
	relayAll  = 8        // nodes that a writer sends to by itself
	relayMost = 32 << 10 // bytes of an entry; larger ones are fetched

	// So many entries are gossiped besides being relayed: in a second in the long
	// run, and at once.
	gossipRate  = 10
	gossipBurst = 50
)

// relayed is an entry that came from a peer, and whom it is to be passed on to.
type relayed struct {
	from    string
	message []byte
}

// Fields of a relay.
const (
	relayEntry = 1 // as it is gossiped
	relayTo    = 2 // a node to pass it on to
)

func appendRelay(entry []byte, to []string) []byte {
	m := appendBytes(frame(kindRelay), relayEntry, entry)
	for _, name := range to {
		m = appendString(m, relayTo, name)
	}
	return m
}

func readRelay(m []byte) (entry []byte, to []string, err error) {
	k, body, err := open(m)
	if err != nil {
		return nil, nil, err
	}
	if k != kindRelay {
		return nil, nil, &unknownError{m[0], m[1]}
	}
	err = fields(body, func(f field) error {
		switch f.number {
		case relayEntry:
			entry = f.bytes
		case relayTo:
			to = append(to, string(f.bytes))
		}
		return nil
	})
	if err == nil && len(entry) == 0 {
		err = malformed("nothing to pass on")
	}
	return entry, to, err
}

// relay sends an entry to all nodes that are there. It reports whether it could be
// sent to all that are to have it from this one.
func (s *Store) relay(entry []byte) (ok bool) {
	nodes := s.serves()
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	size := 1
	if len(nodes) > relayAll {
		size = int(math.Ceil(math.Sqrt(float64(len(nodes)))))
	}
	ok = true
	for group := range slices.Chunk(nodes, size) {
		ok = s.relayTo(group, entry) && ok
	}
	return ok
}

// relayTo sends an entry to the first of a group that it can be sent to, to be
// passed on to the others.
func (s *Store) relayTo(group []string, entry []byte) (ok bool) {
	ok = true
	for len(group) > 0 {
		first, rest := group[0], group[1:]
		if s.sendRelay(first, appendRelay(entry, rest)) {
			return ok
		}
		group, ok = rest, false
	}
	return false
}

func (s *Store) sendRelay(node string, m []byte) bool {
	if err := s.cfg.Peers.Send(node, topicRelay, m); err != nil {
		return false
	}
	s.count(func(st *Stats) { st.SentBytes += uint64(len(m)) })
	return true
}

// takeRelay is called with what peers relay. It does not block.
func (s *Store) takeRelay(from string, m []byte) {
	if s.ctx.Err() != nil {
		return
	}
	select {
	case s.relays <- relayed{from, bytes.Clone(m)}:
	default:
		s.count(func(st *Stats) { st.Refused[Dropped]++ })
	}
}

// readRelays is the goroutine that looks at what peers relay. What is refused is
// not passed on.
func (s *Store) readRelays(ctx context.Context) {
	for {
		select {
		case r := <-s.relays:
			s.count(func(st *Stats) { st.TookBytes += uint64(len(r.message)) })
			entry, to, err := readRelay(r.message)
			if err == nil {
				err = s.hear(entry)
			}
			if err != nil && !quiet[reasonOf(err)] {
				s.refuse(r.from, err)
				continue
			}
			for _, node := range to {
				s.sendRelay(node, appendRelay(entry, nil))
			}
		case <-ctx.Done():
			return
		}
	}
}

// allowance is a token bucket.
type allowance struct {
	tokens float64
	last   time.Time
}

// take reports whether there is one left.
func (a *allowance) take(now time.Time) bool {
	if a.last.IsZero() {
		a.tokens = gossipBurst
	} else {
		a.tokens = min(gossipBurst, a.tokens+gossipRate*now.Sub(a.last).Seconds())
	}
	a.last = now
	if a.tokens < 1 {
		return false
	}
	a.tokens--
	return true
}
