package maglev

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"testing"
)

// oracle is Maglev as the paper has it (section 3.4, pseudocode 1), slow, with
// the permutations by their formula. It shares no code with Build and works
// the rules for weights and sizes out in its own way.
func oracle(members []Member, seed [2]uint64) []int {
	type name struct {
		text  string
		owner int
	}
	// Reduce by trying every divisor from above.
	sum, largest := 0, 0
	for _, m := range members {
		largest = max(largest, m.Weight)
	}
	weights := make([]int, len(members))
	for d := largest; d > 0; d-- {
		divides := true
		for _, m := range members {
			divides = divides && m.Weight%d == 0
		}
		if divides {
			for i, m := range members {
				weights[i] = m.Weight / d
				sum += weights[i]
			}
			break
		}
	}
	if sum > 6553 {
		scaled := 0
		for i, w := range weights {
			if w == 0 {
				continue
			}
			// Round half up, in whole numbers.
			n := 0
			for 2*(n+1)*sum <= 2*w*6553+sum-sum%2 {
				n++
			}
			weights[i] = max(n, 1)
			scaled += weights[i]
		}
		sum = scaled
	}
	var names []name
	for i, m := range members {
		for n := 0; n < weights[i] && !m.Down; n++ {
			names = append(names, name{fmt.Sprintf("%s#%d@%x.%x", m.Name, n, seed[0], seed[1]), i})
		}
	}
	if len(names) == 0 {
		return nil
	}
	// By member, then by number.
	slices.SortStableFunc(names, func(a, b name) int {
		x, y := members[a.owner].Name, members[b.owner].Name
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	size := 655373
	for _, prime := range []int{524309, 262147, 131101, 65537, 32003, 16001, 8009, 4001, 2003, 1009} {
		if prime >= 100*sum {
			size = prime
		}
	}
	offset, skip := make([]int, len(names)), make([]int, len(names))
	for i, n := range names {
		h := oracleSipHash(0xdeadbeefcafebabe, 0, []byte(n.text))
		offset[i], skip[i] = int(h>>32)%size, int(h&0xffffffff)%(size-1)+1
	}
	permutation := func(i, j int) int { return (offset[i] + j*skip[i]) % size }
	table := make([]int, size)
	for i := range table {
		table[i] = -1
	}
	next := make([]int, len(names))
	for filled := 0; ; {
		for i := range names {
			c := permutation(i, next[i])
			for table[c] >= 0 {
				next[i]++
				c = permutation(i, next[i])
			}
			table[c] = names[i].owner
			next[i]++
			filled++
			if filled == size {
				return table
			}
		}
	}
}

// oracleSipHash is SipHash-2-4 (Aumasson and Bernstein, 2012).
func oracleSipHash(k0, k1 uint64, p []byte) uint64 {
	v := [4]uint64{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
	rounds := func(n int) {
		for range n {
			v[0] += v[1]
			v[1] = bits.RotateLeft64(v[1], 13) ^ v[0]
			v[0] = bits.RotateLeft64(v[0], 32)
			v[2] += v[3]
			v[3] = bits.RotateLeft64(v[3], 16) ^ v[2]
			v[0] += v[3]
			v[3] = bits.RotateLeft64(v[3], 21) ^ v[0]
			v[2] += v[1]
			v[1] = bits.RotateLeft64(v[1], 17) ^ v[2]
			v[2] = bits.RotateLeft64(v[2], 32)
		}
	}
	last := uint64(len(p)) << 56
	for len(p) >= 8 {
		m := binary.LittleEndian.Uint64(p)
		v[3] ^= m
		rounds(2)
		v[0] ^= m
		p = p[8:]
	}
	for i, b := range p {
		last |= uint64(b) << (8 * i)
	}
	v[3] ^= last
	rounds(2)
	v[0] ^= last
	v[2] ^= 0xff
	rounds(4)
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}

func compareWithOracle(t *testing.T, members []Member, seed [2]uint64) {
	t.Helper()
	want := oracle(members, seed)
	table, err := Build(members, seed)
	if err != nil {
		t.Fatal(err)
	}
	if table == nil {
		if want != nil {
			t.Fatalf("there is no table; the oracle has one of %d entries", len(want))
		}
		return
	}
	if table.Size() != len(want) {
		t.Fatalf("size is %d, the oracle's %d", table.Size(), len(want))
	}
	for slot, e := range table.Entries() {
		if int(e) != want[slot] {
			t.Fatalf("slot %d has member %d, the oracle's %d", slot, e, want[slot])
		}
	}
}

func TestOracle(t *testing.T) {
	downs := pool(4, 6, 8, 2)
	downs[2].Down = true
	for name, members := range map[string][]Member{
		"none": nil, "one": pool(1), "two": pool(1, 1), "weights": pool(3, 2, 1, 0, 7),
		"forty": pool(equalWeights(40, 5)...), "down": downs, "primes": pool(13, 17),
		"scaled": pool(1, 65535, 30000), "scaled and down": append(pool(9999, 1, 20000), Member{Name: "z", Weight: 3, Down: true}),
	} {
		t.Run(name, func(t *testing.T) { compareWithOracle(t, members, testSeed) })
	}
}

func FuzzBuild(f *testing.F) {
	f.Add(uint64(0), uint64(0), []byte{})
	f.Add(uint64(1), uint64(2), []byte{1, 1, 1})
	f.Add(uint64(3), uint64(4), []byte{0, 255, 8, 128, 3})
	f.Fuzz(func(t *testing.T, seed0, seed1 uint64, in []byte) {
		// A byte is a member: the low four bits its weight, the top bit down.
		members := make([]Member, 0, 16)
		for i, b := range in {
			if len(members) == cap(members) {
				break
			}
			members = append(members, Member{Name: fmt.Sprintf("m%d", i*7919%101), Weight: int(b & 15), Down: b&128 != 0})
		}
		compareWithOracle(t, members, [2]uint64{seed0, seed1})
	})
}
