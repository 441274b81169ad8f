package maglev

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var testSeed = [2]uint64{0x0123456789abcdef, 42}

// pool makes members b0, b1, ... with the given weights.
func pool(weights ...int) []Member {
	out := make([]Member, len(weights))
	for i, w := range weights {
		out[i] = Member{Name: fmt.Sprintf("198.18.%d.%d:80", i/250, i%250+1), Weight: w}
	}
	return out
}

func equalWeights(n, weight int) []int {
	return slices.Repeat([]int{weight}, n)
}

func build(t testing.TB, members []Member) *Table {
	t.Helper()
	table, err := Build(members, testSeed)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// shares counts the entries of each member.
func shares(table *Table, members int) []int {
	out := make([]int, members)
	for _, e := range table.Entries() {
		out[e]++
	}
	return out
}

func TestSizesArePrimeAndRise(t *testing.T) {
	for i, size := range sizes {
		if !big.NewInt(int64(size)).ProbablyPrime(20) {
			t.Errorf("%d is not prime", size)
		}
		if i > 0 && size <= sizes[i-1] {
			t.Errorf("%d follows %d", size, sizes[i-1])
		}
	}
}

func TestSize(t *testing.T) {
	for _, c := range []struct {
		name    string
		members []Member
		size    int
	}{
		{"one member", pool(1), 1009},
		{"ten members", pool(equalWeights(10, 1)...), 1009},
		{"weights do not count", pool(equalWeights(10, 7)...), 1009},
		{"eleven members", pool(equalWeights(11, 1)...), 2003},
		{"a member of weight 0 counts", pool(append(equalWeights(10, 1), 0)...), 2003},
		{"1,000 members", pool(equalWeights(1000, 1)...), 131101},
		{"weights 1 and 65535", pool(1, 65535), 1009},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := build(t, c.members).Size(); got != c.size {
				t.Errorf("size is %d, want %d", got, c.size)
			}
		})
	}
}

func TestNothingToChoose(t *testing.T) {
	down := pool(1, 1)
	down[0].Down, down[1].Down = true, true
	for name, members := range map[string][]Member{
		"no members": nil, "weight 0": pool(0), "all weight 0": pool(0, 0, 0), "all down": down,
	} {
		if table, err := Build(members, testSeed); table != nil || err != nil {
			t.Errorf("%s: table %v, error %v; want neither", name, table, err)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	for _, c := range []struct {
		members []Member
		want    string
	}{
		{[]Member{{Name: "a", Weight: -1}}, "maglev: member a has weight -1; it must be 0 to 65535"},
		{[]Member{{Name: "a", Weight: 65536}}, "maglev: member a has weight 65536; it must be 0 to 65535"},
		{[]Member{{Name: "a", Weight: 1, Withheld: -1}}, "maglev: member a withholds -1 per mille; it must be 0 to 1000"},
		{[]Member{{Name: "a", Weight: 1, Withheld: 1001}}, "maglev: member a withholds 1001 per mille; it must be 0 to 1000"},
		{[]Member{{Name: "b", Weight: 1}, {Name: "a", Weight: 1}, {Name: "b", Weight: 1}}, "maglev: member b is there twice"},
		{[]Member{{Weight: 1}}, "maglev: a member has no name"},
		{make([]Member, 65536), "maglev: 65536 members, at most 65535 fit a table"},
	} {
		if _, err := Build(c.members, testSeed); err == nil || err.Error() != c.want {
			t.Errorf("error is %v, want %s", err, c.want)
		}
	}
}

// TestShares: each member's share of the table is its share of the weights,
// within one per cent of it and two entries.
func TestShares(t *testing.T) {
	for _, c := range []struct {
		name      string
		members   []Member
		tolerance float64
	}{
		{"3 equal", pool(1, 1, 1), 0.01},
		{"10 equal", pool(equalWeights(10, 1)...), 0.01},
		{"1,000 equal", pool(equalWeights(1000, 1)...), 0.01},
		{"1 to 5", pool(1, 2, 3, 4, 5), 0.01},
		{"100 and 1", pool(100, 1), 0.01},
		{"10 and 11", pool(10, 11), 0.01},
		{"1,000 mixed", pool(slices.Repeat([]int{1, 2, 5, 10}, 250)...), 0.01},
		{"30000, 20000, 9999", pool(30000, 20000, 9999), 0.01},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := build(t, c.members)
			sum := 0
			for _, m := range c.members {
				sum += m.Weight
			}
			for i, n := range shares(table, len(c.members)) {
				want := float64(table.Size()) * float64(c.members[i].Weight) / float64(sum)
				if off := math.Abs(float64(n) - want); off > want*c.tolerance+2 {
					t.Errorf("member %d of weight %d has %d entries of %d, want %.1f", i, c.members[i].Weight, n, table.Size(), want)
				}
			}
		})
	}
}

// TestVeryUnequal: the lightest member keeps a place however heavy the others.
func TestVeryUnequal(t *testing.T) {
	members := pool(1, 65535, 65535, 0)
	got := shares(build(t, members), 4)
	if got[0] != 1 {
		t.Errorf("the lightest member has %d entries, want 1", got[0])
	}
	if got[3] != 0 {
		t.Errorf("a member of weight 0 has %d entries", got[3])
	}
	if diff := got[1] - got[2]; diff < -got[1]/100 || diff > got[1]/100 {
		t.Errorf("two members of weight 65535 have %d and %d entries", got[1], got[2])
	}
}

// TestMostMembers: a pool of as many members as fit gives each of them a place.
func TestMostMembers(t *testing.T) {
	members := make([]Member, MaxMembers)
	for i := range members {
		members[i] = Member{Name: fmt.Sprintf("backend-%d", i), Weight: 1}
	}
	table := build(t, members)
	if table.Size() != 655373 {
		t.Errorf("size is %d, want 655373", table.Size())
	}
	for i, n := range shares(table, len(members)) {
		if n < 10 || n > 11 {
			t.Fatalf("member %d has %d entries, want 10 or 11", i, n)
		}
	}
}

// byName gives a table as names, so that tables of different lists compare.
func byName(table *Table, members []Member) []string {
	out := make([]string, table.Size())
	for slot, e := range table.Entries() {
		out[slot] = members[e].Name
	}
	return out
}

func TestOrderDoesNotMatter(t *testing.T) {
	members := pool(1, 2, 3, 0, 5, 1, 1)
	members[5].Down = true
	want := build(t, members)
	names := byName(want, members)
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		shuffled := slices.Clone(members)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		got := build(t, shuffled)
		if !slices.Equal(byName(got, shuffled), names) {
			t.Fatal("the table depends on the order of the members")
		}
		if got.Checksum() != want.Checksum() {
			t.Fatal("the checksum depends on the order of the members")
		}
	}
}

func TestSeedAndMembersChangeTheTable(t *testing.T) {
	members := pool(1, 1, 1)
	base := build(t, members)
	seen := map[uint64]string{base.Checksum(): "base"}
	try := func(name string, members []Member, seed [2]uint64) {
		table, err := Build(members, seed)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[table.Checksum()]; ok {
			t.Errorf("%s and %s have one checksum", name, other)
		}
		seen[table.Checksum()] = name
		if slices.Equal(byName(table, members), byName(base, pool(1, 1, 1))) {
			t.Errorf("%s has the table of the base", name)
		}
	}
	try("first word of the seed", members, [2]uint64{testSeed[0] + 1, testSeed[1]})
	try("second word of the seed", members, [2]uint64{testSeed[0], testSeed[1] + 1})
	try("zero seed", members, [2]uint64{})
	try("other weight", pool(1, 1, 2), testSeed)
	try("one more", pool(1, 1, 1, 1), testSeed)
	down := pool(1, 1, 1)
	down[1].Down = true
	try("one down", down, testSeed)
}

// TestGolden pins tables for ever: nodes of different releases must agree.
func TestGolden(t *testing.T) {
	for _, c := range []struct {
		name    string
		members []Member
		want    uint64
		start   []uint16
	}{
		{"three equal", pool(1, 1, 1), 0xdc4dbf02b93f079f, []uint16{2, 2, 1, 0, 1, 2, 1, 2, 1, 0, 1, 1}},
		{"weights", pool(3, 2, 1, 0), 0x858ed91691590f30, []uint16{2, 1, 1, 0, 1, 0, 1, 2, 1, 1, 1, 1}},
	} {
		table := build(t, c.members)
		if table.Checksum() != c.want {
			t.Errorf("%s: checksum is %#x, want %#x", c.name, table.Checksum(), c.want)
		}
		if got := table.Entries()[:len(c.start)]; !slices.Equal(got, c.start) {
			t.Errorf("%s: table begins with %v, want %v", c.name, got, c.start)
		}
	}
}

// TestAddedMember: within one rung of the ladder a new member takes its share
// and leaves most of the rest in place.
func TestAddedMember(t *testing.T) {
	before := build(t, pool(equalWeights(9, 1)...))
	after := build(t, pool(equalWeights(10, 1)...))
	moved := 0
	for slot, e := range before.Entries() {
		if a := after.Entries()[slot]; a != 9 && a != e {
			moved++
		}
	}
	if limit := before.Size() / 10; moved > limit {
		t.Errorf("%d entries moved between members that stayed, more than %d", moved, limit)
	}
}

func TestCache(t *testing.T) {
	var c Cache
	get := func(members []Member) *Table {
		table, err := c.Table(members, testSeed)
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	a, b := get(pool(1, 1)), get(pool(1, 1, 1))
	if get(pool(1, 1)) != a {
		t.Error("equal pools have two tables")
	}
	if get(nil) != nil || get([]Member{}) != nil {
		t.Error("an empty pool has a table")
	}
	if c.Len() != 3 || c.Built() != 3 {
		t.Errorf("%d tables remembered and %d built, want 3 and 3", c.Len(), c.Built())
	}
	c.EndRound()
	if get(pool(1, 1)) != a {
		t.Error("a table was forgotten after the round that used it")
	}
	c.EndRound()
	if c.Len() != 1 {
		t.Errorf("%d tables remembered after a round that used one", c.Len())
	}
	if again := get(pool(1, 1, 1)); again == b {
		t.Error("a table that was not used for a round is still there")
	} else if !slices.Equal(again.Entries(), b.Entries()) {
		t.Error("a table built again is another")
	}
	down := pool(1, 1)
	down[0].Down = true
	if get(down) == a {
		t.Error("a pool with a member down shares the table of the pool without")
	}
	if _, err := c.Table([]Member{{Name: "x", Weight: -1}}, testSeed); err == nil || !strings.Contains(err.Error(), "weight -1") {
		t.Errorf("error is %v", err)
	}
}

// TestEntriesAreInterleaved: consecutive slots do not belong to one member, so
// that a hash with a poor low end does no harm.
func TestEntriesAreInterleaved(t *testing.T) {
	table := build(t, pool(equalWeights(10, 1)...))
	run, longest := 1, 1
	for slot := 1; slot < table.Size(); slot++ {
		if table.Entries()[slot] == table.Entries()[slot-1] {
			run++
			longest = max(longest, run)
		} else {
			run = 1
		}
	}
	if longest > 8 {
		t.Errorf("%d consecutive slots belong to one member of ten", longest)
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, c := range []struct {
		name    string
		members []Member
	}{
		{"10", pool(equalWeights(10, 1)...)},
		{"100", pool(equalWeights(100, 1)...)},
		{"1000", pool(equalWeights(1000, 1)...)},
		{"1:65535", pool(1, 65535)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Build(c.members, testSeed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPools is what compiling 10,000 pools of 10 backends costs in tables.
func BenchmarkPools(b *testing.B) {
	pools := make([][]Member, 10000)
	for i := range pools {
		pools[i] = make([]Member, 10)
		for j := range pools[i] {
			pools[i][j] = Member{Name: fmt.Sprintf("10.%d.%d.%d:8080", i>>8, i&255, j), Weight: 1}
		}
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			var c Cache
			for _, p := range pools {
				if _, err := c.Table(p, testSeed); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("again", func(b *testing.B) {
		var c Cache
		for _, p := range pools {
			c.Table(p, testSeed)
		}
		for b.Loop() {
			for _, p := range pools {
				c.Table(p, testSeed)
			}
			c.EndRound()
		}
	})
}
