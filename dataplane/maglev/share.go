package maglev

import (
	"math"
	"math/bits"
	"slices"
)

// A table is made for three wishes in turn: equal parts for all, which is
// Maglev (fill.go); parts by weight; and parts by what a member is due at the
// moment. Each of the last two steps turns the table before into its own by
// moving as few entries as that takes (sharing):
//
//   - a member that is due less than it was keeps as many entries as it is due,
//     those that are worth most to it (worth). So it gives the same ones up
//     again, and gets them back;
//   - an entry that was given up goes from slot to slot of the table before, by
//     a sequence of its own, until it comes to a member that is due more than
//     it was and accepts it, which depends on how much more. Other entries
//     have no say in it, so what one member gives up does not move what another
//     one gave up before;
//
// By weight there is a bound as well: no member takes more than it is due. So
// shares are exact, and when weights change some entries move beyond those that
// have to. For what changes by the hour, health and slow starts, there is none:
// only entries of the member concerned move, and shares vary with chance.

// probes is after how many slots the search for a member that accepts ends.
// When a tenth of the members take, a thousandth of the entries come so far.
const probes = 64

// byDue turns the table of equal parts into that of the members' own.
func byDue(entries []uint16, members []Member, seed [2]uint64) {
	parts := make([]uint64, 3*len(members))
	equal, weights, due := parts[:len(members)], parts[len(members):2*len(members)], parts[2*len(members):]
	common := divisor(members)
	for i := range members {
		equal[i], weights[i], due[i] = 1, uint64(members[i].Weight/common), members[i].due(common)
	}
	if !slices.ContainsFunc(weights, func(w uint64) bool { return w > 0 }) {
		return
	}
	share(entries, equal, weights, true, seed)
	share(entries, weights, due, false, seed)
}

// sharing is one step: from the parts that were to those that are to be. Parts
// are what members' numbers of entries are proportional to, below 2^26.
type sharing struct {
	entries        []uint16 // the result
	before         []uint16 // the table as it was, for the search
	was, due       []uint64 // parts, by member
	sumWas, sumDue uint64
	seed           [2]uint64
	counts         []int    // entries by member, at present
	most           []int    // entries that a taker may have
	accepts        []uint64 // by taker: how often, in 2^32nds; 0: it takes none
	takers         []uint16
}

// share changes a table from parts that were to parts that are due.
func share(entries []uint16, was, due []uint64, bounded bool, seed [2]uint64) {
	s := &sharing{entries: entries, was: was, due: due, seed: seed}
	for i := range was {
		s.sumWas += was[i]
		s.sumDue += due[i]
	}
	s.findTakers(bounded)
	if len(s.takers) == 0 {
		return // all parts are as they were
	}
	s.before = slices.Clone(entries)
	s.counts = make([]int, len(was))
	for _, owner := range entries {
		s.counts[owner]++
	}
	given := s.give()
	// The order decides whom a bound refuses, so it is the same everywhere.
	slices.Sort(given)
	for _, e := range given {
		s.entries[e.slot()] = s.taker(e)
	}
}

// findTakers finds the members that are due more than they were.
func (s *sharing) findTakers(bounded bool) {
	s.most, s.accepts = make([]int, len(s.was)), make([]uint64, len(s.was))
	greatest := uint64(0)
	for i := range s.was {
		// Those that come into question are met as often as their part was.
		if up, down := s.due[i]*s.sumWas, s.was[i]*s.sumDue; up > down { // both below 2^58
			s.takers = append(s.takers, uint16(i))
			s.accepts[i] = max(1, (up-down)<<5/max(1, s.was[i]))
			greatest = max(greatest, s.accepts[i])
			if s.most[i] = math.MaxInt; bounded {
				s.most[i] = s.entriesDue(i)
			}
		}
	}
	for _, i := range s.takers {
		hi, lo := bits.Mul64(s.accepts[i], 1<<32)
		if hi >= greatest {
			s.accepts[i] = 1 << 32
			continue
		}
		q, _ := bits.Div64(hi, lo, greatest)
		s.accepts[i] = max(1, q)
	}
}

// entriesDue is how many entries a member is due, in whole ones, and at least
// one when it is due any.
func (s *sharing) entriesDue(i int) int {
	if s.due[i] == 0 {
		return 0
	}
	hi, lo := bits.Mul64(s.due[i], uint64(len(s.entries)))
	q, r := bits.Div64(hi, lo, s.sumDue)
	if r >= s.sumDue-r {
		q++
	}
	return max(1, int(q))
}

// entry is a slot of the table, in the low 32 bits, and what it is worth to its
// owner, in the high ones. It is random, and the same on every node.
type entry uint64

func (s *sharing) entry(slot int) entry {
	worth := next(next(uint64(slot)^s.seed[0]) ^ s.seed[1])
	return entry(worth&^(1<<32-1) | uint64(slot))
}

func (e entry) slot() uint32 { return uint32(e) }

// give takes from the members that are due less than they were what they have
// too much.
func (s *sharing) give() (given []entry) {
	have := make([][]entry, len(s.due))
	for i := range s.due {
		if s.due[i]*s.sumWas < s.was[i]*s.sumDue && s.counts[i] > s.entriesDue(i) {
			have[i] = make([]entry, 0, s.counts[i])
		}
	}
	for slot, owner := range s.entries {
		if have[owner] != nil {
			have[owner] = append(have[owner], s.entry(slot))
		}
	}
	for i, list := range have {
		if list == nil {
			continue
		}
		slices.Sort(list)
		surplus := len(list) - s.entriesDue(i)
		given = append(given, list[:surplus]...)
		s.counts[i] -= surplus
	}
	return given
}

// taker finds the member that an entry goes to.
func (s *sharing) taker(e entry) uint16 {
	at := uint64(e)
	for range probes {
		at = next(at)
		m := s.before[reduce32(uint32(at>>32), uint32(len(s.before)))]
		if at&(1<<32-1) < s.accepts[m] && s.counts[m] < s.most[m] {
			s.counts[m]++
			return m
		}
	}
	// Nobody on the way: the first taker, from a random one on, that has room.
	first := int(reduce32(uint32(next(at)>>32), uint32(len(s.takers))))
	found := s.takers[first]
	for i := range s.takers {
		if m := s.takers[(first+i)%len(s.takers)]; s.counts[m] < s.most[m] {
			found = m
			break
		}
	}
	s.counts[found]++
	return found
}

// next is the next number of a sequence (splitmix64: Steele, Lea, Flood, 2014).
func next(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// reduce32 maps a 32-bit number evenly to 0 to n-1 (Lemire, 2019).
func reduce32(x, n uint32) uint32 { return uint32(uint64(x) * uint64(n) >> 32) }
