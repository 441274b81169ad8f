package fib

import (
	"errors"
	"fmt"
	"unsafe"
)

// ErrImage is what every error of Open wraps: the memory holds no image that
// this program can use.
var ErrImage = errors.New("fib: not a usable image")

// Snapshot is an opened image. It is immutable and may be used by any number
// of goroutines. Everything it returns points into the image and is valid as
// long as the image is mapped. Indexes, IDs and references passed to its
// methods must come from the same snapshot, except for those of the lookups
// by ID.
type Snapshot struct {
	generation   uint64
	size         uint64
	settings     *Settings
	keys         [5]uint64 // of the flow hash
	locals       []Local   // open-addressing hash table by address, never full
	localIDs     []uint32  // by ID: index in locals, or NoIndex
	services     []Service
	ports        []uint64 // open-addressing hash table: port key << SlotBits | service slot, never full
	ranges       []PortMatch
	pools        []Pool
	members      []uint32
	tables       []uint16
	backends     []Backend
	nextHops     []NextHop
	interfaces   []Interface
	snats        []SNAT
	sourceRanges []SourceRange
	timeouts     []Timeouts
	names        []byte
	offsets      [sectionCount]uint64 // of the sections
}

// Size is how many bytes the image spans, spare room included.
func (s *Snapshot) Size() int { return int(s.size) }

// Used is how many bytes the records of the image take.
func (s *Snapshot) Used() int {
	n := int(headerSize)
	for i, count := range s.counts() {
		n += count * int(sectionInfo[i].size)
	}
	return n
}

// Open lays a Snapshot over an image, which must not change from then on. The
// memory may be longer than the image, as a mapping of whole pages is. Every
// reference from one record to another is checked, so that no lookup can leave
// the image later. The error wraps ErrImage.
func Open(image []byte) (*Snapshot, error) {
	s, err := open(image)
	if err == nil {
		err = s.verify()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrImage, err)
	}
	return s, nil
}

// open checks the header and lays out the sections.
func open(image []byte) (*Snapshot, error) {
	if uint64(len(image)) < headerSize {
		return nil, fmt.Errorf("%d bytes are too few for a header of %d", len(image), headerSize)
	}
	if uintptr(unsafe.Pointer(&image[0]))%8 != 0 {
		return nil, errors.New("its memory is not 8-byte aligned")
	}
	h := (*header)(unsafe.Pointer(&image[0]))
	switch {
	case h.Magic != magic:
		return nil, fmt.Errorf("it begins with %#x and not with %#x", h.Magic, uint64(magic))
	case h.Version != layoutVersion:
		return nil, fmt.Errorf("its layout version is %d, this program's %d", h.Version, layoutVersion)
	case h.Sections != uint32(sectionCount):
		return nil, fmt.Errorf("it has %d sections and not %d", h.Sections, sectionCount)
	case h.Checksum != h.checksum():
		return nil, fmt.Errorf("its header has checksum %#x and says %#x", h.checksum(), h.Checksum)
	case h.Size > uint64(len(image)):
		return nil, fmt.Errorf("it is cut off: %d of %d bytes are there", len(image), h.Size)
	}
	end := headerSize
	for i, e := range h.Section {
		info := &sectionInfo[i]
		switch {
		case e.Offset%sectionAlign != 0:
			return nil, fmt.Errorf("section %s begins at %d, not a multiple of %d", info.name, e.Offset, sectionAlign)
		case e.Count > info.maximum:
			return nil, fmt.Errorf("section %s has %d records, at most %d are allowed", info.name, e.Count, info.maximum)
		case e.Offset < end:
			return nil, fmt.Errorf("section %s begins at %d, inside what comes before it", info.name, e.Offset)
		case e.Offset > h.Size || e.Count*info.size > h.Size-e.Offset:
			return nil, fmt.Errorf("section %s with %d records at %d does not fit the image of %d bytes", info.name, e.Count, e.Offset, h.Size)
		}
		end = e.Offset + e.Count*info.size
	}
	settings := records[Settings](image, h.Section[secSettings])
	if len(settings) != 1 {
		return nil, errors.New("it has no settings")
	}
	var offsets [sectionCount]uint64
	for i := range offsets {
		offsets[i] = h.Section[i].Offset
	}
	return &Snapshot{
		generation:   h.Generation,
		size:         h.Size,
		offsets:      offsets,
		settings:     &settings[0],
		keys:         hashKeys(settings[0].HashSeed),
		locals:       records[Local](image, h.Section[secLocals]),
		localIDs:     records[uint32](image, h.Section[secLocalIDs]),
		services:     records[Service](image, h.Section[secServices]),
		ports:        records[uint64](image, h.Section[secPorts]),
		ranges:       records[PortMatch](image, h.Section[secRanges]),
		pools:        records[Pool](image, h.Section[secPools]),
		members:      records[uint32](image, h.Section[secMembers]),
		tables:       records[uint16](image, h.Section[secTables]),
		backends:     records[Backend](image, h.Section[secBackends]),
		nextHops:     records[NextHop](image, h.Section[secNextHops]),
		interfaces:   records[Interface](image, h.Section[secInterfaces]),
		snats:        records[SNAT](image, h.Section[secSNATs]),
		sourceRanges: records[SourceRange](image, h.Section[secSourceRanges]),
		timeouts:     records[Timeouts](image, h.Section[secTimeouts]),
		names:        records[byte](image, h.Section[secNames]),
	}, nil
}
