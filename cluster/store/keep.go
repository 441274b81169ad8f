package store

import (
	"errors"
	"slices"
	"time"

	"fairlead/cluster"
)

// What has to be done from time to time.
const (
	keepEvery  = time.Second
	sweepEvery = time.Minute
	// settleTime is how long after the start a node's live things of before are
	// kept, if it does not write them again.
	settleTime = 30 * time.Second
)

// keep is the goroutine that does it.
func (s *Store) keep() {
	ticker := time.NewTicker(keepEvery)
	defer ticker.Stop()
	swept, settled := time.Now(), false
	for {
		select {
		case <-ticker.C:
		case <-s.ctx.Done():
			return
		}
		s.restore()
		s.bury()
		s.drift()
		if !settled && time.Since(s.opened) > settleTime {
			settled = true
			s.forgetFormer()
		}
		if time.Since(swept) >= sweepEvery {
			swept = time.Now()
			s.mu.Lock()
			s.sweep()
			s.mu.Unlock()
			s.signAnew()
		}
	}
}

// restore writes what this node alone writes again, where others have a later
// version from before its start.
func (s *Store) restore() {
	s.mu.Lock()
	var again []*item
	for key := range s.reclaim {
		if it := s.table.get(key); it != nil && s.floor[key].Compare(it.Version) >= 0 {
			again = append(again, it)
		} else if it == nil {
			again = append(again, &item{Entry: cluster.Entry{Key: key, Deleted: true}})
		}
	}
	clear(s.reclaim)
	s.mu.Unlock()
	for _, it := range again {
		if err := s.rewrite(it); err != nil && !errors.Is(err, ErrClosed) {
			s.cfg.Log.Warn("an entry of this node could not be written again", "key", it.Key, "error", err)
			continue
		}
		s.count(func(st *Stats) { st.Restored++ })
	}
}

// rewrite writes the same with a later version.
func (s *Store) rewrite(it *item) error {
	return s.write(&request{key: it.Key, value: it.Value, deleted: it.Deleted, again: true})
}

// bury forgets what is live of nodes that have been gone for long.
func (s *Store) bury() {
	here := map[string]bool{s.identity.Name(): true}
	known := map[string]bool{}
	for _, n := range s.cfg.Members.All() {
		known[n.Name] = true
		if n.State.Serves() {
			here[n.Name] = true
		}
	}
	s.clock.Keep(func(node string) bool { return known[node] })
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range here {
		delete(s.absent, name)
		delete(s.gone, name)
	}
	var late []*item
	for _, it := range s.table.groups[groupOf(cluster.LivePrefix)] {
		if here[it.Writer] {
			continue
		}
		since, ok := s.absent[it.Writer]
		if !ok {
			s.absent[it.Writer] = now
		} else if now.Sub(since) > s.cfg.LiveKept {
			s.gone[it.Writer] = true
			late = append(late, it)
		}
	}
	for _, it := range late {
		s.forget(it)
	}
}

// forgetFormer deletes what this node has live from before its start.
func (s *Store) forgetFormer() {
	var former []string
	s.mu.Lock()
	for _, it := range s.table.groups[groupOf(cluster.LivePrefix)] {
		if it.Writer == s.identity.Name() && !it.Deleted && !s.mine[it.Key] {
			former = append(former, it.Key)
		}
	}
	s.mu.Unlock()
	for _, key := range former {
		if err := s.Delete(key); err != nil && !errors.Is(err, ErrClosed) {
			s.cfg.Log.Warn("an entry of this node from before its start could not be deleted", "key", key, "error", err)
		}
	}
}

// sweep forgets tombstones that have been kept for long enough. On disk they go
// with the next snapshot, and at the next start. The caller holds s.mu.
func (s *Store) sweep() {
	var old []*item
	s.table.each(func(it *item) {
		if it.Deleted && s.expired(it) {
			old = append(old, it)
		}
	})
	for _, it := range old {
		s.table.remove(it.Key)
	}
}

// drift finds out whether this node's clock was ahead.
func (s *Store) drift() {
	if s.clock.Adrift() {
		s.tell(&request{kind: requestAge})
	}
}

// era is what versions of a clock that was ahead are set back by, again and again
// until they are past: about forty years. So they keep their order among
// themselves, and are older than anything that was written by a clock that was
// right: whatever of that kind another node has replaces them, and if none has
// any, nothing is lost.
const era = 40 * 365 * 24 * 60 * 60 * 1000

// demote sets back the versions that others refuse, in this node's name: every
// node that has them does the same and comes to the same. seq is the last count
// that was given: nobody has these yet. The caller holds s.mu and has everything
// stored anew.
func (s *Store) demote(seq *uint64) {
	if !s.clock.Adrift() {
		return
	}
	limit := s.wall().Add(2 * s.clock.Limit()).UnixMilli() // see clock.Adrift
	var ahead []*item
	last := cluster.Version{}
	s.table.each(func(it *item) {
		switch {
		case ownerOf(it.Key) != "":
		case it.Version.Wall > limit:
			ahead = append(ahead, it)
		case last == (cluster.Version{}) || it.Version.Compare(last) > 0:
			last = it.Version
		}
	})
	for _, it := range ahead {
		e := it.Entry
		for e.Version.Wall > limit {
			e.Version.Wall -= era
		}
		e.Writer, e.Version.Writer = s.identity.Name(), s.identity.Name()
		fresh := newItem(e, s.identity)
		*seq++
		fresh.seq = *seq
		s.table.set(fresh)
	}
	s.clock.Restart(last)
	s.cfg.Log.Warn("entries were written by a clock that was ahead: they count as older than any other", "entries", len(ahead))
}

// signAnew signs what the last writer wins in this node's name, where the proof of
// its writer's key does not hold any more, or not for long: a node that comes
// later could not take it. One node does it for all, and each for what it alone
// writes.
func (s *Store) signAnew() {
	select {
	case <-s.synced:
	default:
		return
	}
	self := s.identity.Name()
	nodes := s.serves()
	first := len(nodes) == 0 || self < slices.Min(nodes)
	bad := map[string]bool{}
	var old []*item
	s.mu.Lock()
	s.table.each(func(it *item) {
		if owner := ownerOf(it.Key); it.Deleted || owner == "" && !first || owner != "" && owner != self {
			return
		}
		by := it.Writer + "\x00" + string(it.proof)
		is, ok := bad[by]
		if !ok {
			_, err := s.identity.VerifyProof(it.Writer, it.proof)
			is = err != nil || s.identity.Outdated(it.Writer, it.proof)
			bad[by] = is
		}
		if is {
			old = append(old, it)
		}
	})
	s.mu.Unlock()
	for _, it := range old {
		if err := s.rewrite(it); err != nil {
			s.cfg.Log.Warn("an entry could not be signed anew", "key", it.Key, "error", err)
			return
		}
	}
	if len(old) > 0 {
		s.cfg.Log.Info("entries were signed anew: the proof of their writers' keys does not hold any more, or not for long", "entries", len(old))
	}
}
