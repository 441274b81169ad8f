package fib

import (
	"errors"
	"fmt"
	"unsafe"
)

// ErrNoRoom is what every error of a patch wraps that asks for records beyond
// an image's room. A full image has to take its place.
var ErrNoRoom = errors.New("fib: no room in the image")

// Patch is what changes from one generation to the next: records to be written
// over others or, as far as the image has room, after the last. A later write
// wins over an earlier one. The zero Patch changes nothing but the generation.
//
// Services, addresses, ports, settings and all that belongs to them cannot be
// patched.
type Patch struct {
	writes []patchWrite
}

// patchWrite is a run of records of one section.
type patchWrite struct {
	section section
	first   uint32
	count   uint32
	bytes   []byte // of the records; only read
}

// Empty reports whether the patch writes nothing.
func (p *Patch) Empty() bool { return len(p.writes) == 0 }

// Size is how many bytes the patch writes.
func (p *Patch) Size() int {
	n := 0
	for i := range p.writes {
		n += len(p.writes[i].bytes)
	}
	return n
}

// Backends are the slots of the backends that the patch writes.
func (p *Patch) Backends(yield func(slot uint32) bool) {
	for i := range p.writes {
		w := &p.writes[i]
		for at := uint32(0); w.section == secBackends && at < w.count; at++ {
			if !yield(w.first + at) {
				return
			}
		}
	}
}

// SetPool writes a pool's record.
func (p *Patch) SetPool(i uint32, pool Pool) { put1(p, secPools, i, pool) }

// SetBackend writes a backend's record at its slot; the zero Backend frees it.
func (p *Patch) SetBackend(slot uint32, b Backend) { put1(p, secBackends, slot, b) }

// SetNextHop writes a next hop.
func (p *Patch) SetNextHop(i uint32, n NextHop) { put1(p, secNextHops, i, n) }

// SetInterface writes an interface that the image has.
func (p *Patch) SetInterface(i uint32, in Interface) { put1(p, secInterfaces, i, in) }

// SetMembers writes slots from an index of Members on. They must not change
// before the patch has been used.
func (p *Patch) SetMembers(first uint32, slots []uint32) { putRun(p, secMembers, first, slots) }

// SetTable writes a Maglev table from an index of Tables on. The entries must
// not change before the patch has been used.
func (p *Patch) SetTable(first uint32, entries []uint16) { putRun(p, secTables, first, entries) }

// SetName writes a string from an offset of Names on.
func (p *Patch) SetName(offset uint32, name string) { putRun(p, secNames, offset, []byte(name)) }

func put1[T any](p *Patch, s section, at uint32, record T) { putRun(p, s, at, []T{record}) }

func putRun[T any](p *Patch, s section, first uint32, run []T) {
	if len(run) == 0 {
		return
	}
	size := len(run) * int(unsafe.Sizeof(run[0]))
	p.writes = append(p.writes, patchWrite{s, first, uint32(len(run)), unsafe.Slice((*byte)(unsafe.Pointer(&run[0])), size)})
}

// Range is a run of records of one section of an image.
type Range struct {
	Section uint32
	First   uint32
	Count   uint32
}

// end is one more than the last record.
func (r *Range) end() uint64 { return uint64(r.First) + uint64(r.Count) }

// patchable are the sections that a patch may write to, and whether it may
// write after their last record.
var patchable = [sectionCount]struct{ write, grow bool }{
	secPools:      {true, true},
	secMembers:    {true, true},
	secTables:     {true, true},
	secBackends:   {true, true},
	secNextHops:   {true, true},
	secNames:      {true, true},
	secInterfaces: {true, false},
}

// room is how many records a section may have where it lies.
func (h *header) room(s section) uint64 {
	end := h.Size
	if s+1 < sectionCount {
		end = h.Section[s+1].Offset
	}
	return min((end-h.Section[s].Offset)/sectionInfo[s].size, sectionInfo[s].maximum)
}

// fits says what of the patch has no room in the image; nothing is written yet.
func (p *Patch) fits(h *header) error {
	for i := range p.writes {
		w := &p.writes[i]
		room := h.Section[w.section].Count
		if patchable[w.section].grow {
			room = h.room(w.section)
		}
		if end := uint64(w.first) + uint64(w.count); end > room {
			return fmt.Errorf("%w: %d %s, there is room for %d", ErrNoRoom, end, sectionInfo[w.section].name, room)
		}
	}
	return nil
}

// write puts the patch into an image in which it fits, and gives the image its
// generation. Records that a section grows by without being written are zero.
func (p *Patch) write(image []byte, generation uint64) (written []Range) {
	h := headerAt(image)
	for i := range p.writes {
		w := &p.writes[i]
		e, size := &h.Section[w.section], sectionInfo[w.section].size
		at := func(record uint64) uint64 { return e.Offset + record*size }
		if gap := uint64(w.first); gap > e.Count {
			clear(image[at(e.Count):at(gap)])
			written = append(written, Range{uint32(w.section), uint32(e.Count), uint32(gap - e.Count)})
		}
		copy(image[at(uint64(w.first)):], w.bytes)
		e.Count = max(e.Count, uint64(w.first)+uint64(w.count))
		written = append(written, Range{uint32(w.section), w.first, w.count})
	}
	h.Generation = generation
	h.Checksum = h.checksum()
	return written
}
