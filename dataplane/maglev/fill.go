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
// result is that of go-maglev, slot by slot, with two savings: what is taken
// is looked up in little memory, and once few
// slots are free, the walk's next free one is computed instead of walked to.
// Walking to the last hundred slots of 16,001 would be more than half of all
// steps.
func (b *builder) fill(size uint32) []uint16 {
	walks := b.walks
	entries := make([]uint16, size)
	b.taken = slices.Grow(b.taken[:0], int(size))[:size]
	clear(b.taken)
	taken := b.taken
	left, few := int(size), fewFor(size)
	for left > few {
		for i := range walks {
			w := &walks[i]
			at, skip := w.at, w.skip
			for taken[at] {
				at = step(at, skip, size)
			}
			taken[at] = true
			entries[at] = w.owner
			w.at = step(at, skip, size)
			if left--; left == 0 {
				return entries
			}
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

// step is at+skip modulo size, without a branch: whether it wraps around is
// as good as random, and a wrong guess would cost more than the step.
func step(at, skip, size uint32) uint32 {
	past := int32(at + skip - size)
	return uint32(past + int32(size)&(past>>31))
}

// fewFor is how many slots are few: searching n free slots costs n steps,
// walking to one of them size/n steps on average.
func fewFor(size uint32) int {
	n := 1
	for n*n < 3*int(size) {
		n++
	}
	return n
}

// fillRest goes on, with the first walk, where no more than a few slots, the
// rest, are free.
func fillRest(walks []walk, size uint32, rest []uint32, entries []uint16) {
	inverses := make([]uint32, min(len(walks), len(rest)))
	reciprocal := ^uint64(0) / uint64(size)
	for turn := 0; len(rest) > 0; turn++ {
		i := turn % len(walks)
		w := &walks[i]
		if turn == i {
			inverses[i] = inverse(w.skip, size)
		}
		inv := uint64(inverses[i])
		nearest, steps := 0, uint64(size)
		for n, at := range rest {
			s := uint64(at+size-w.at) * inv // modulo size: the steps to here
			q, _ := bits.Mul64(s, reciprocal)
			s -= q * uint64(size)
			if s >= uint64(size) {
				s -= uint64(size) // the quotient may have been one too small
			}
			if s < steps {
				nearest, steps = n, s
			}
		}
		at := rest[nearest]
		entries[at] = w.owner
		w.at = step(at, w.skip, size)
		rest[nearest] = rest[len(rest)-1]
		rest = rest[:len(rest)-1]
	}
}

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
