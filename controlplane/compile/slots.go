package compile

import "slices"

// slots hands out numbered places to whatever is identified by a K, from one
// compilation to the next: who stays keeps its place, a place that becomes free
// waits before another gets it, and the epoch tells its owners apart.
type slots[K comparable] struct {
	live   map[K]uint32 // by owner
	epochs []uint8      // by slot: of its present or last owner, 1 to 255
	free   []uint32     // slots without an owner, the one free for longest first
}

// rules are what holds for one kind of slot.
type rules struct {
	what  string
	first uint32 // number of the first slot
	limit uint32 // one more than the last slot may have
	rest  int    // a free slot is taken again only when more than so many are free, or no fresh one is left
}

// round is the assignment of slots in one compilation. It leaves the slots it
// began from as they are.
type round[K comparable] struct {
	before *slots[K]
	next   slots[K]
	supply supply
}

func begin[K comparable](before *slots[K], r rules) *round[K] {
	epochs := slices.Clone(before.epochs)
	if len(epochs) == 0 {
		epochs = make([]uint8, r.first)
	}
	out := &round[K]{
		before: before,
		next:   slots[K]{live: make(map[K]uint32, len(before.live)), epochs: epochs},
	}
	out.supply = supply{rules: r, epochs: &out.next.epochs, free: before.free}
	return out
}

// slot gives the owner its slot and epoch: those it has, or new ones. Slots
// that lose their owner in this round are not given out in it.
func (r *round[K]) slot(owner K) (slot uint32, epoch uint8, err error) {
	slot, ok := r.next.live[owner]
	if !ok {
		if slot, ok = r.before.live[owner]; !ok {
			if slot, err = r.supply.next(); err != nil {
				return 0, 0, err
			}
		}
		r.next.live[owner] = slot
	}
	return slot, r.next.epochs[slot], nil
}

// end gives the slots for the next round.
func (r *round[K]) end() slots[K] {
	freed := make([]uint32, 0, max(0, len(r.before.live)-len(r.next.live)))
	for owner, slot := range r.before.live {
		if _, stays := r.next.live[owner]; !stays {
			freed = append(freed, slot)
		}
	}
	slices.Sort(freed)
	r.next.free = slices.Concat(r.before.free[r.supply.taken:], freed)
	return r.next
}
