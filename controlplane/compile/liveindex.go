package compile

import (
	"math/bits"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
)

// hopRecords are the next hops of an image that is patched: how many records
// refer to each, and which are free.
type hopRecords struct {
	index map[fib.NextHop]uint32
	users []int // by index
	free  []uint32
	limit int
}

func newHopRecords(b *fib.Builder, index map[fib.NextHop]uint32) hopRecords {
	h := hopRecords{index: index, users: make([]int, len(b.NextHops)), limit: len(b.NextHops) + b.Spare.NextHops}
	if h.index == nil {
		h.index = make(map[fib.NextHop]uint32)
	}
	for i := range b.Backends {
		if n := b.Backends[i].NextHop; b.Backends[i].ID != 0 && n != fib.NoIndex {
			h.users[n]++
		}
	}
	for i := range b.Interfaces {
		if n := b.Interfaces[i].Gateway; n != fib.NoIndex {
			h.users[n]++
		}
	}
	return h
}

// exchange gives up the next hop at index before, NoIndex for none, and is the
// index of the one that takes its place, if there is one.
func (h *hopRecords) exchange(t *transaction, b *fib.Builder, before uint32, hop *fib.NextHop, exists bool) (uint32, error) {
	if exists && before != fib.NoIndex && b.NextHops[before] == *hop {
		return before, nil
	}
	after := uint32(fib.NoIndex)
	if exists {
		var known bool
		if after, known = h.index[*hop]; !known {
			var err error
			if after, err = h.add(t, b, hop); err != nil {
				return 0, err
			}
		}
		set(t, &h.users[after], h.users[after]+1)
	}
	if before != fib.NoIndex {
		set(t, &h.users[before], h.users[before]-1)
		if h.users[before] == 0 {
			dropKey(t, h.index, b.NextHops[before])
			h.free = append(h.free, before)
			t.undo(func() { h.free = h.free[:len(h.free)-1] })
		}
	}
	return after, nil
}

func (h *hopRecords) add(t *transaction, b *fib.Builder, hop *fib.NextHop) (uint32, error) {
	var at uint32
	if n := len(h.free); n > 0 {
		at = h.free[n-1]
		h.free = h.free[:n-1]
		t.undo(func() { h.free = append(h.free, at) })
		set(t, &b.NextHops[at], *hop)
	} else {
		if len(b.NextHops) >= h.limit {
			return 0, ErrFull
		}
		at = uint32(len(b.NextHops))
		set(t, &h.users, append(h.users, 0))
		set(t, &b.NextHops, append(b.NextHops, *hop))
	}
	setKey(t, h.index, *hop, at)
	t.patch.SetNextHop(at, *hop)
	return at, nil
}

// addressIndex finds the slots of the backends with an address: a hash table of
// chains through the slots. Chains hold other addresses too.
type addressIndex struct {
	heads []uint32 // by hash: a slot, or NoIndex
	next  []uint32 // by slot: the next one, or NoIndex
}

func newAddressIndex(backends []fib.Backend) addressIndex {
	x := addressIndex{heads: make([]uint32, 1<<bits.Len(uint(len(backends)|63)))}
	for i := range x.heads {
		x.heads[i] = fib.NoIndex
	}
	x.next = make([]uint32, len(backends))
	for slot := range backends {
		x.next[slot] = fib.NoIndex
		if backends[slot].ID != 0 {
			head := x.head(backends[slot].Addr)
			x.next[slot], *head = *head, uint32(slot)
		}
	}
	return x
}

func (x *addressIndex) head(a packet.Addr) *uint32 {
	return &x.heads[hashAddr(a)&uint64(len(x.heads)-1)]
}

// first is the first slot of the chain that has the backends with an address.
func (x *addressIndex) first(a packet.Addr) uint32 { return *x.head(a) }

func (x *addressIndex) add(t *transaction, a packet.Addr, slot uint32) {
	for int(slot) >= len(x.next) {
		set(t, &x.next, append(x.next, fib.NoIndex))
	}
	head := x.head(a)
	set(t, &x.next[slot], *head)
	set(t, head, slot)
}

func (x *addressIndex) remove(t *transaction, a packet.Addr, slot uint32) {
	for at := x.head(a); *at != fib.NoIndex; at = &x.next[*at] {
		if *at == slot {
			set(t, at, x.next[slot])
			return
		}
	}
}
