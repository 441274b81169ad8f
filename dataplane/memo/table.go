package memo

import (
	"fmt"
	"math/bits"
	"sync/atomic"
	"unsafe"

	"fairlead/dataplane/flow"
)

// Table is the memos and the routes they share. Lookups and grants may come
// from any goroutine.
type Table struct {
	entries []entry
	inUse   *uint64 // number of sets in use - 1, shared with the kernel; see grow.go
	most    uint64  // number of all sets - 1
	seed    Seed
	kernel  bool        // the XDP program has the table too
	counts  []Count     // of the kernel, those of a CPU together
	ready   atomic.Bool // the memory is there
	ways
	growth
}

// Sizes of an entry, a route and a count in bytes.
const (
	EntrySize = int(unsafe.Sizeof(entry{}))
	RouteSize = int(unsafe.Sizeof(Route{}))
	CountSize = int(unsafe.Sizeof(Count{}))
)

// MaxRoutes is the most routes a table can have.
const MaxRoutes = 1 << 16

// Config is the memory a table lies in.
type Config struct {
	Entries []byte // Bytes of a power of two of entries, at least 2
	Routes  []byte // 1 to MaxRoutes routes
	Seed    Seed
	Counts  []byte // one for each route and CPU of the kernel's; nil when the memory is no XDP program's
}

func leaseOf(control uint64) flow.Time { return flow.Time(control >> leaseAt) }

// EntriesFor is the number of entries for so many flow directions: a power of
// two that they fill to a half at most, so that most are in their first place
// and hardly any finds all four taken.
func EntriesFor(directions int) int {
	return 1 << bits.Len(uint(max(directions, 1)*2-1))
}

// Bytes is the memory for so many entries: one more is for how many of them are
// in use.
func Bytes(entries int) int { return (entries + 1) * EntrySize }

// New lays a table over its memory. What another process has left there is
// void: all its routes are made invalid. But as many entries are in use as it
// had grown to.
func New(cfg Config) (*Table, error) {
	entries, routes := len(cfg.Entries)/EntrySize-1, len(cfg.Routes)/RouteSize
	switch {
	case entries < 2 || entries&(entries-1) != 0 || len(cfg.Entries)%EntrySize != 0:
		return nil, fmt.Errorf("memo: memory of %d bytes is not for a power of two of entries", len(cfg.Entries))
	case cfg.Counts != nil && len(cfg.Counts) < routes*CountSize:
		return nil, fmt.Errorf("memo: memory of %d bytes does not hold counts for %d routes", len(cfg.Counts), routes)
	case routes < 1 || routes > MaxRoutes:
		return nil, fmt.Errorf("memo: memory for %d routes, 1 to %d are possible", routes, MaxRoutes)
	case uintptr(unsafe.Pointer(&cfg.Entries[0]))%uintptr(EntrySize) != 0 || uintptr(unsafe.Pointer(&cfg.Routes[0]))%8 != 0:
		return nil, fmt.Errorf("memo: the memory is not aligned")
	}
	t := &Table{
		entries: unsafe.Slice((*entry)(unsafe.Pointer(&cfg.Entries[0])), entries),
		inUse:   (*uint64)(unsafe.Pointer(&cfg.Entries[entries*EntrySize])),
		most:    uint64(entries/2 - 1), seed: cfg.Seed, kernel: cfg.Counts != nil,
	}
	t.begin()
	if t.kernel {
		t.counts = unsafe.Slice((*Count)(unsafe.Pointer(&cfg.Counts[0])), len(cfg.Counts)/CountSize/routes*routes)
	}
	t.ready.Store(true)
	t.ways.init(unsafe.Slice((*Route)(unsafe.Pointer(&cfg.Routes[0])), routes))
	return t, nil
}

// Ready reports whether the table's memory is there; see NewLater.
func (t *Table) Ready() bool { return t.ready.Load() }

// InKernel reports whether an XDP program applies the table's memos too.
func (t *Table) InKernel() bool { return t.kernel }

// Hash places a key in this table.
func (t *Table) Hash(k *Key) uint64 { return Hash(k, &t.seed) }

// A key has four places: two neighbours in each of two sets.
func (t *Table) first(hash uint64) uint64 { return hash&t.sets()<<1 | hash>>63 }

func (t *Table) place(hash uint64, i int) uint64 { return placeIn(t.sets(), hash, i) }

// placeIn is the i-th place of a key among so many sets, less one.
func placeIn(sets, hash uint64, i int) uint64 {
	at := hash & sets << 1
	if i >= 2 {
		at = hash >> 32 & sets << 1
	}
	return at | (hash>>63 ^ uint64(i&1))
}

// Touch reads the line a lookup begins with, so that the misses of a batch
// overlap. The value means nothing.
func (t *Table) Touch(hash uint64) uint64 {
	return atomic.LoadUint64(&t.entries[t.first(hash)][wordRest])
}

// First is the place a lookup begins with, and 1 when it is another key's, else
// 0.
func (t *Table) First(k *Key, hash uint64) (at Place, missed int) {
	first := t.first(hash)
	differ := t.entries[first].differs(k)
	return Place(first), int((differ | -differ) >> 63)
}

// TouchOthers reads the lines that a lookup goes on with. The value means
// nothing.
func (t *Table) TouchOthers(hash uint64) uint64 {
	return atomic.LoadUint64(&t.entries[t.place(hash, 1)][wordRest]) |
		atomic.LoadUint64(&t.entries[t.place(hash, 2)][wordRest]) |
		atomic.LoadUint64(&t.entries[t.place(hash, 3)][wordRest])
}

// Place is where the memo of a key lies.
type Place uint32

// Locate finds the place of a key's memo. It is false when there is none.
func (t *Table) Locate(k *Key, hash uint64) (Place, bool) {
	at := t.first(hash)
	if t.entries[at].has(k) {
		return Place(at), true
	}
	return t.Other(k, hash)
}

// Other finds the place of a key's memo behind the first.
func (t *Table) Other(k *Key, hash uint64) (Place, bool) {
	for i := 1; i < 4; i++ {
		if at := t.place(hash, i); t.entries[at].has(k) {
			return Place(at), true
		}
	}
	return 0, false
}

func (e *entry) has(k *Key) bool { return e.differs(k) == 0 }

// differs is 0 when the entry is the key's.
func (e *entry) differs(k *Key) uint64 {
	return (atomic.LoadUint64(&e[wordRest]) ^ k.Rest) | (atomic.LoadUint64(&e[wordLo]) ^ k.Lo) | (atomic.LoadUint64(&e[wordHi]) ^ k.Hi)
}

// Memo is what a lookup found: a copy of an entry, and its route.
type Memo struct {
	Route   *Route
	nat     uint64
	viaHi   uint64
	viaLo   uint64
	entropy uint32
}

// Read copies the memo of a key from its place. It is false when it is no
// longer there, or does not hold at this time.
func (t *Table) Read(at Place, k *Key, now flow.Time, m *Memo) bool {
	e := &t.entries[at]
	control := atomic.LoadUint64(&e[wordControl])
	r := t.route(control)
	if r == nil || leaseOf(control).Before(now) || !e.has(k) {
		return false
	}
	use := atomic.LoadUint64(&e[wordUse])
	m.nat, m.viaHi, m.viaLo = atomic.LoadUint64(&e[wordNAT]), atomic.LoadUint64(&e[wordViaHi]), atomic.LoadUint64(&e[wordViaLo])
	m.Route, m.entropy = r, uint32(use>>entropyAt)
	if atomic.LoadUint64(&e[wordControl]) != control {
		return false
	}
	if t.kernel && use&forKernel == 0 {
		e.hit(use, r)
	}
	return true
}

// promoteAfter is how many packets a flow has sent by its memo in user space
// when the kernel may take it over: those who only ever send a few never get
// there.
const promoteAfter = 8

// hit counts a use of a memo that the kernel may not use yet.
func (e *entry) hit(use uint64, r *Route) {
	if r.Flags&InKernel == 0 {
		return
	}
	next := use + 1<<hitsAt
	if use>>hitsAt&hitsMask >= promoteAfter {
		next = use&^(hitsMask<<hitsAt) | forKernel
	}
	atomic.CompareAndSwapUint64(&e[wordUse], use, next)
}
