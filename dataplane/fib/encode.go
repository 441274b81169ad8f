package fib

import (
	"cmp"
	"fmt"
	"slices"
	"unsafe"
)

// Encode writes the image with the given generation into fresh memory. It
// fails when the image would not pass Open.
func (b *Builder) Encode(generation uint64) ([]byte, error) {
	p, err := b.plan(false)
	if err != nil {
		return nil, err
	}
	image := alignedBytes(p.size)
	_, err = p.write(image, generation)
	return image, err
}

// Size is the size of the image in bytes.
func (b *Builder) Size() (int, error) {
	p, err := b.plan(false)
	if err != nil {
		return 0, err
	}
	return int(p.size), nil
}

// EncodeTo writes the image to the beginning of zeroed memory, such as a fresh
// memfd's mapping, whose base is 8-byte aligned, and returns its size.
func (b *Builder) EncodeTo(memory []byte, generation uint64) (int, error) {
	p, err := b.plan(false)
	if err != nil {
		return 0, err
	}
	if uint64(len(memory)) < p.size {
		return 0, fmt.Errorf("fib: the image has %d bytes and the memory for it %d", p.size, len(memory))
	}
	if uintptr(unsafe.Pointer(unsafe.SliceData(memory)))%8 != 0 {
		return 0, fmt.Errorf("fib: the memory for the image is not 8-byte aligned")
	}
	_, err = p.write(memory[:p.size], generation)
	return int(p.size), err
}

// plan is an image to be written: the builder's parts, the indexes made of
// them and where each section comes to lie.
type plan struct {
	b       *Builder
	locals  []Local
	ids     []uint32
	ports   []uint64
	ranges  []PortMatch
	extents [sectionCount]extent
	size    uint64
}

// plan lays the image out, with the builder's spare room or without.
func (b *Builder) plan(spare bool) (*plan, error) {
	p := &plan{b: b}
	if err := p.index(); err != nil {
		return nil, err
	}
	counts := [sectionCount]int{
		secSettings:     1,
		secLocals:       len(p.locals),
		secLocalIDs:     len(p.ids),
		secServices:     len(b.Services),
		secPorts:        len(p.ports),
		secRanges:       len(p.ranges),
		secPools:        len(b.Pools),
		secMembers:      len(b.Members),
		secTables:       b.tables(),
		secBackends:     len(b.Backends),
		secNextHops:     len(b.NextHops),
		secInterfaces:   len(b.Interfaces),
		secSNATs:        len(b.SNATs),
		secSourceRanges: len(b.SourceRanges),
		secTimeouts:     len(b.Timeouts),
		secNames:        len(b.Names),
	}
	room := [sectionCount]int{}
	if spare {
		room[secPools], room[secMembers], room[secTables] = b.Spare.Pools, b.Spare.Members, b.Spare.Tables
		room[secBackends], room[secNextHops], room[secNames] = b.Spare.Backends, b.Spare.NextHops, b.Spare.Names
	}
	at := align(headerSize)
	for s, n := range counts {
		info := &sectionInfo[s]
		if uint64(n) > info.maximum {
			return nil, fmt.Errorf("fib: %d %s, at most %d fit", n, info.name, info.maximum)
		}
		p.extents[s] = extent{Offset: at, Count: uint64(n)}
		at = align(at + min(uint64(n+room[s]), info.maximum)*info.size)
	}
	p.size = at
	return p, nil
}

// index builds the hash tables of addresses and of ports, both at most half
// full, and sorts the port ranges.
func (p *plan) index() error {
	b := p.b
	highest := uint16(0)
	p.locals = make([]Local, tableSizeFor(len(b.Locals)))
	for i := range b.Locals {
		l := &b.Locals[i]
		if l.ID == 0 {
			return fmt.Errorf("fib: local %s has no ID", l.Addr)
		}
		highest = max(highest, l.ID)
		at := localHash(l.Addr) & uint64(len(p.locals)-1)
		for p.locals[at].ID != 0 {
			if p.locals[at].Addr == l.Addr {
				return fmt.Errorf("fib: local %s is there twice", l.Addr)
			}
			at = (at + 1) & uint64(len(p.locals)-1)
		}
		p.locals[at] = *l
	}
	p.ids = make([]uint32, int(highest)+1)
	for i := range p.ids {
		p.ids[i] = NoIndex
	}
	for at := range p.locals {
		if id := p.locals[at].ID; id != 0 {
			if p.ids[id] != NoIndex {
				return fmt.Errorf("fib: locals %s and %s have one ID %d", p.locals[p.ids[id]].Addr, p.locals[at].Addr, id)
			}
			p.ids[id] = uint32(at)
		}
	}

	p.ports = make([]uint64, tableSizeFor(len(b.Matches)))
	for i := range b.Matches {
		m := &b.Matches[i]
		if m.Service >= 1<<SlotBits {
			return fmt.Errorf("fib: port match %d is of service slot %d, beyond the last", i, m.Service)
		}
		port := m.PortFirst
		switch {
		case m.Default != 0:
			port = 0
		case m.PortFirst == 0:
			return fmt.Errorf("fib: port match %d begins at port 0 and is no default", i)
		case m.PortFirst != m.PortLast:
			p.ranges = append(p.ranges, *m)
			continue
		}
		key := portKey(m.Local, m.Proto, port)
		at := portHash(key) & uint64(len(p.ports)-1)
		for p.ports[at] != 0 {
			if p.ports[at]>>SlotBits == key {
				return fmt.Errorf("fib: services %d and %d claim one port %d of local %d, protocol %d",
					p.ports[at]&(1<<SlotBits-1), m.Service, port, m.Local, m.Proto)
			}
			at = (at + 1) & uint64(len(p.ports)-1)
		}
		p.ports[at] = key<<SlotBits | uint64(m.Service)
	}
	slices.SortFunc(p.ranges, func(a, b PortMatch) int {
		return cmp.Compare(portKey(a.Local, a.Proto, a.PortFirst), portKey(b.Local, b.Proto, b.PortFirst))
	})
	return nil
}

// tableSizeFor is the size of an open-addressing table for n entries: a power
// of two, at least twice as many and never full.
func tableSizeFor(n int) int {
	size := 8
	for size < 2*n {
		size *= 2
	}
	return size
}

// write fills the image and opens it, so that no image leaves the control
// process that the data process would refuse.
func (p *plan) write(image []byte, generation uint64) (*Snapshot, error) {
	b := p.b
	h := headerAt(image)
	*h = header{
		Magic:      magic,
		Generation: generation,
		Size:       p.size,
		Version:    layoutVersion,
		Sections:   uint32(sectionCount),
		Section:    p.extents,
	}
	h.Checksum = h.checksum()

	put(image, p.extents[secSettings], []Settings{b.Settings})
	put(image, p.extents[secLocals], p.locals)
	put(image, p.extents[secLocalIDs], p.ids)
	put(image, p.extents[secServices], b.Services)
	put(image, p.extents[secPorts], p.ports)
	put(image, p.extents[secRanges], p.ranges)
	put(image, p.extents[secPools], b.Pools)
	put(image, p.extents[secMembers], b.Members)
	tables := records[uint16](image, p.extents[secTables])
	tables = tables[copy(tables, b.Tables):]
	for _, t := range b.TableList {
		tables = tables[copy(tables, t):]
	}
	put(image, p.extents[secBackends], b.Backends)
	put(image, p.extents[secNextHops], b.NextHops)
	put(image, p.extents[secInterfaces], b.Interfaces)
	put(image, p.extents[secSNATs], b.SNATs)
	put(image, p.extents[secSourceRanges], b.SourceRanges)
	put(image, p.extents[secTimeouts], b.Timeouts)
	put(image, p.extents[secNames], b.Names)

	return Open(image)
}

func put[T any](image []byte, e extent, from []T) {
	copy(records[T](image, e), from)
}

// alignedBytes is zeroed memory whose base is 8-byte aligned.
func alignedBytes(n uint64) []byte {
	words := make([]uint64, (n+7)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), n)
}
