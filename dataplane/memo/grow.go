package memo

import (
	"sync/atomic"

	"fairlead/dataplane/flow"
)

// A table has memory for as many memos as it may ever hold, and begins to use a
// small part of that: with few flows spread over much memory, every one has a
// page to itself, and finding the page costs more than reading it. When the part
// fills up, it is doubled. A table never becomes smaller.
//
// By a doubling, half of the memos come to lie where nobody looks for them. They
// are granted again at their next packet, and their places given to others.
// Nothing may find them there later: Drop looks in their old places too for as long as anybody may
// still be looking there (growPause), and the table does not grow again before.

// beginSets is how many sets a table begins to use: 2 MiB.
const beginSets = 1 << 14

// growPause is how many milliseconds it takes at most until everybody has seen
// that a table has grown: the longest that a worker takes for a batch, or the
// kernel for a packet.
const growPause = 1000

// growth is when a table grows.
type growth struct {
	_       [EntrySize]byte // what every packet reads is in other cache lines
	grown   atomic.Uint32   // flow.Time of the last doubling, 0 when that is longer ago than growPause
	window  atomic.Uint32   // flow.Time since when displaced is counted
	counted atomic.Uint32   // memos in the last window that did not find a place in their first set
	_       [EntrySize]byte
}

// sets is how many sets are in use, less one.
func (t *Table) sets() uint64 { return atomic.LoadUint64(t.inUse) }

// begin says how many sets are in use: as many as an earlier process had in use.
func (t *Table) begin() {
	if n := t.sets() + 1; n > 1 && n&(n-1) == 0 && n <= t.most+1 {
		return
	}
	atomic.StoreUint64(t.inUse, min(beginSets-1, t.most))
}

// crowded notes that a memo did not get into its first set, and doubles the
// table when that happens so often that it must be 40 % full or more: when one
// for every sixteen sets did within the time of a lease.
func (t *Table) crowded(now flow.Time) {
	sets := t.sets()
	if sets == t.most {
		return
	}
	if now-flow.Time(t.window.Load()) > MaxLease {
		t.window.Store(uint32(now))
		t.counted.Store(0)
	}
	if g := t.grown.Load(); g != 0 && now-flow.Time(g) > growPause {
		t.grown.CompareAndSwap(g, 0)
	}
	if uint64(t.counted.Add(1)) <= sets/16 || t.justGrown() {
		return
	}
	// Before anybody may look in the new places, Drop looks in both.
	if t.grown.CompareAndSwap(0, max(1, uint32(now))) {
		atomic.CompareAndSwapUint64(t.inUse, sets, sets<<1|1)
		t.counted.Store(0)
		t.window.Store(uint32(now))
	}
}

// strayed reports whether the key in a place is not looked for there, since the
// table has grown.
func (t *Table) strayed(at uint64) bool {
	e := &t.entries[at]
	k := Key{atomic.LoadUint64(&e[wordHi]), atomic.LoadUint64(&e[wordLo]), atomic.LoadUint64(&e[wordRest])}
	hash, sets := t.Hash(&k), t.sets()
	for i := range 4 {
		if placeIn(sets, hash, i) == at {
			return false
		}
	}
	return true
}

// justGrown reports whether some may not have seen yet that the table has grown.
func (t *Table) justGrown() bool { return t.grown.Load() != 0 }
