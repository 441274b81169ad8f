package flow

import "math/bits"

// Worker adds flows to a table and forgets them. It owns a range of records:
// nobody else puts flows into them or frees them. It belongs to one goroutine;
// only its counters may be read by others.
//
// It keeps to itself on its cache lines: the table makes workers one after the
// other, and the allocator puts objects of a size side by side.
type Worker struct {
	_ [lineSize]byte

	t           *Table
	first, last uint32 // the records it owns: first <= record < last

	free   []uint32 // free records, the one freed last on top
	listed []uint64 // a bit for each owned record: it is in free

	fresh  uint32 // in a table that was not adopted, records from here on were never used
	hand   uint32 // where the search for a record goes on
	sweep  uint32 // where Sweep goes on
	verify bool   // the first sweep over an adopted table, which looks for what a crash left

	barren   bool // the last search for a record found nothing
	barrenAt Time // and when that was

	now     Time   // the latest time it was told
	random  uint64 // state of next
	cursors []cursorSet
	evicted Flow // for OnEvict
	room    reserve
	ahead   []uint64 // hashes of outside tuples that will soon be asked for
	batch   uint8    // counts calls of TouchAhead

	count  counters
	census [numStates]uint64 // states seen by the sweep in progress

	_ [lineSize]byte
}

func newWorker(t *Table, id int, first, last uint32, adoptions uint64, adopted bool) *Worker {
	w := &Worker{
		t: t, first: first, last: last,
		free:    make([]uint32, 0, last-first),
		listed:  make([]uint64, (last-first+63)/64),
		cursors: make([]cursorSet, cursorSets),
		ahead:   make([]uint64, 0, 2*reserveMost),
		fresh:   first, hand: first, sweep: first, verify: adopted,
		// The same for the same seed, so that a replay repeats itself, but
		// another one for each worker and after each restart, so that port
		// searches do not begin where ports have just been used.
		random: mix(t.key.a+uint64(id)*0x9e3779b97f4a7c15, t.key.d^adoptions) | 1,
	}
	if adopted {
		w.fresh = last
	}
	return w
}

// next is an xorshift64 generator.
func (w *Worker) next() uint64 {
	w.random ^= w.random << 13
	w.random ^= w.random >> 7
	w.random ^= w.random << 17
	return bits.ReverseBytes64(w.random)
}

func (w *Worker) owns(rec uint32) bool { return rec >= w.first && rec < w.last }

// list puts a free record on the free list, unless it is there.
func (w *Worker) list(rec uint32) {
	i := rec - w.first
	if w.listed[i/64]>>(i%64)&1 == 0 {
		w.listed[i/64] |= 1 << (i % 64)
		w.free = append(w.free, rec)
	}
}

// release removes the slots of a dead record and makes it free. It is right
// for every record that a crash can leave, whatever slots it has.
func (w *Worker) release(rec uint32) {
	forward, reply, nat := w.t.hashes(rec)
	w.releaseAt(rec, forward, reply, nat)
}

// releaseAt is release for a record whose keys have these hashes.
func (w *Worker) releaseAt(rec uint32, forward, reply uint64, nat bool) {
	if nat {
		w.t.unpublish(reply, makeSlot(reply, rec, Reply))
	}
	w.t.unpublish(forward, makeSlot(forward, rec, Forward))
	w.t.records[rec].clear()
}

// hashes are those of a record's keys; reply means nothing unless nat.
func (t *Table) hashes(rec uint32) (forward, reply uint64, nat bool) {
	f, r, nat := t.records[rec].keys()
	if nat {
		reply = t.Hash(&r)
	}
	return t.Hash(&f), reply, nat
}

// discard kills, releases and lists a record this worker has just written.
func (w *Worker) discard(rec uint32) {
	r := &w.t.records[rec]
	for !r.kill(r.life()) {
	}
	w.release(rec)
	w.list(rec)
}
