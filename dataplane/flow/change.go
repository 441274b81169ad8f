package flow

import "sync/atomic"

// change applies fn to the life word of the flow f and reports whether the
// flow was still there.
func (t *Table) change(ref Ref, f *Flow, fn func(life) life) bool {
	if uint64(ref) >= uint64(len(t.records)) {
		return false
	}
	r := &t.records[ref]
	for {
		old := r.life()
		if !r.current(f) || old.state() == StateFree || old&(lifeDead|lifeResting) != 0 {
			return false
		}
		if next := fn(old); next == old || r.swapLife(old, next) {
			return true
		}
	}
}

// Move gives the flow f another backend. Only flows without a reply key can
// move. It reports whether the flow still existed and has moved; f's BackendID
// is brought up to date.
func (t *Table) Move(ref Ref, f *Flow, backendID uint32) bool {
	if uint64(ref) >= uint64(len(t.records)) || f.SNAT != 0 {
		return false
	}
	r := &t.records[ref]
	for {
		l := r.life()
		ident := r.load(wordIdent)
		if uint32(ident&seqMask) != f.seq || l.state() == StateFree || l&(lifeDead|lifeResting) != 0 {
			return false
		}
		next := ident&(1<<backendAt-1) | uint64(backendID)<<backendAt
		if atomic.CompareAndSwapUint64(&r[wordIdent], ident, next) {
			f.BackendID = backendID
			return true
		}
	}
}

// Forget ends the flow f at once: no lookup finds it any more. Any worker may
// forget any flow. The outside tuple of a NAT flow rests for the table's
// SNATGuard before it can be used again.
func (w *Worker) Forget(ref Ref, f *Flow) {
	t := w.t
	resting := f.SNAT != 0 && t.guard != 0
	gone := t.change(ref, f, func(l life) life {
		if resting {
			return l.withState(StateClosed).withDeadline(w.now+Time(t.guard)) | lifeResting
		}
		return l | lifeDead
	})
	if !gone {
		return
	}
	w.count.forgotten.Add(1)
	if !resting && w.owns(uint32(ref)) {
		w.release(uint32(ref))
		w.list(uint32(ref))
	}
}
