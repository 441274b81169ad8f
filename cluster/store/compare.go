package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// A node compares itself with another that it picks at random, and with each that
// it is connected to anew. Digests of everything are compared first, then those
// of the buckets, then the versions in the buckets that differ; what one has and
// the other has not then goes both ways.

const (
	comparePatience = 2 * time.Minute        // for all of a comparison
	callPatience    = 20 * time.Second       // for one message of it
	hearWithin      = 10 * time.Second       // an answer says what time it is
	soon            = 200 * time.Millisecond // to the next one, when there was a difference
	exchangeBuckets = 64                     // in one request
	joinPatience    = 5 * time.Second        // for a node to look for others
	aloneAfter      = 500 * time.Millisecond // from then on, with nobody there
	syncPatience    = 30 * time.Second       // with somebody there, who does not answer
)

// up is told of connections to nodes. It does not block.
func (s *Store) up(node string) {
	s.mu.Lock()
	if !slices.Contains(s.ups, node) {
		s.ups = append(s.ups, node)
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// reconcile is the goroutine that compares.
func (s *Store) reconcile() {
	done, joining := false, s.joined()
	var joined time.Time
	failing := time.Duration(0)
	for {
		wait := s.cfg.Interval/2 + rand.N(s.cfg.Interval)
		if node := s.next(); node != "" {
			moved, err := s.compare(node)
			switch {
			case err != nil:
				failing = min(max(2*failing, soon), s.cfg.Interval)
				wait = failing
			case moved > 0: // there may be more, of what is written now
				failing, wait = 0, min(soon, wait)
			default:
				failing = 0
			}
			done = done || err == nil
		}
		if !done {
			wait = min(wait, soon)
		}
		s.settle(done, joined)
		s.mu.Lock()
		more := len(s.ups) > 0
		s.mu.Unlock()
		if more {
			wait = 0
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.wake:
		case <-joining:
			joining, joined = nil, time.Now()
		case <-s.ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// settle closes synced as soon as there is nothing to wait for. joined is when
// the node had looked for others, zero before.
func (s *Store) settle(done bool, joined time.Time) {
	select {
	case <-s.synced:
		return
	default:
	}
	switch {
	case done:
	case joined.IsZero():
		return
	case time.Since(joined) > syncPatience:
		s.cfg.Log.Warn("no other node could be compared with: this node goes on with what it has")
	case time.Since(joined) > aloneAfter && len(s.serves()) == 0:
	default:
		return
	}
	close(s.synced)
	st := s.Stats()
	s.cfg.Log.Info("what all nodes share is here", "compared", done, "entries", st.Entries, "bytes", st.Bytes)
}

// joined is closed when the node has looked for others.
func (s *Store) joined() <-chan struct{} {
	if s.cfg.Joined != nil {
		return s.cfg.Joined
	}
	c := make(chan struct{})
	s.running.Go(func() {
		sleep(s.ctx, joinPatience)
		close(c)
	})
	return c
}

// next is the node to compare with, "" when there is none.
func (s *Store) next() string {
	nodes := s.serves()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.ups) > 0 {
		node := s.ups[0]
		s.ups = s.ups[1:]
		if slices.Contains(nodes, node) {
			return node
		}
	}
	if len(nodes) == 0 {
		return ""
	}
	return nodes[rand.IntN(len(nodes))]
}

func (s *Store) call(ctx context.Context, node string, request []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	answer, err := s.cfg.Peers.Call(ctx, node, topic, request)
	s.count(func(st *Stats) {
		st.SentBytes += uint64(len(request))
		st.TookBytes += uint64(len(answer))
	})
	return answer, err
}

// compare makes this node and another have the same. It gives how many entries
// went either way.
func (s *Store) compare(node string) (moved int, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, comparePatience)
	defer cancel()
	s.mu.Lock()
	s.comparing, s.yields = node, false
	s.mu.Unlock()
	differed, moved, err := s.compareOnce(ctx, node)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.comparing = ""
	s.stats.Compared++
	if differed {
		s.stats.Differed++
	}
	if err != nil {
		s.stats.Failed++
		if s.ctx.Err() == nil {
			s.cfg.Log.Debug("comparing what is shared failed", "node", node, "error", err)
		}
		return moved, err
	}
	s.stats.Compare = time.Now()
	return moved, nil
}

func (s *Store) compareOnce(ctx context.Context, node string) (differed bool, moved int, err error) {
	mine := s.own()
	sums := mine.sums
	mine.sums = nil
	sent := s.mono()
	answer, err := s.call(ctx, node, mine.encode(frame(kindCompare)))
	if err != nil {
		return false, 0, err
	}
	theirs, err := readState(answer)
	if err != nil {
		s.refuse(node, err)
		return false, 0, err
	}
	if took := s.mono() - sent; took < hearWithin {
		s.clock.Heard(node, theirs.wall.Add(took/2))
	}
	if theirs.root == mine.root {
		if theirs.durable {
			s.note(node, theirs.store, mine.seq)
		}
		return false, 0, nil
	}
	if theirs.sums == nil {
		err := malformed("an answer without digests of buckets")
		s.refuse(node, err)
		return true, 0, err
	}
	var differ []int
	for b := range buckets {
		if binary.BigEndian.Uint64(sums[8*b:]) != binary.BigEndian.Uint64(theirs.sums[8*b:]) {
			differ = append(differ, b)
		}
	}
	clean := true
	for group := range slices.Chunk(differ, exchangeBuckets) {
		s.mu.Lock()
		yields := s.yields
		s.mu.Unlock()
		if yields {
			return true, moved, errCrossed
		}
		n, ok, err := s.exchange(ctx, node, theirs.store, group)
		moved += n
		if err != nil {
			return true, moved, err
		}
		clean = clean && ok
	}
	if !clean {
		return true, moved, nil // one of the two refuses something of the other
	}
	return true, moved, s.finishCompare(ctx, node, mine, theirs)
}

// finishCompare has both remember how far the other has everything.
func (s *Store) finishCompare(ctx context.Context, node string, mine, theirs *state) error {
	if s.ask(&request{kind: requestSync}) != nil {
		return nil // what is not on disk may be lost again
	}
	done := *mine
	done.seq, done.wall = theirs.seq, s.wall()
	answer, err := s.call(ctx, node, done.encode(frame(kindDone)))
	if err != nil {
		return err
	}
	if durable, err := readUint(answer, 1); err == nil && durable == 1 {
		s.note(node, theirs.store, mine.seq)
	}
	return nil
}

// exchange makes some buckets equal. It gives how many entries went either way,
// and whether neither refused anything.
func (s *Store) exchange(ctx context.Context, node string, store storeID, group []int) (moved int, clean bool, err error) {
	refused := map[string]*item{} // as if they were here, so that they are not sent again
	for {
		answer, err := s.call(ctx, node, s.appendExchange(frame(kindExchange), group, refused))
		if err != nil {
			return moved, false, err
		}
		offer, err := readOffer(answer)
		if err == nil && offer.more && len(offer.items) == 0 {
			err = malformed("more, and nothing of it")
		}
		if err != nil {
			s.refuse(node, err)
			return moved, false, err
		}
		before := len(refused)
		if err := s.pull(ctx, node, offer.items, refused); err != nil {
			return moved, false, err
		}
		moved += len(offer.items) - (len(refused) - before)
		if !offer.more {
			n, ok, err := s.push(ctx, node, store, offer.wants)
			return moved + n, ok && len(refused) == 0, err
		}
	}
}

func (s *Store) appendExchange(m []byte, group []int, refused map[string]*item) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	m = appendBytes(m, exchangeStore, s.id[:])
	for _, b := range group {
		m = appendUint(m, exchangeBucket, uint64(b))
		for key, it := range s.table.parts[b].items {
			if refused[key] == nil {
				m = appendHaving(m, exchangeHave, it)
			}
		}
	}
	for _, it := range refused {
		m = appendHaving(m, exchangeHave, it)
	}
	return m
}

// pull takes what another node has. What is not taken is added to refused.
func (s *Store) pull(ctx context.Context, node string, items []*item, refused map[string]*item) error {
	good, bad := s.verified(node, items)
	for i, it := range good {
		if it.whole {
			continue
		}
		whole, err := s.fetchFrom(ctx, node, it.Key)
		if err != nil {
			return fmt.Errorf("%q: %w", it.Key, err)
		}
		good[i] = whole
	}
	if _, err := s.take(node, good, true); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Pulled += uint64(len(good))
	for _, it := range good {
		if it.newer(s.table.get(it.Key)) {
			refused[it.Key] = it
		}
	}
	for _, it := range bad {
		refused[it.Key] = it
	}
	return nil
}

// push sends what another node wants. It gives how much of it that took, and
// whether that was all.
func (s *Store) push(ctx context.Context, node string, store storeID, wants []want) (moved int, clean bool, err error) {
	var drop []*item
	clean = true
	m, count := frame(kindPush), uint64(0)
	flush := func() error {
		if count == 0 {
			return nil
		}
		answer, err := s.call(ctx, node, m)
		if err != nil {
			return err
		}
		refused, err := readUint(answer, 1)
		clean = clean && err == nil && refused == 0
		moved += int(count - min(refused, count))
		s.count(func(st *Stats) { st.Pushed += count })
		m, count = frame(kindPush), 0
		return nil
	}
	for _, w := range wants {
		s.mu.Lock()
		it := s.table.get(w.key)
		forgotten := it != nil && w.none && s.forgotten(node, store, it)
		s.mu.Unlock()
		switch {
		case it == nil || it.Deleted && w.none && s.expired(it):
			continue
		case forgotten:
			drop = append(drop, it)
			continue
		}
		if len(m)+it.bytes() > messageSize {
			if err := flush(); err != nil {
				return moved, false, err
			}
		}
		m = appendBytes(m, offerItem, it.appendEnvelope(nil, true))
		count++
	}
	if err := flush(); err != nil {
		return moved, false, err
	}
	if len(drop) > 0 {
		s.tell(&request{kind: requestDrop, items: drop})
	}
	return moved, clean, nil
}

func (s *Store) wall() time.Time {
	if s.cfg.Wall != nil {
		return s.cfg.Wall()
	}
	return time.Now()
}

func (s *Store) mono() time.Duration {
	if s.cfg.Mono != nil {
		return s.cfg.Mono()
	}
	return time.Since(s.opened)
}
