package compile

import (
	"fmt"
	"slices"
)

// owners are the identities of backends: the slots of IDs.backends, kept by
// pool, so that a pool's can be changed without looking at any other's, and a
// million of them are kept without a million entries of a map.
type owners struct {
	pools  map[string][]owned // by pool name, sorted by end; no list is empty
	epochs []uint8            // by slot: of its present or last owner, 1 to 255
	free   []uint32           // slots without an owner, the one free for longest first
}

// owned is one backend's slot.
type owned struct {
	end  end
	slot uint32
}

// ownersRound is the assignment of backend slots in one compilation. It keeps
// the rules of slots and leaves the owners it began from as they are.
type ownersRound struct {
	before *owners
	next   owners
	supply supply
	freed  []uint32
}

// backendRules hold for backend slots.
var backendRules = rules{what: "backend ID", limit: maxSlots, rest: resting}

func beginOwners(before *owners) *ownersRound {
	r := &ownersRound{before: before}
	r.next = owners{pools: make(map[string][]owned, len(before.pools)), epochs: slices.Clone(before.epochs)}
	r.supply = supply{rules: backendRules, epochs: &r.next.epochs, free: before.free}
	return r
}

// assign gives each member of a pool its slot, in their order. A pool is asked
// for at most once in a round.
func (r *ownersRound) assign(pool string, members []member, slots []uint32) ([]uint32, error) {
	slots, next, freed, err := assign(r.before.pools[pool], members, slots, r.supply.next)
	if len(next) > 0 {
		r.next.pools[pool] = next
	}
	r.freed = append(r.freed, freed...)
	return slots, err
}

// end gives the owners for the next round.
func (r *ownersRound) end() owners {
	for name, list := range r.before.pools {
		if _, stays := r.next.pools[name]; !stays {
			for i := range list {
				r.freed = append(r.freed, list[i].slot)
			}
		}
	}
	slices.Sort(r.freed)
	r.freed = slices.Compact(r.freed) // a pool without members was freed when it was asked for
	r.next.free = slices.Concat(r.before.free[r.supply.taken:], r.freed)
	return r.next
}

// assign finds the members' slots among those that their pool has, or has new
// ones made, and appends them to slots. next is what the pool has then, freed
// the slots that have lost their owner.
func assign(before []owned, members []member, slots []uint32, fresh func() (uint32, error)) (_ []uint32, next []owned, freed []uint32, err error) {
	next = make([]owned, len(members))
	for i := range members {
		e := members[i].end
		var slot uint32
		if at, known := slices.BinarySearchFunc(before, e, func(o owned, e end) int { return o.end.compare(e) }); known {
			slot = before[at].slot
		} else if slot, err = fresh(); err != nil {
			return slots, nil, nil, err
		}
		next[i] = owned{e, slot}
		slots = append(slots, slot)
	}
	byEnd := func(a, b owned) int { return a.end.compare(b.end) }
	if !slices.IsSortedFunc(next, byEnd) {
		slices.SortFunc(next, byEnd)
	}
	at := 0
	for i := range before {
		for at < len(next) && next[at].end.compare(before[i].end) < 0 {
			at++
		}
		if at == len(next) || next[at].end != before[i].end {
			freed = append(freed, before[i].slot)
		}
	}
	return slots, next, freed, nil
}

// supply makes slots: free ones, when more of them are free than have to rest,
// or else ones that nobody ever had.
type supply struct {
	rules
	epochs *[]uint8
	free   []uint32 // as of the beginning of the round
	taken  int      // off free
}

func (s *supply) next() (uint32, error) {
	fresh := uint32(len(*s.epochs))
	free := s.free[s.taken:]
	switch {
	case len(free) > 0 && (len(free) > s.rest || fresh >= s.limit):
		s.taken++
		(*s.epochs)[free[0]] = epochAfter((*s.epochs)[free[0]])
		return free[0], nil
	case fresh < s.limit:
		*s.epochs = append(*s.epochs, 1)
		return fresh, nil
	}
	return 0, fmt.Errorf("no %s is left: all %d are in use or were until now", s.what, s.limit-s.first)
}

// epochAfter is the epoch of a slot's next owner.
func epochAfter(epoch uint8) uint8 {
	if epoch == 255 {
		return 1
	}
	return epoch + 1
}
