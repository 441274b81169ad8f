package memo

import (
	"testing"

	"fairlead/dataplane/flow"
)

// TestGrows: a table that has far more memory than its flows need uses little
// of it; with more flows it grows until nearly all find a place, and each of
// them is found again once it was put a second time.
func TestGrows(t *testing.T) {
	m, way := table(t, 2_000_000)
	if m.Len() != 2*beginSets {
		t.Fatalf("a new table uses %d entries", m.Len())
	}
	now := flow.Time(5000)
	round := func(flows int) (placed, found int) {
		for i := range flows {
			k := key(uint64(i), 1024)
			h := m.Hash(&k)
			if _, ok := m.Locate(&k, h); ok {
				found++
			}
			if m.Put(&k, h, way, &Grant{}, now, now+MaxLease) {
				placed++
			}
		}
		now += 1200
		return placed, found
	}
	for range 40 {
		if placed, _ := round(8000); placed < 7920 {
			t.Fatalf("%d of 8,000 have a place", placed)
		}
	}
	if m.Len() != 2*beginSets {
		t.Errorf("8,000 flows use %d entries", m.Len())
	}
	const flows = 200_000
	for range 20 {
		round(flows)
	}
	placed, found := round(flows)
	if placed < flows*99/100 || found < flows*98/100 {
		t.Errorf("of %d flows %d have a place and %d are found", flows, placed, found)
	}
	if m.Len() < 2*flows || m.Len() > 8*flows {
		t.Errorf("%d flows use %d entries", flows, m.Len())
	}
	size := m.Len()
	for range 20 {
		round(flows)
	}
	if m.Len() != size {
		t.Errorf("with the same flows it has grown from %d to %d", size, m.Len())
	}
}

// TestDropAfterGrowth: a memo that was granted before a doubling is gone after a
// drop, for those too who have not seen the doubling.
func TestDropAfterGrowth(t *testing.T) {
	m, way := table(t, 2_000_000)
	before := m.sets()
	var keys []Key
	for i := range 50_000 { // more than the first size holds; the clock stands still
		k := key(uint64(i), 7)
		if m.sets() == before && m.Put(&k, m.Hash(&k), way, &Grant{}, 1000, 2000) && m.sets() == before {
			keys = append(keys, k)
		} else if m.sets() != before {
			break
		}
	}
	if m.sets() != before<<1|1 {
		t.Fatalf("the table has %d sets in use, want twice %d", m.sets()+1, before+1)
	}
	for i := range keys {
		m.Drop(&keys[i])
	}
	for i := range keys {
		h := m.Hash(&keys[i])
		for place := range 4 {
			if e := &m.entries[placeIn(before, h, place)]; e.has(&keys[i]) && m.route(e[wordControl]) != nil {
				t.Fatalf("memo %d is still in its old place", i)
			}
		}
	}
}

// TestSizeOutlivesTheProcess: who takes the memory over uses as much of it, and
// nonsense is not believed.
func TestSizeOutlivesTheProcess(t *testing.T) {
	entries, err := hugeMemory(Bytes(1 << 20))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Entries: entries, Routes: make([]byte, RouteSize)}
	open := func() *Table {
		m, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := open()
	*m.inUse = 1<<17 - 1
	if m = open(); m.Len() != 1<<18 {
		t.Errorf("%d entries are in use", m.Len())
	}
	for _, nonsense := range []uint64{5, 1 << 40, 1<<20 - 1, ^uint64(0)} {
		*m.inUse = nonsense
		if m = open(); m.Len() != 2*beginSets {
			t.Errorf("%d gives %d entries in use", nonsense, m.Len())
		}
	}
}
