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
	Members      []uint32 // slots in Backends, pool after pool
	Tables       []uint16 // indexes into the members of the pool, table after table; pools may share a table
	Backends     []Backend
	NextHops     []NextHop
	Interfaces   []Interface
	SNATs        []SNAT
	SourceRanges []SourceRange // per service sorted by address, without overlaps
	Timeouts     []Timeouts
	Names        []byte

	names map[string]NameRef
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
	ref := NameRef{Offset: uint32(len(b.Names)), Length: uint32(len(s))}
	b.Names = append(b.Names, s...)
	b.names[s] = ref
	return ref
}
