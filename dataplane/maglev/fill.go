package maglev

import (
	"math/bits"
	"slices"

	"github.com/dchest/siphash"
)

// siphashKey is the key that go-maglev hashes names with. The seed is part of
// the names, so the key may be known.
const siphashKey = 0xdeadbeefcafebabe

// walk is one name's permutation of the table's slots: every skip-th slot from
// its offset on (paper section 3.4).
type walk struct {
	at    uint32 // the next slot it asks for
	skip  uint32 // 1 to size-1
	owner uint16 // the member whose name it is
}

// newWalk derives a name's permutation of size slots from its hash.
func newWalk(name []byte, owner uint16, size uint32) walk {
	h := siphash.Hash(siphashKey, 0, name)
	return walk{at: uint32((h >> 32) % uint64(size)), skip: uint32(h&0xffffffff%uint64(size-1)) + 1, owner: owner}
}

// fill lets the walks take turns; each takes the next slot of its permutation
// that is still free, until none is (paper section 3.4, pseudocode 1). The
// result is that of go-maglev, slot by slot. Once few slots are free, a walk's
// next free one is computed instead of walked to: walking to the last hundred
// of 16,001 would be more than half of all steps.
func (b *builder) fill(size uint32) []uint16 {
	walks := b.walks
	entries := make([]uint16, size)
	b.taken = slices.Grow(b.taken[:0], int(size))[:size]
	clear(b.taken)
	taken := b.taken
	for left, few := int(size), fewFor(size); left > few; {
		n := min(left, len(walks))
		turn(walks[:n], taken, entries)
		if left -= n; left == 0 {
			return entries
		}
	}
	rest := b.rest[:0]
	for at := range size {
		if !taken[at] {
			rest = append(rest, at)
		}
	}
	b.rest = rest
	fillRest(walks, size, rest, entries)
	return entries
}

// turn lets each walk take its next free slot, of which there are enough. It is
// where the time goes: a function of its own, so that all it needs is in
// registers.
//
//go:noinline
func turn(walks []walk, taken []bool, entries []uint16) {
	size := int32(len(taken))
	entries = entries[:len(taken)]
	for i := range walks {
		w := &walks[i]
		at, back := w.at, int32(w.skip)-size
		for taken[at] {
			// at+skip modulo size without a branch: whether it wraps around is as
			// good as random, and a wrong guess would cost more than the step.
			past := int32(at) + back
			at = uint32(past + size&(past>>31))
		}
		taken[at] = true
		entries[at] = w.owner
		past := int32(at) + back
		w.at = uint32(past + size&(past>>31))
	}
}

// fewFor is how many slots are few: searching n free slots costs n short steps,
// walking to one of them size/n long ones on average.
func fewFor(size uint32) int {
	n := 1
	for n*n < 3*int(size) {
		n++
	}
	return n
}

// fillRest goes on, with the first walk, where no more than a few slots, the
// rest, are free.
//
// From where it is, at, a walk comes to slot c after (c-at)/skip steps modulo
// size, of which only the order matters. So each walk has the fraction
// 1/(skip*size), modulo 1 and in units of 2^-64, rounded up: multiplied with
// c-at, its excess over a whole number grows with the steps. The rounding adds
// less than 2*size units; one step is 2^64/size.
func fillRest(walks []walk, size uint32, rest []uint32, entries []uint16) {
	fractions := make([]uint64, min(len(walks), len(rest)))
	for i := range fractions {
		quotient, _ := bits.Div64(uint64(inverse(walks[i].skip, size)), 0, uint64(size))
		fractions[i] = quotient + 1
	}
	for turn := 0; len(rest) > 0; turn++ {
		i := turn % len(walks)
		w, fraction := &walks[i], fractions[i]
		from := size - w.at
		nearest, least := 0, ^uint64(0)
		for n, at := range rest {
			if steps := uint64(at+from) * fraction; steps < least {
				nearest, least = n, steps
			}
		}
		at := rest[nearest]
		entries[at] = w.owner
		w.at = step(at, w.skip, size)
		rest[nearest] = rest[len(rest)-1]
		rest = rest[:len(rest)-1]
	}
}

// step is at+skip modulo size.
func step(at, skip, size uint32) uint32 { return (at + skip) % size }

// inverse is the number that a, 1 to p-1, has to be multiplied with to be 1
// modulo the prime p: Euclid's extended algorithm.
func inverse(a, p uint32) uint32 {
	r0, r1 := int64(p), int64(a)
	t0, t1 := int64(0), int64(1)
	for r1 != 0 {
		q := r0 / r1
		r0, r1 = r1, r0-q*r1
		t0, t1 = t1, t0-q*t1
	}
	if t0 < 0 {
		t0 += int64(p)
	}
	return uint32(t0)
}
