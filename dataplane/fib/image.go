package fib

import (
	"hash/crc32"
	"unsafe"
)

// An image is a header and sections in a fixed order, each a packed array of
// records that begins at a multiple of sectionAlign (a cache line).
//
//	header | settings | locals | local IDs | services | ports | ranges | pools
//	| members | tables | backends | next hops | interfaces | SNATs
//	| source ranges | timeouts | names
//
// Three sections are indexes, laid out for looking up and not for listing:
// locals is an open-addressing hash table of Local records by address, ports
// one of packed words by exact port, and local IDs gives a Local's place by ID.

const (
	magic         = 0x4649424c52414946 // "FIARLBIF" in memory order; tells a FIB image from anything else
	layoutVersion = 3                  // raised with every change of a record or of an index's hash function
	sectionAlign  = 64
)

// section names a section by its place in the image.
type section int

const (
	secSettings section = iota
	secLocals
	secLocalIDs
	secServices
	secPorts
	secRanges
	secPools
	secMembers
	secTables
	secBackends
	secNextHops
	secInterfaces
	secSNATs
	secSourceRanges
	secTimeouts
	secNames
	sectionCount
)

// sectionInfo is what is fixed about each section: its name in errors, the
// size of its records and how many it may have at most.
var sectionInfo = [sectionCount]struct {
	name    string
	size    uint64
	maximum uint64
}{
	secSettings:     {"settings", uint64(unsafe.Sizeof(Settings{})), 1},
	secLocals:       {"locals", uint64(unsafe.Sizeof(Local{})), 1 << 18},
	secLocalIDs:     {"local IDs", 4, 1 << 16},
	secServices:     {"services", uint64(unsafe.Sizeof(Service{})), 1 << SlotBits},
	secPorts:        {"ports", 8, 1 << 26},
	secRanges:       {"ranges", uint64(unsafe.Sizeof(PortMatch{})), 1 << SlotBits},
	secPools:        {"pools", uint64(unsafe.Sizeof(Pool{})), 1 << SlotBits},
	secMembers:      {"members", 4, 1 << SlotBits},
	secTables:       {"tables", 2, 1<<32 - 1},
	secBackends:     {"backends", uint64(unsafe.Sizeof(Backend{})), 1 << SlotBits},
	secNextHops:     {"next hops", uint64(unsafe.Sizeof(NextHop{})), 1 << SlotBits},
	secInterfaces:   {"interfaces", uint64(unsafe.Sizeof(Interface{})), 1 << 16},
	secSNATs:        {"SNATs", uint64(unsafe.Sizeof(SNAT{})), 1 << 16},
	secSourceRanges: {"source ranges", uint64(unsafe.Sizeof(SourceRange{})), 1 << 28},
	secTimeouts:     {"timeouts", uint64(unsafe.Sizeof(Timeouts{})), 1 << SlotBits},
	secNames:        {"names", 1, 1<<32 - 1},
}

// header is the start of an image.
type header struct {
	Magic      uint64
	Generation uint64
	Size       uint64 // of the image in bytes
	Version    uint32 // layoutVersion
	Sections   uint32 // sectionCount
	Section    [sectionCount]extent
	Checksum   uint32 // of the header up to here
	_          uint32
}

// extent is where a section lies.
type extent struct {
	Offset uint64 // bytes from the start of the image, a multiple of sectionAlign
	Count  uint64 // records
}

const headerSize = uint64(unsafe.Sizeof(header{}))

// checksum covers every byte of the header before the checksum itself.
func (h *header) checksum() uint32 {
	b := unsafe.Slice((*byte)(unsafe.Pointer(h)), unsafe.Offsetof(h.Checksum))
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}

// headerAt is the header at the beginning of an image's memory.
func headerAt(image []byte) *header { return (*header)(unsafe.Pointer(&image[0])) }

// align rounds a size up to where a section may begin.
func align(n uint64) uint64 { return (n + sectionAlign - 1) &^ (sectionAlign - 1) }

// records lays a slice of records over a section of the image. The caller has
// checked that the section lies inside the image and that the image's base is
// aligned.
func records[T any](image []byte, e extent) []T {
	if e.Count == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&image[e.Offset])), e.Count)
}
