package flow

// Bounds on the search for a record when the free list is empty.
const (
	searchLimit    = 64 // records looked at
	searchDry      = 16 // records in a row that cannot be had before the search goes elsewhere
	searchBarren   = 8  // records looked at within barrenMS of a search that found nothing
	barrenMS       = 10
	halfOpenSample = 8 // half-open flows after which the search is over
)

// outcome is what became of an attempt to take a key.
type outcome uint8

const (
	keyClaimed outcome = iota
	keyTaken           // another flow has it
	keyNoRoom          // the index has no slot near the key's bucket
)

// Insert records the flow f, which is forgotten when timeout milliseconds pass
// without a packet. The caller sets everything but Deadline; a State of
// StateFree means half-open for TCP and unreplied otherwise. A flow with a SNAT
// address gets its reply key too; see Bind for choosing one.
//
// When a flow with f's forward key exists already, that one is copied to f and
// its reference returned (ok is true); an affinity record is thereby also given
// the new timeout. ok is false when the table has no room, or when f's outside
// tuple belongs to another flow.
func (w *Worker) Insert(f *Flow, now Time, timeout uint32) (ref Ref, ok bool) {
	w.now = now
	if len(w.free) == 0 {
		// Nothing is evicted for a flow that is there already.
		if ref, ok := w.existing(f, now, timeout); ok {
			return ref, true
		}
	}
	f.prepare(now, timeout)
	rec, ok := w.take(now)
	if !ok {
		w.count.full.Add(1)
		return NoRef, false
	}
	w.t.records[rec].write(f)
	if f.SNAT != 0 {
		k := f.ReplyKey()
		h := w.t.Hash(&k)
		if got := w.t.claim(&k, h, makeSlot(h, rec, Reply), now, nil, nil); got != keyClaimed {
			if got == keyNoRoom {
				w.count.noRoom.Add(1)
			}
			w.discard(rec)
			return w.existing(f, now, timeout)
		}
	}
	ref, got := w.addForward(rec, f, now)
	if got == keyTaken && f.State == StateAffinity {
		w.t.Refresh(ref, f, now, timeout)
	}
	return ref, got != keyNoRoom
}

// existing finds the flow that has f's forward key and copies it to f.
func (w *Worker) existing(f *Flow, now Time, timeout uint32) (Ref, bool) {
	k := f.ForwardKey()
	ref, _, ok := w.t.Lookup(&k, w.t.Hash(&k), now, f)
	if !ok {
		return NoRef, false
	}
	w.count.existing.Add(1)
	if f.State == StateAffinity {
		w.t.Refresh(ref, f, now, timeout)
	}
	return ref, true
}

// prepare completes a flow that is about to be written.
func (f *Flow) prepare(now Time, timeout uint32) {
	f.Deadline = now + Time(min(timeout, MaxTimeout))
	if f.State == StateFree {
		f.State = StateUnreplied
		if f.Proto == protoTCP {
			f.State = StateHalfOpen
		}
	}
}

// addForward publishes the forward key of a written record. When another flow
// has that key, the record is given up and the other flow copied to f.
func (w *Worker) addForward(rec uint32, f *Flow, now Time) (Ref, outcome) {
	k := f.ForwardKey()
	h := w.t.Hash(&k)
	holder := NoRef
	switch got := w.t.claim(&k, h, makeSlot(h, rec, Forward), now, f, &holder); got {
	case keyClaimed:
		w.count.inserted.Add(1)
		return Ref(rec), got
	case keyTaken:
		w.count.existing.Add(1)
		w.discard(rec)
		return holder, got
	default:
		w.count.noRoom.Add(1)
		w.discard(rec)
		return NoRef, got
	}
}

// claim publishes the slot unless a flow holds the key; "holds" includes one
// that rests. When the holder is live, it is copied to f and named in *ref
// (either may be nil).
func (t *Table) claim(k *Key, hash, slot uint64, now Time, f *Flow, ref *Ref) outcome {
	l := t.lockOf(hash)
	l.lock()
	defer l.unlock()
	if rec, taken := t.holder(k, hash, now, f, true); taken {
		if ref != nil {
			*ref = Ref(rec)
		}
		return keyTaken
	}
	if !t.publish(hash, slot) {
		return keyNoRoom
	}
	return keyClaimed
}

// holder finds the flow that keeps the key from being given to another. With
// the key's lock held and kill set, flows that had the key and have timed out
// are killed on the way: otherwise a packet that found one of them a moment
// ago could bring it back to life beside the key's next owner.
func (t *Table) holder(k *Key, hash uint64, now Time, f *Flow, kill bool) (rec uint32, taken bool) {
	tag := slotTag(hash)
	for i := uint64(0); i < maxProbes; i++ {
		b := t.probe(hash, i)
		for s := 1; s < len(b); s++ {
			v := b.slot(s)
			if v&tagMask != tag {
				continue
			}
			for {
				l, ok := t.match(v, k, f, now)
				if !ok {
					break
				}
				if l.holds(slotDirection(v), now) {
					return uint32(v), true
				}
				expired := l.state() != StateFree && l&lifeDead == 0 && l.passed(now)
				if !kill || !expired || t.records[uint32(v)].kill(l) {
					break
				}
			}
		}
		if b.passed() == 0 {
			break
		}
	}
	return 0, false
}

// take gets a free record: from the free list, one that was never used, or by
// looking at a bounded number of records for one that is free, has timed out,
// or may be evicted.
func (w *Worker) take(now Time) (rec uint32, ok bool) {
	if n := len(w.free); n > 0 {
		rec = w.free[n-1]
		w.free = w.free[:n-1]
		i := rec - w.first
		w.listed[i/64] &^= 1 << (i % 64)
		return rec, true
	}
	for looked := 0; w.fresh < w.last && looked < searchLimit; looked++ {
		rec = w.fresh
		w.fresh++
		if w.t.records[rec].life().state() == StateFree {
			return rec, true
		}
	}
	rec, ok, dead := w.search(now)
	if dead {
		w.release(rec)
	}
	return rec, ok
}

// Eviction ranks: a lower one goes first. Established and stream flows have
// none: no newcomer pushes them out.
const (
	rankHalfOpen  = iota
	rankUnreplied // and closed, and resting
	rankAffinity
	rankFinWait // for DSR the only sign of an end: when nothing else can go
	rankNever
)

var evictionRank = [numStates]uint8{
	StateFree:        rankNever,
	StateHalfOpen:    rankHalfOpen,
	StateEstablished: rankNever,
	StateFinWait:     rankFinWait,
	StateClosed:      rankUnreplied,
	StateUnreplied:   rankUnreplied,
	StateStream:      rankNever,
	StateAffinity:    rankAffinity,
}

// search looks for a record from the hand on. The free list is empty, so a
// free record it finds is in no list. Neighbours are cheap to look at, so it
// goes from one to the next; but it leaves a stretch in which nothing can be
// had. Right after a search that found nothing they are short, so that a table
// full of established flows costs no more than one with room.
// Its slots are still in the index when it is dead: the caller releases it.
func (w *Worker) search(now Time) (rec uint32, ok, dead bool) {
	var (
		victim     uint32
		victimLife life
		rank       = uint8(rankNever)
		halfOpen   = 0
		dry        = 0
		size       = w.last - w.first
		limit      = min(searchLimit, size)
	)
	if w.barren && now-w.barrenAt < barrenMS {
		limit = min(searchBarren, limit)
	}
	w.barren = false
	for range limit {
		if dry == searchDry && size > searchLimit {
			w.moveHand()
			dry = 0
		}
		dry++
		rec := w.hand
		if w.hand++; w.hand == w.last {
			w.hand = w.first
		}
		r := &w.t.records[rec]
		l := r.life()
		switch {
		case l.state() == StateFree:
			return rec, true, false
		case l&lifeDead != 0:
			return rec, true, true
		case l.passed(now):
			if r.kill(l) {
				if l&lifeResting == 0 {
					w.count.expired.Add(1)
				}
				return rec, true, true
			}
			continue
		}
		k := evictionRank[l.state()]
		if k != rankNever {
			dry = 0
		}
		if k < rank || k == rank && k != rankNever && l.deadline().Before(victimLife.deadline()) {
			victim, victimLife, rank = rec, l, k
		}
		if k == rankHalfOpen {
			if halfOpen++; halfOpen == halfOpenSample {
				break
			}
		}
	}
	if rank == rankNever || !w.t.records[victim].kill(victimLife) {
		w.barren, w.barrenAt = true, now
		w.moveHand()
		return 0, false, false
	}
	if w.t.onEvict != nil && victimLife.state().Plain() {
		w.tellEvicted(victim)
	}
	w.count.evicted[rank].Add(1)
	return victim, true, true
}

// tellEvicted reports a record that was just killed and is not yet released.
func (w *Worker) tellEvicted(rec uint32) {
	if _, ok := w.t.records[rec].read(&w.evicted); ok {
		w.t.onEvict(&w.evicted)
	}
}

// moveHand puts the hand somewhere else.
func (w *Worker) moveHand() {
	w.hand = w.first + uint32(w.next()%uint64(w.last-w.first))
}
