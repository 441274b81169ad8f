package flow

// Sweep looks at the next n records of the worker's own, frees what has timed
// out, was forgotten, or was left half-done by a process that died, and counts
// the rest. It returns how many flows had timed out. Called with a small n for
// each batch and a larger one when idle, it never stalls.
func (w *Worker) Sweep(now Time, n int) (expired int) {
	w.now = now
	for range min(n, int(w.last-w.first)) {
		rec := w.sweep
		r := &w.t.records[rec]
		l := r.life()
		switch {
		case l.state() == StateFree:
			w.list(rec)
		case l&lifeDead != 0:
			w.release(rec)
			w.list(rec)
		case l.passed(now):
			if r.kill(l) {
				w.release(rec)
				w.list(rec)
				if l&lifeResting == 0 {
					w.count.expired.Add(1)
					expired++
				}
			}
		case w.verify && !w.whole(rec):
			if r.kill(l) {
				w.release(rec)
				w.list(rec)
				w.count.repaired.Add(1)
			}
		default:
			w.census[l.state()]++
		}
		if w.sweep++; w.sweep == w.last {
			w.sweep = w.first
			w.verify = false
			w.publishCensus()
		}
	}
	return expired
}

// whole reports whether a live record was written completely and all its keys
// are in the index. It always is, unless the process that wrote it was killed
// in the middle of adding or removing it.
func (w *Worker) whole(rec uint32) bool {
	r := &w.t.records[rec]
	if r.load(wordIdent)&seqOdd != 0 {
		return false
	}
	forward, reply, nat := r.keys()
	h := w.t.Hash(&forward)
	if _, _, ok := w.t.find(h, makeSlot(h, rec, Forward)); !ok {
		return false
	}
	if !nat {
		return true
	}
	h = w.t.Hash(&reply)
	_, _, ok := w.t.find(h, makeSlot(h, rec, Reply))
	return ok
}
