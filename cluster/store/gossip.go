package store

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"fairlead/cluster"
)

// publish tells all of an item that was written here: the whole of it if it fits,
// else that it is there to be fetched.
func (s *Store) publish(it *item) {
	m := it.appendEnvelope(frame(kindEntry), it.whole)
	if len(m) > relayMost {
		m = it.appendEnvelope(frame(kindEntry), false)
	}
	relayed := s.relay(m)
	s.mu.Lock()
	little := s.gossiped.take(time.Now())
	s.mu.Unlock()
	if relayed && !little {
		return
	}
	if len(m) > cluster.MaxGossip {
		m = it.appendEnvelope(frame(kindEntry), false)
	}
	err := errors.New("it does not fit")
	if len(m) <= cluster.MaxGossip {
		err = s.cfg.Members.Broadcast(topic, m)
	}
	if err != nil { // the others find it when they compare
		s.cfg.Log.Debug("an entry was not gossiped", "key", it.Key, "error", err)
	}
}

// receive is called with gossip. It does not block.
func (s *Store) receive(m []byte) {
	if s.ctx.Err() != nil {
		return
	}
	select {
	case s.incoming <- bytes.Clone(m):
	default:
		s.count(func(st *Stats) { st.Refused[Dropped]++ })
	}
}

// read is the goroutine that looks at gossip. Who sent it is not known: whoever
// has the gossip key.
func (s *Store) read() {
	for {
		select {
		case m := <-s.incoming:
			s.count(func(st *Stats) { st.Gossip++ })
			if err := s.hear(m); err != nil {
				s.refuse("gossip", err)
			}
		case <-s.ctx.Done():
			return
		}
	}
}

// hear takes one message in.
func (s *Store) hear(m []byte) error {
	k, body, err := open(m)
	if err != nil {
		return err
	}
	if k != kindEntry {
		return &unknownError{m[0], m[1]}
	}
	it, err := readEnvelope(body)
	if err != nil {
		return err
	}
	s.mu.Lock()
	have := s.table.get(it.Key)
	known, same := !it.newer(have), have != nil && have.hash == it.hash
	s.mu.Unlock()
	switch {
	case same:
		return nil
	case known:
		return refuse(Stale, "%q: what is here is newer", it.Key)
	}
	if err := s.check(it); err != nil {
		return err
	}
	// A replay of something whose tombstone is gone would bring it back. What is
	// that old comes from a peer, or not at all.
	kept := s.cfg.TombstoneKept
	if live(it.Key) {
		kept = liveTombstoneKept
	}
	if s.clock.Now().UnixMilli()-it.Version.Wall > kept.Milliseconds()/2 {
		return refuse(Old, "%q: it is from %s, too old to be gossiped", it.Key, time.UnixMilli(it.Version.Wall).UTC().Format(time.RFC3339))
	}
	if it.whole {
		s.take(it.Writer, []*item{it}, false)
		return nil
	}
	s.mu.Lock()
	before := s.fetching[it.Key]
	if it.newer(before) {
		s.fetching[it.Key] = it
	}
	s.mu.Unlock()
	if before != nil {
		return nil // whoever fetches that one sees it
	}
	select {
	case s.fetches <- it:
	default:
		s.mu.Lock()
		delete(s.fetching, it.Key)
		s.mu.Unlock()
		return refuse(Dropped, "%q: too much is being fetched", it.Key)
	}
	return nil
}

// take brings items that are verified into force, unless something newer is
// here. It gives how many were refused; without waiting it gives none.
func (s *Store) take(from string, items []*item, wait bool) (refused int, err error) {
	var durable, reply []*item
	s.mu.Lock()
	for _, it := range items {
		if !live(it.Key) {
			durable = append(durable, it)
			continue
		}
		ok, err := s.admit(it, s.table.get(it.Key))
		if err != nil {
			refused++
			s.refused(from, err)
		}
		if ok {
			s.put(it)
			reply = append(reply, it)
		}
	}
	s.stats.Taken += uint64(len(reply) + len(durable))
	s.mu.Unlock()
	if len(durable) == 0 {
		return refused, nil
	}
	r := &request{kind: requestTake, items: durable, node: from}
	if !wait {
		s.tell(r)
		return refused, nil
	}
	err = s.ask(r)
	return refused + r.refused, err
}

// Large values are fetched by several goroutines, one value each.
const fetchers = 2

// fetchPatience is how long a large value is looked for. After that it is found by
// comparing, as everything is.
const fetchPatience = 30 * time.Second

// fetch is a goroutine that fetches the values of items that were gossiped
// without.
func (s *Store) fetch() {
	for {
		select {
		case it := <-s.fetches:
			for it != nil {
				s.fetchFromAny(it)
				s.mu.Lock()
				last := s.fetching[it.Key]
				if last == it {
					delete(s.fetching, it.Key)
					last = nil
				}
				s.mu.Unlock()
				it = last
			}
		case <-s.ctx.Done():
			return
		}
	}
}

// fetchFromAny asks the writer, and others, who may have it by now: when there
// are many nodes, the writer sends it to a few of them.
func (s *Store) fetchFromAny(it *item) {
	ctx, cancel := context.WithTimeout(s.ctx, fetchPatience)
	defer cancel()
	for try := 0; ; try++ {
		nodes := s.serves()
		rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		if try == 0 {
			if i := slices.Index(nodes, it.Writer); i > 0 {
				nodes[0], nodes[i] = nodes[i], nodes[0]
			}
		}
		for _, node := range nodes[:min(len(nodes), 3)] {
			s.mu.Lock()
			done := !it.newer(s.table.get(it.Key))
			s.mu.Unlock()
			if done {
				return
			}
			got, err := s.fetchFrom(ctx, node, it.Key)
			if err == nil && !it.newer(got) {
				_, err = s.take(node, []*item{got}, true)
			}
			if err != nil {
				s.cfg.Log.Debug("a value was not fetched", "key", it.Key, "node", node, "error", err)
			}
		}
		wait := min(50*time.Millisecond<<min(try, 5), time.Second)
		if !sleep(ctx, wait/2+rand.N(wait)) {
			return
		}
	}
}

// sleep reports whether the time has passed.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// fetchFrom gets an item with its value from a node.
func (s *Store) fetchFrom(ctx context.Context, node, key string) (*item, error) {
	answer, err := s.call(ctx, node, appendString(frame(kindFetch), 1, key))
	if err != nil {
		return nil, err
	}
	it, err := readEnvelope(answer)
	if err == nil && (it.Key != key || !it.whole) {
		err = malformed("not what was asked for")
	}
	if err == nil {
		err = s.check(it)
	}
	if err != nil {
		s.refuse(node, err)
		return nil, err
	}
	s.count(func(st *Stats) { st.Fetched++ })
	return it, nil
}

// serves are the other nodes that are there.
func (s *Store) serves() (names []string) {
	self := s.identity.Name()
	for _, n := range s.cfg.Members.All() {
		if n.Name != self && n.State.Serves() {
			names = append(names, n.Name)
		}
	}
	return names
}
