package flow

import "sync/atomic"

const numStates = int(StateAffinity) + 1

// counters are one worker's; it alone writes them.
type counters struct {
	inserted, existing, expired, forgotten, repaired atomic.Uint64
	evicted                                          [rankNever]atomic.Uint64
	full, noRoom, exhausted                          atomic.Uint64
	census                                           [numStates]atomic.Uint64
}

// Stats is the state of a table since this process opened it.
type Stats struct {
	Capacity uint64            // most flows at a time
	Flows    [numStates]uint64 // live flows by State, as each worker's last complete sweep saw them

	Inserted  uint64 // flows added
	Existing  uint64 // additions that found the flow there already
	Expired   uint64 // flows that timed out
	Forgotten uint64 // flows ended by Forget
	Repaired  uint64 // remains of a crash that were cleaned up

	EvictedHalfOpen  uint64 // flows evicted to make room, by what they were
	EvictedUnreplied uint64 // unreplied or closed
	EvictedAffinity  uint64
	EvictedFinWait   uint64

	Full      uint64 // additions that failed: every record that was looked at is in use
	NoRoom    uint64 // additions that failed: no slot in the index near the key
	Exhausted uint64 // NAT flows that failed: every outside tuple is taken
}

// Live is the number of live flows.
func (s *Stats) Live() uint64 {
	n := uint64(0)
	for _, v := range s.Flows {
		n += v
	}
	return n
}

// Stats sums the workers' counters. It may be called from any goroutine.
func (t *Table) Stats() Stats {
	s := Stats{Capacity: uint64(len(t.records))}
	for _, w := range t.workers {
		one := w.count.stats()
		s.add(&one)
	}
	return s
}

func (c *counters) stats() Stats {
	s := Stats{
		Inserted:         c.inserted.Load(),
		Existing:         c.existing.Load(),
		Expired:          c.expired.Load(),
		Forgotten:        c.forgotten.Load(),
		Repaired:         c.repaired.Load(),
		EvictedHalfOpen:  c.evicted[rankHalfOpen].Load(),
		EvictedUnreplied: c.evicted[rankUnreplied].Load(),
		EvictedAffinity:  c.evicted[rankAffinity].Load(),
		EvictedFinWait:   c.evicted[rankFinWait].Load(),
		Full:             c.full.Load(),
		NoRoom:           c.noRoom.Load(),
		Exhausted:        c.exhausted.Load(),
	}
	for i := range s.Flows {
		s.Flows[i] = c.census[i].Load()
	}
	return s
}

func (s *Stats) add(o *Stats) {
	for i := range s.Flows {
		s.Flows[i] += o.Flows[i]
	}
	s.Inserted += o.Inserted
	s.Existing += o.Existing
	s.Expired += o.Expired
	s.Forgotten += o.Forgotten
	s.Repaired += o.Repaired
	s.EvictedHalfOpen += o.EvictedHalfOpen
	s.EvictedUnreplied += o.EvictedUnreplied
	s.EvictedAffinity += o.EvictedAffinity
	s.EvictedFinWait += o.EvictedFinWait
	s.Full += o.Full
	s.NoRoom += o.NoRoom
	s.Exhausted += o.Exhausted
}

func (w *Worker) publishCensus() {
	for i, n := range w.census {
		w.count.census[i].Store(n)
	}
	w.census = [numStates]uint64{}
}

// Range calls fn with a copy of every flow until fn returns false. Flows that
// come and go meanwhile may be missed, and one that has timed out and was not
// swept yet may be seen: its Deadline says so.
func (t *Table) Range(fn func(*Flow) bool) {
	var f Flow
	for i := range t.records {
		r := &t.records[i]
		if l := r.life(); l.state() == StateFree || l&(lifeDead|lifeResting) != 0 {
			continue
		}
		if l, ok := r.read(&f); !ok || l.state() == StateFree || l&(lifeDead|lifeResting) != 0 {
			continue
		}
		if !fn(&f) {
			return
		}
	}
}
