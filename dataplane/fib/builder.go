package fib

// Builder holds the parts of an image while they are put together. Services
// and Backends lie at the slots of their IDs; Members are slots of Backends;
// everything else that refers to something does so by its index in the slice
// here. The order of Locals and of Matches means nothing: Encode builds the
// indexes. A Builder does not check what is put in; Encode does.
type Builder struct {
	Settings     Settings
	Locals       []Local
	Services     []Service
	Matches      []PortMatch
	Pools        []Pool
	Members      []uint32   // slots in Backends, pool after pool
	Tables       []uint16   // indexes into the members of the pool, table after table; pools may share a table
	TableList    [][]uint16 // further tables, which come after Tables one after the other
	Backends     []Backend
	NextHops     []NextHop
	Interfaces   []Interface
	SNATs        []SNAT
	SourceRanges []SourceRange // per service sorted by address, without overlaps
	Timeouts     []Timeouts
	Names        []byte

	// Spare is for how many more records there is room in images that can be
	// patched.
	Spare Spare

	names map[string]NameRef
}

// Spare are numbers of records that an image has room for beyond those it has.
// Room that is not used takes no memory.
type Spare struct {
	Pools, Members, Tables, Backends, NextHops, Names int
}

// tables is how many table entries there are.
func (b *Builder) tables() int {
	n := len(b.Tables)
	for _, t := range b.TableList {
		n += len(t)
	}
	return n
}

// OwnName adds a string to Names, even if it is there already: whoever refers
// to it has it alone.
func (b *Builder) OwnName(s string) NameRef {
	ref := NameRef{Offset: uint32(len(b.Names)), Length: uint32(len(s))}
	b.Names = append(b.Names, s...)
	return ref
}

// Name adds a string to Names, once however often it is added, and returns
// where it is.
func (b *Builder) Name(s string) NameRef {
	if ref, ok := b.names[s]; ok {
		return ref
	}
	if b.names == nil {
		b.names = make(map[string]NameRef)
	}
	ref := b.OwnName(s)
	b.names[s] = ref
	return ref
}
