package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Limits of what goes in one message between peers.
const (
	largeValue  = 64 << 10 // bytes of a value that has a message of its own
	messageSize = 1 << 20  // bytes of entries in a message, about
	maxServing  = 4        // large values that are being sent at once
)

// errBusy says that a node has enough to do, and that others may have it, too.
var errBusy = errors.New("too many large values are being sent")

// maxSessions is how many nodes that have something else are served at a time: after
// a partition all would send a node the same, at once.
const (
	maxSessions    = 2
	sessionExpires = time.Second // after the last request of it
)

// errSessions sends a node to another one.
var errSessions = errors.New("enough nodes are comparing themselves with this one")

// session reports whether a node's comparison may go on. The caller holds s.mu.
func (s *Store) session(node string) bool {
	now := time.Now()
	for other, last := range s.sessions {
		if now.Sub(last) > sessionExpires {
			delete(s.sessions, other)
		}
	}
	if _, ok := s.sessions[node]; !ok && len(s.sessions) >= maxSessions {
		return false
	}
	s.sessions[node] = now
	return true
}

// errCrossed keeps two nodes from sending each other everything at once: the one
// whose name is the first goes on.
var errCrossed = errors.New("the other node is comparing itself with this one already")

// serve answers the requests of peers.
func (s *Store) serve(ctx context.Context, from string, m []byte) ([]byte, error) {
	if s.ctx.Err() != nil {
		return nil, ErrClosed
	}
	answer, err := s.answer(ctx, from, m)
	var r *refusal
	var u *unknownError
	if errors.Is(err, errMalformed) || errors.Is(err, errOversize) || errors.As(err, &r) || errors.As(err, &u) {
		s.refuse(from, err)
	}
	s.count(func(st *Stats) {
		st.TookBytes += uint64(len(m))
		st.SentBytes += uint64(len(answer))
	})
	return answer, err
}

func (s *Store) answer(ctx context.Context, from string, m []byte) ([]byte, error) {
	k, body, err := open(m)
	if err != nil {
		return nil, err
	}
	switch k {
	case kindCompare:
		return s.serveCompare(from, body)
	case kindExchange:
		return s.serveExchange(from, body)
	case kindPush:
		return s.servePush(from, body)
	case kindFetch:
		return s.serveFetch(ctx, body)
	case kindDone:
		return s.serveDone(from, body)
	}
	return nil, &unknownError{m[0], m[1]}
}

// own is what this node says of what it has, and has on disk before it says so.
// Live things are not meant by that.
func (s *Store) own() *state {
	m := &state{wall: s.wall()}
	s.mu.Lock()
	m.root, m.sums = s.table.digest()
	m.store, m.seq = s.id, s.seq
	s.mu.Unlock()
	m.durable = s.ask(&request{kind: requestSync}) == nil
	return m
}

func (s *Store) serveCompare(from string, body []byte) ([]byte, error) {
	theirs, err := readState(body)
	if err != nil {
		return nil, err
	}
	s.clock.Heard(from, theirs.wall)
	s.mu.Lock()
	crossed := s.comparing == from
	first := s.identity.Name() < from
	s.yields = s.yields || crossed && !first
	s.mu.Unlock()
	if crossed && first {
		return nil, errCrossed
	}
	mine := s.own()
	if mine.root == theirs.root {
		mine.sums = nil
		if theirs.durable {
			s.note(from, theirs.store, mine.seq)
		}
		return mine.encode(nil), nil
	}
	s.mu.Lock()
	ok := s.session(from)
	s.mu.Unlock()
	if !ok {
		return nil, errSessions
	}
	return mine.encode(nil), nil
}

// note remembers how far a node has what is here.
func (s *Store) note(node string, store storeID, seq uint64) {
	s.mu.Lock()
	e := s.equals[node]
	s.mu.Unlock()
	if e.store != store || e.seq < seq {
		s.tell(&request{kind: requestNote, node: node, store: store, seq: seq})
	}
}

// serveExchange offers what is newer here, and says what is newer there.
func (s *Store) serveExchange(from string, body []byte) ([]byte, error) {
	m, err := readExchange(body)
	if err != nil {
		return nil, err
	}
	var answer []byte
	var wants []want
	var drop []*item
	more, sent := false, uint64(0)
	s.mu.Lock()
	s.session(from)
	for _, b := range m.buckets {
		for key, it := range s.table.parts[b].items {
			h, there := m.have[key]
			switch {
			case !there && s.forgotten(from, m.store, it):
				drop = append(drop, it)
			case there && !h.older(it) || it.Deleted && !there && s.expired(it):
			case len(answer) >= messageSize:
				more = true
			default:
				answer = appendOffered(answer, it)
				sent++
			}
		}
	}
	for key, h := range m.have {
		it := s.table.get(key)
		if it == nil {
			wants = append(wants, want{key, true})
		} else if it.Version.Compare(h.version) < 0 || it.Version == h.version && it.sum() < h.sum {
			wants = append(wants, want{key, false})
		}
	}
	s.stats.Pushed += sent
	s.mu.Unlock()
	if len(drop) > 0 {
		s.tell(&request{kind: requestDrop, items: drop})
	}
	if more {
		return appendUint(answer, offerMore, 1), nil // wants are for the last one
	}
	for _, w := range wants {
		answer = appendWant(answer, w)
	}
	return answer, nil
}

// forgotten reports whether a node that has no record of an item has deleted it
// so long ago that its tombstone is gone. The caller holds s.mu.
func (s *Store) forgotten(node string, store storeID, it *item) bool {
	return !it.Deleted && !live(it.Key) && s.equals.within(node, store, it) &&
		s.clock.Now().UnixMilli()-it.Version.Wall > s.cfg.TombstoneKept.Milliseconds()
}

// servePush takes what a peer sends. The answer says how much of it was refused.
func (s *Store) servePush(from string, body []byte) ([]byte, error) {
	items, err := readItems(body)
	if err != nil {
		return nil, err
	}
	good, bad := s.verified(from, items)
	refused, err := s.take(from, good, true)
	if err != nil {
		return nil, err
	}
	s.count(func(st *Stats) { st.Pulled += uint64(len(good)) })
	return appendUint(nil, 1, uint64(refused+len(bad))), nil
}

// verified are those items that their writers have written, and those that they
// have not, or that this node does not take from anybody. What is here already
// is neither.
func (s *Store) verified(from string, items []*item) (good, bad []*item) {
	for _, it := range items {
		s.mu.Lock()
		have := s.table.get(it.Key)
		s.mu.Unlock()
		if have != nil && have.hash == it.hash {
			continue
		}
		if err := s.check(it); err != nil {
			s.refuse(from, err)
			bad = append(bad, it)
			continue
		}
		good = append(good, it)
	}
	return good, bad
}

func (s *Store) serveFetch(ctx context.Context, body []byte) ([]byte, error) {
	var key string
	if err := fields(body, func(f field) error {
		if f.number == 1 {
			key = string(f.bytes)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	select {
	case s.serving <- struct{}{}:
		defer func() { <-s.serving }()
	case <-ctx.Done():
		return nil, ctx.Err()
	default:
		return nil, errBusy
	}
	s.mu.Lock()
	it := s.table.get(key)
	s.mu.Unlock()
	if it == nil {
		return nil, fmt.Errorf("there is nothing under %q", key)
	}
	return it.appendEnvelope(nil, true), nil
}

// serveDone hears that a peer has taken all that was here up to a count.
func (s *Store) serveDone(from string, body []byte) ([]byte, error) {
	m, err := readState(body)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	delete(s.sessions, from)
	seq := min(m.seq, s.seq)
	s.mu.Unlock()
	s.note(from, m.store, seq)
	durable := uint64(0)
	if s.ask(&request{kind: requestSync}) == nil {
		durable = 1
	}
	return appendUint(nil, 1, durable), nil
}
