package store

import (
	"errors"
	"maps"
	"time"
)

// Stats is what a store has, and what it has done since the start.
type Stats struct {
	Entries    int // that are no tombstones
	Tombstones int
	Bytes      int // of all of them, about

	Written  uint64 // entries, by this node
	Taken    uint64 // entries, from other nodes
	Refused  map[Reason]uint64
	Gossip   uint64 // messages that came
	Dropped  uint64 // entries that others have deleted long ago
	Restored uint64 // entries of this node that it has written again, as others had later ones

	Compared  uint64 // times that another node's digest was compared
	Differed  uint64 // times that it was another
	Failed    uint64 // comparisons that did not come to their end
	Pulled    uint64 // entries that came by comparing
	Pushed    uint64 // entries that went
	Fetched   uint64 // large values
	SentBytes uint64 // to peers, in requests and answers; gossip is not among them
	TookBytes uint64 // from peers

	Synced   bool
	Compare  time.Time // the last that came to its end
	Unstored error     // why not all is on disk, nil if it is
	Clock    error     // why this node does not write what the last writer wins
}

// Stats gives the present numbers.
func (s *Store) Stats() Stats {
	wrong := s.clock.Wrong()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Refused = maps.Clone(s.stats.Refused)
	st.Entries, st.Tombstones, st.Bytes = s.table.live, s.table.count-s.table.live, s.table.bytes
	st.Clock = wrong
	if st.Unstored = s.unsaved; errors.Is(st.Unstored, errDemoted) {
		st.Unstored = nil
	}
	select {
	case <-s.synced:
		st.Synced = true
	default:
	}
	return st
}

func (s *Store) count(f func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.stats)
}

// refuse counts what was refused, and says so.
func (s *Store) refuse(from string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused(from, err)
}

// refused is refuse for one who holds s.mu.
func (s *Store) refused(from string, err error) {
	reason := reasonOf(err)
	s.stats.Refused[reason]++
	s.grumble.add(reason, from, err)
}
