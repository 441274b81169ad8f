package flow

// reserveMost is how many records Reserve frees at a time.
const reserveMost = 64

// reserve is what Reserve knows of the records it is about to free.
type reserve struct {
	recs           [reserveMost]uint32
	forward, reply [reserveMost]uint64
	nat            [reserveMost]bool
}

// Reserve makes room for n flows, reserveMost at most, that are probably about
// to be added. What Insert and Bind do for one flow when the table is full, it
// does for many: it picks records that may be had, reads the lines of the index
// that their keys are in, all of them before it needs the first, and then takes
// their slots out. It evicts no more than n, and nothing that Insert would not.
func (w *Worker) Reserve(now Time, n int) {
	n = min(n, reserveMost) - len(w.free) - int(min(w.last-w.fresh, reserveMost))
	// No search may come around to what another has found.
	n = min(n, int(w.last-w.first)/searchLimit)
	if n <= 0 {
		return
	}
	w.now = now
	r, dead := &w.room, 0
	for range n {
		rec, ok, isDead := w.search(now)
		if !ok {
			break
		}
		if !isDead {
			w.list(rec)
			continue
		}
		r.recs[dead] = rec
		r.forward[dead], r.reply[dead], r.nat[dead] = w.t.hashes(rec)
		dead++
	}
	for _, h := range r.forward[:dead] {
		w.t.Touch(h)
	}
	for i, h := range r.reply[:dead] {
		if r.nat[i] {
			w.t.Touch(h)
		}
	}
	for i, rec := range r.recs[:dead] {
		w.releaseAt(rec, r.forward[i], r.reply[i], r.nat[i])
		w.list(rec)
	}
}
