// Package cacheline finds out which cache lines of memory are written: it walks
// everything that can be reached from a value, and compares two looks at it.
// Tests prove with it that no two workers write to one line.
package cacheline

import (
	"bytes"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"
)

// Size is the length of a cache line in bytes.
const Size = 64

// region is memory that was allocated in one piece, as far as its type tells.
type region struct {
	way      string // that leads to it
	mem      []byte
	pointers bool

	before      []byte // at the last Look
	first, last int    // offsets of what was written; last is negative while there is nothing
}

func (r *region) addr() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(r.mem))) }

// Memory is all that can be reached from some values: structs and arrays behind
// pointers, slices with all of their capacity, what interfaces hold. Maps,
// channels and what functions have captured are not looked into.
type Memory struct {
	regions []*region
	seen    map[key]bool
	lines   Lines
}

type key struct {
	addr unsafe.Pointer
	typ  reflect.Type
	size int
}

// Reach adds what can be reached from a value, a pointer as a rule.
func (m *Memory) Reach(name string, value any) {
	if m.seen == nil {
		m.seen = make(map[key]bool)
	}
	m.walk(name, reflect.ValueOf(value))
}

func (m *Memory) walk(name string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() && m.add(name, v.UnsafePointer(), int(v.Type().Elem().Size()), v.Type().Elem()) {
			m.walk(name, v.Elem())
		}
	case reflect.Slice:
		t := v.Type().Elem()
		if v.Cap() == 0 || !m.add(name, v.UnsafePointer(), v.Cap()*int(t.Size()), t) || !hasPointers(t) {
			return
		}
		for i := range v.Len() {
			m.walk(fmt.Sprintf("%s[%d]", name, i), v.Index(i))
		}
	case reflect.Interface:
		if !v.IsNil() {
			m.walk(name, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); hasPointers(f.Type) {
				m.walk(name+"."+f.Name, v.Field(i))
			}
		}
	case reflect.Array:
		if !hasPointers(v.Type().Elem()) {
			return
		}
		for i := range v.Len() {
			m.walk(fmt.Sprintf("%s[%d]", name, i), v.Index(i))
		}
	}
}

func (m *Memory) add(name string, addr unsafe.Pointer, size int, t reflect.Type) bool {
	k := key{addr, t, size}
	if size == 0 || m.seen[k] {
		return false
	}
	m.seen[k] = true
	m.regions = append(m.regions, &region{way: name, mem: unsafe.Slice((*byte)(addr), size), pointers: hasPointers(t)})
	return true
}

// hasPointers reports whether values of a type lead to other memory.
func hasPointers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return t.Len() > 0 && hasPointers(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if hasPointers(t.Field(i).Type) {
				return true
			}
		}
		return false
	case reflect.Pointer, reflect.Slice, reflect.Interface, reflect.String, reflect.Map, reflect.Chan, reflect.Func, reflect.UnsafePointer:
		return true
	}
	return false
}

// Look remembers what is in memory now, and forgets what was seen before. Nobody
// may write meanwhile.
func (m *Memory) Look() {
	m.lines = make(Lines)
	for _, r := range m.regions {
		r.before, r.first, r.last = bytes.Clone(r.mem), len(r.mem), -1
	}
}

// Lines are cache lines by their number (address / Size), with the way to what
// was written in each.
type Lines map[uintptr]string

// See notes what differs from what was at the last Look. A byte that was written
// and then with what it held before is not noticed, so look often.
func (m *Memory) See() {
	for _, r := range m.regions {
		r.compare(func(first, last int) {
			if line := (r.addr() + uintptr(first)) / Size; m.lines[line] == "" {
				m.lines[line] = fmt.Sprintf("%s+%d", r.way, first)
			}
			r.first, r.last = min(r.first, first), max(r.last, last)
		})
	}
}

// Written are the lines that were seen to differ since the last Look.
func (m *Memory) Written() Lines { return m.lines }

// compare calls f with the first and the last offset in each line of the region
// that differ.
func (r *region) compare(f func(first, last int)) {
	const block = 64 * Size
	for at := 0; at < len(r.mem); {
		if end := min(len(r.mem), at+block); bytes.Equal(r.mem[at:end], r.before[at:end]) {
			at = end
			continue
		}
		end := min(len(r.mem), at+Size-int((r.addr()+uintptr(at))%Size))
		if !bytes.Equal(r.mem[at:end], r.before[at:end]) {
			last := end - 1
			for ; r.mem[at] == r.before[at]; at++ {
			}
			for ; r.mem[last] == r.before[last]; last-- {
			}
			f(at, last)
		}
		at = end
	}
}

// Both are the lines that are in both sets, described.
func Both(a, b Lines) []string {
	var both []string
	for line, way := range a {
		if other, ok := b[line]; ok {
			both = append(both, fmt.Sprintf("%#x: %s and %s", line*Size, way, other))
		}
	}
	slices.Sort(both)
	return both
}

// Crowded names the written objects of Go's heap that may share a written line
// with a neighbour, wherever the allocator puts them: those whose places are not
// whole lines apart, and that are written less than a line from an end. Memory
// that is not of the heap is given as mapped.
func (m *Memory) Crowded(mapped ...[]byte) []string {
	var crowded []string
	for _, r := range m.regions {
		place := Place(len(r.mem), r.pointers)
		if r.last < 0 || place%Size == 0 || slices.ContainsFunc(mapped, r.in) {
			continue
		}
		if r.first < Size || r.last >= len(r.mem)-Size {
			crowded = append(crowded, fmt.Sprintf("%s: %d bytes in a place of %d, written from %d to %d", r.way, len(r.mem), place, r.first, r.last))
		}
	}
	return crowded
}

func (r *region) in(mem []byte) bool {
	if len(mem) == 0 {
		return false
	}
	from := uintptr(unsafe.Pointer(unsafe.SliceData(mem)))
	return r.addr() >= from && r.addr() < from+uintptr(len(mem))
}

// Place is how many bytes of Go's heap an object of a size takes: objects of
// one class lie side by side, each at a multiple of that. Larger ones with
// pointers have a word in front (since Go 1.22).
func Place(size int, pointers bool) int {
	const headerFrom, header = 512, 8
	if pointers && size > headerFrom {
		size += header
	}
	for _, class := range classes() {
		if class >= size {
			return class
		}
	}
	const page = 8192
	return (size + page - 1) / page * page
}

// classes are the sizes of places for small objects.
var classes = sync.OnceValue(func() (sizes []int) {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	for _, class := range stats.BySize[1:] {
		sizes = append(sizes, int(class.Size))
	}
	return sizes
})

// String lists the lines' ways.
func (l Lines) String() string {
	ways := make([]string, 0, len(l))
	for _, way := range l {
		ways = append(ways, way)
	}
	slices.Sort(ways)
	return strings.Join(ways, "\n")
}
