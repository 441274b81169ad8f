package fib

import (
	"cmp"
	"net/netip"
	"slices"

	"fairlead/dataplane/packet"
)

// SourceRangeFrom converts a prefix.
func SourceRangeFrom(p netip.Prefix) SourceRange {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	r := SourceRange{Addr: packet.AddrFrom(p.Addr()), Bits: uint32(bits)}
	r.Addr = r.masked()
	return r
}

// masked is the range's address with the bits after the prefix cleared.
func (r *SourceRange) masked() packet.Addr {
	switch {
	case r.Bits == 0:
		return packet.Addr{}
	case r.Bits <= 64:
		return packet.Addr{Hi: r.Addr.Hi &^ (1<<(64-r.Bits) - 1)}
	case r.Bits < 128:
		return packet.Addr{Hi: r.Addr.Hi, Lo: r.Addr.Lo &^ (1<<(128-r.Bits) - 1)}
	}
	return r.Addr
}

// SortRanges brings the ranges of one service into the form the image wants:
// sorted by address, with those left out that lie inside another.
func SortRanges(ranges []SourceRange) []SourceRange {
	out := slices.Clone(ranges)
	slices.SortFunc(out, func(a, b SourceRange) int {
		return cmp.Or(compareAddr(a.Addr, b.Addr), cmp.Compare(a.Bits, b.Bits))
	})
	n := 0
	for i := range out {
		if n > 0 && out[n-1].Contains(out[i].Addr) {
			continue
		}
		out[n] = out[i]
		n++
	}
	return out[:n]
}
