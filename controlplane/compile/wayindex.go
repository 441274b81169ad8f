package compile

import (
	"math/bits"
	"net/netip"

	"fairlead/controlplane/model"
	"fairlead/dataplane/packet"
)

// wayIndex finds ways by address as observed does, in a fraction of the time: a
// compact open-addressing table of addresses, most of which share a few ways.
// It is made for one compilation of a large state.
type wayIndex struct {
	addrs    []packet.Addr
	ways     []uint32 // by place in addrs: index in distinct plus 1, 0 for none
	distinct []model.NextHop
}

// manyWays is from how many on an index is worth making.
const manyWays = 10_000

// indexWays makes the index, nil when there are few. Addresses that no backend
// can have (model.Validate) are left out.
func indexWays(observed map[netip.Addr]model.NextHop) *wayIndex {
	if len(observed) < manyWays {
		return nil
	}
	size := 1 << bits.Len(uint(2*len(observed)))
	x := &wayIndex{addrs: make([]packet.Addr, size), ways: make([]uint32, size)}
	known := make(map[model.NextHop]uint32)
	for a, way := range observed {
		if a.Is4In6() || a.Zone() != "" {
			continue
		}
		n, ok := known[way]
		if !ok {
			x.distinct = append(x.distinct, way)
			n = uint32(len(x.distinct))
			known[way] = n
		}
		key := addr(a)
		at := x.place(key)
		for x.ways[at] != 0 {
			at = (at + 1) & uint64(size-1)
		}
		x.addrs[at], x.ways[at] = key, n
	}
	return x
}

func (x *wayIndex) place(a packet.Addr) uint64 { return hashAddr(a) & uint64(len(x.addrs)-1) }

// find is the index of an address's way in distinct.
func (x *wayIndex) find(a packet.Addr) (uint32, bool) {
	for at := x.place(a); x.ways[at] != 0; at = (at + 1) & uint64(len(x.addrs)-1) {
		if x.addrs[at] == a {
			return x.ways[at] - 1, true
		}
	}
	return 0, false
}

// hashAddr spreads addresses over tables that no stranger chooses the contents
// of. Its low bits are of use.
func hashAddr(a packet.Addr) uint64 {
	hi, lo := bits.Mul64(a.Hi^0x9e3779b97f4a7c15, a.Lo^0xc2b2ae3d27d4eb4f)
	return ((hi ^ lo ^ a.Lo) * 0xff51afd7ed558ccd) >> 32
}
