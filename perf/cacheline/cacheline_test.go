package cacheline

import (
	"slices"
	"strings"
	"testing"
)

type leaf struct{ n [16]uint64 }

type tree struct {
	own   uint64
	_     [Size]byte
	far   *leaf
	slice []leaf
	any   any
	array [2]*leaf
	skip  map[int]int
}

// TestWritten asserts that a write is found wherever a value leads to, with the
// way there, and that nothing else is.
func TestWritten(t *testing.T) {
	root := &tree{far: new(leaf), slice: make([]leaf, 2, 4), any: new(leaf), array: [2]*leaf{1: new(leaf)}, skip: map[int]int{}}
	for _, c := range []struct {
		way   string
		write func()
	}{
		{"", func() {}},
		{"root+0", func() { root.own++ }},
		{"root.far+8", func() { root.far.n[1]++ }},
		{"root.slice+256", func() { root.slice[:3][2].n[0]++ }},
		{"root.any+0", func() { root.any.(*leaf).n[0]++ }},
		{"root.array[1]+120", func() { root.array[1].n[15]++ }},
	} {
		var m Memory
		m.Reach("root", root)
		m.Look()
		c.write()
		m.See()
		if got := m.Written().String(); got != c.way {
			t.Errorf("%q was written, found is %q", c.way, got)
		}
	}
}

// TestBoth asserts that two writes to one line are found, and that two writes to
// two are not.
func TestBoth(t *testing.T) {
	type counters struct {
		a uint64
		b uint64
		_ [Size]byte
		c uint64
	}
	all := make([]counters, 64) // a whole number of lines from the beginning of one
	shared := &all[0]
	written := func(p *uint64) Lines {
		var m Memory
		m.Reach("shared", shared)
		m.Look()
		*p++
		m.See()
		return m.Written()
	}
	a, b, c := written(&shared.a), written(&shared.b), written(&shared.c)
	if both := Both(a, b); len(both) != 1 || !strings.HasSuffix(both[0], ": shared+0 and shared+8") {
		t.Errorf("two counters of one line: %v", both)
	}
	if both := Both(a, c); both != nil {
		t.Errorf("two counters of two lines: %v", both)
	}
}

// TestCrowded asserts that a written object is named which may lie in a line
// with a neighbour, and no other.
func TestCrowded(t *testing.T) {
	type small struct{ n [10]uint64 }
	type padded struct {
		_ [Size]byte
		n uint64
		_ [Size]byte
	}
	type whole struct{ n [16]uint64 }
	root := &struct {
		_       [512]byte
		a, b    *small
		c       *whole
		d       []byte
		e       *padded
		written uint64
	}{a: new(small), b: new(small), c: new(whole), d: make([]byte, 80), e: new(padded)}
	var m Memory
	m.Reach("root", root)
	m.Look()
	root.a.n[0]++
	root.c.n[0]++
	root.d[0]++
	root.e.n++
	root.written++
	m.See()
	root.a.n[0]--
	want := []string{"root.a: 80 bytes in a place of 80, written from 0 to 0"}
	if got := m.Crowded(root.d); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestPlace asserts what the other tests rely on, by what the allocator does.
func TestPlace(t *testing.T) {
	for _, c := range []struct {
		size, place int
		pointers    bool
	}{{8, 8, false}, {152, 160, true}, {192, 192, true}, {481, 512, true}, {513, 576, true}, {512, 512, true}, {1024, 1152, true}, {40000, 40960, true}} {
		if got := Place(c.size, c.pointers); got != c.place {
			t.Errorf("%d bytes, pointers %v: %d, want %d", c.size, c.pointers, got, c.place)
		}
	}
}
