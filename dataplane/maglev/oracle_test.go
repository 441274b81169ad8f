package maglev

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/big"
	"math/bits"
	"slices"
	"testing"
)

// oracle is Maglev as the paper has it (section 3.4, pseudocode 1), slow, with
// the permutations by their formula, and then the sharing out, by the letter of
// its description. It shares no code with Build.
func oracle(members []Member, seed [2]uint64) []int {
	members = slices.Clone(members)
	for d := 65535; d > 1; d-- { // in lowest terms
		if !slices.ContainsFunc(members, func(m Member) bool { return m.Weight%d != 0 }) {
			for i := range members {
				members[i].Weight /= d
			}
			break
		}
	}
	equal, weights, due, any := []int64{}, []int64{}, []int64{}, false
	for _, m := range members {
		equal, weights = append(equal, 1), append(weights, int64(m.Weight))
		if m.Down {
			due = append(due, 0)
		} else {
			due = append(due, int64(m.Weight)*int64(1000-m.Withheld))
		}
		any = any || due[len(due)-1] > 0
	}
	if !any {
		return nil
	}
	table := oracleShare(oracleEqual(members, seed), equal, weights, true, seed)
	return oracleShare(table, weights, due, false, seed)
}

// oracleShare shares a table out again. If bounded, nobody gets too much.
func oracleShare(before []int, was, due []int64, bounded bool, seed [2]uint64) []int {
	n, size := len(was), int64(len(before))
	var sumWas, sumDue int64
	for i := range was {
		sumWas, sumDue = sumWas+was[i], sumDue+due[i]
	}
	table, counts := slices.Clone(before), make([]int64, n)
	for _, owner := range before {
		counts[owner]++
	}
	entitled := func(i int) int64 { // rounded to the nearest, half up, and one at least
		if due[i] == 0 {
			return 0
		}
		e := new(big.Int).Mul(big.NewInt(due[i]), big.NewInt(size))
		e.Add(e.Mul(e, big.NewInt(2)), big.NewInt(sumDue))
		return max(1, e.Div(e, big.NewInt(2*sumDue)).Int64())
	}
	mix := func(x uint64) uint64 {
		x += 0x9e3779b97f4a7c15
		x ^= x >> 30
		x *= 0xbf58476d1ce4e5b9
		x ^= x >> 27
		x *= 0x94d049bb133111eb
		return x ^ x>>31
	}
	worth := func(slot int) uint64 { return mix(mix(uint64(slot)^seed[0])^seed[1])>>32<<32 + uint64(slot) }
	var given []int
	most, eager := int64(0), make([]int64, n)
	for i := range was {
		if more := due[i]*sumWas - was[i]*sumDue; more > 0 {
			eager[i] = max(1, more*32/max(1, was[i]))
			most = max(most, eager[i])
		} else if more < 0 {
			var mine []int
			for slot, owner := range before {
				if owner == i {
					mine = append(mine, slot)
				}
			}
			slices.SortFunc(mine, func(a, b int) int { return cmp.Compare(worth(a), worth(b)) })
			for int64(len(mine)) > entitled(i) {
				given = append(given, mine[0])
				mine = mine[1:]
				counts[i]--
			}
		}
	}
	slices.SortFunc(given, func(a, b int) int { return cmp.Compare(worth(a), worth(b)) })
	room := func(i int) bool { return !bounded || counts[i] < entitled(i) }
	for _, slot := range given {
		x, to := worth(slot), -1
		for try := 0; try < 64 && to < 0; try++ {
			x = mix(x)
			m := before[int64(x>>32)*size/(1<<32)]
			if eager[m] == 0 {
				continue
			}
			limit := new(big.Int).Mul(big.NewInt(eager[m]), big.NewInt(1<<32))
			limit.Div(limit, big.NewInt(most))
			if int64(x&0xffffffff) < max(1, limit.Int64()) && room(m) {
				to = m
			}
		}
		if to < 0 {
			var takers []int
			for i := range was {
				if eager[i] > 0 {
					takers = append(takers, i)
				}
			}
			first := int(int64(mix(x)>>32) * int64(len(takers)) / (1 << 32))
			takers = append(takers[first:], takers[:first]...)
			to = takers[0]
			if at := slices.IndexFunc(takers, room); at >= 0 {
				to = takers[at]
			}
		}
		table[slot] = to
		counts[to]++
	}
	return table
}

// oracleEqual is the table in which all have equal parts.
func oracleEqual(members []Member, seed [2]uint64) []int {
	type name struct {
		text  string
		owner int
	}
	var names []name
	for i, m := range members {
		names = append(names, name{fmt.Sprintf("%s#0@%x.%x", m.Name, seed[0], seed[1]), i})
	}
	slices.SortFunc(names, func(a, b name) int { return cmp.Compare(members[a.owner].Name, members[b.owner].Name) })
	size := 655373
	for _, prime := range []int{524309, 262147, 131101, 65537, 32003, 16001, 8009, 4001, 2003, 1009} {
		if prime >= 100*len(members) {
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
	slow := pool(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
	slow[3].Withheld, slow[4].Withheld, slow[5].Withheld = 950, 1000, 1
	nearly := pool(equalWeights(40, 5)...)
	for i := range 39 {
		nearly[i].Down = true
	}
	for name, members := range map[string][]Member{
		"none": nil, "one": pool(1), "two": pool(1, 1), "weights": pool(3, 2, 1, 0, 7),
		"forty": pool(equalWeights(40, 5)...), "down": downs, "primes": pool(13, 17),
		"unequal": pool(1, 65535, 30000), "unequal and down": append(pool(9999, 1, 20000), Member{Name: "z", Weight: 3, Down: true}),
		"slow": slow, "one of forty": nearly, "one due more": pool(append(equalWeights(200, 10), 11)...),
	} {
		t.Run(name, func(t *testing.T) { compareWithOracle(t, members, testSeed) })
	}
}

func FuzzBuild(f *testing.F) {
	f.Add(uint64(0), uint64(0), []byte{})
	f.Add(uint64(1), uint64(2), []byte{1, 1, 1})
	f.Add(uint64(3), uint64(4), []byte{0, 255, 8, 128, 3, 0x41})
	f.Fuzz(func(t *testing.T, seed0, seed1 uint64, in []byte) {
		// A byte is a member: the low four bits its weight, the next three what
		// is withheld, the top bit down.
		members := make([]Member, 0, 16)
		for i, b := range in {
			if len(members) == cap(members) {
				break
			}
			members = append(members, Member{
				Name: fmt.Sprintf("m%d", i*7919%101), Weight: int(b & 15), Withheld: int(b>>4&7) * 142, Down: b&128 != 0,
			})
		}
		compareWithOracle(t, members, [2]uint64{seed0, seed1})
	})
}
