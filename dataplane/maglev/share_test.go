package maglev

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// moves counts the entries that differ, and those of them that neither left
// nor came to one of the members concerned.
func moves(before, after *Table, concerned ...int) (all, others int) {
	for slot, e := range before.Entries() {
		a := after.Entries()[slot]
		if a == e {
			continue
		}
		all++
		if !slices.Contains(concerned, int(e)) && !slices.Contains(concerned, int(a)) {
			others++
		}
	}
	return all, others
}

// TestFlapsMoveNothingElse: when members go down and come back, one after the
// other, the entries of the one concerned move and no other ones do; when all
// are back, the table is what it was.
func TestFlapsMoveNothingElse(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for _, members := range [][]Member{
		pool(equalWeights(10, 1)...), pool(equalWeights(100, 3)...), pool(slices.Repeat([]int{1, 2, 5, 10}, 25)...),
	} {
		first := build(t, members)
		before := first
		var down []int
		for range 40 {
			m := r.IntN(len(members))
			if members[m].Down = !members[m].Down; members[m].Down {
				down = append(down, m)
			} else {
				down = slices.DeleteFunc(down, func(d int) bool { return d == m })
			}
			after := build(t, members)
			if _, others := moves(before, after, m); others > 0 {
				t.Fatalf("%d members, %d down: %d entries moved that are not of the member concerned", len(members), len(down), others)
			}
			if len(down) == len(members) {
				t.Fatal("all members are down: the test needs another seed")
			}
			if slices.Contains(after.Entries(), uint16(m)) == members[m].Down {
				t.Fatalf("member %d is in the table and down, or neither", m)
			}
			before = after
		}
		for _, m := range down {
			members[m].Down = false
		}
		if again := build(t, members); !slices.Equal(again.Entries(), first.Entries()) || again.Checksum() != first.Checksum() {
			t.Errorf("%d members: the table is not what it was after all came back", len(members))
		}
	}
}

// TestSlowStartOnlyAdds: a member that gets ever more of its share only gains
// entries, at every step as many as it is due.
func TestSlowStartOnlyAdds(t *testing.T) {
	members := pool(slices.Repeat([]int{3, 1, 2, 2}, 5)...)
	members[4].Withheld = 1000
	before := build(t, members)
	for withheld := 950; withheld >= 0; withheld -= 50 {
		members[4].Withheld = withheld
		after := build(t, members)
		due, sum := 0, 0
		for i := range members {
			sum += int(members[i].due(1))
		}
		due = int(members[4].due(1))
		want := float64(due) * float64(after.Size()) / float64(sum)
		if got := shares(after, len(members))[4]; math.Abs(float64(got)-want) > 2 {
			t.Errorf("with %d per mille withheld it has %d entries, want %.0f", withheld, got, want)
		}
		for slot, e := range before.Entries() {
			if a := after.Entries()[slot]; e != a && a != 4 {
				t.Fatalf("with %d per mille withheld slot %d went from member %d to %d", withheld, slot, e, a)
			}
		}
		before = after
	}
}

// TestWeightChangesMoveLittle compares the entries that a change of one weight
// moves with those that no table could leave where they are: what the members
// have too much afterwards.
func TestWeightChangesMoveLittle(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	moved, least := 0, 0
	for range 60 {
		members := make([]Member, 3+r.IntN(60))
		for i := range members {
			members[i] = pool(make([]int, i+1)...)[i]
			members[i].Weight = []int{1, 1, 1, 2, 5, 10, 100}[r.IntN(7)]
		}
		before := build(t, members)
		m := r.IntN(len(members))
		members[m].Weight = []int{0, 1, 2, 3, 9, 90, 110}[r.IntN(7)]
		after := build(t, members)
		if after.Size() != before.Size() {
			t.Fatal("a weight changed the size of the table")
		}
		had, has := shares(before, len(members)), shares(after, len(members))
		for i := range had {
			least += max(0, had[i]-has[i])
		}
		all, _ := moves(before, after)
		moved += all
	}
	if moved > least*3/2 {
		t.Errorf("%d entries moved where %d had to", moved, least)
	}
	t.Logf("%d entries moved where %d had to", moved, least)
}

// TestSharesWhileDown: with a half of the members down, the others' shares are
// within a quarter of what they are due.
func TestSharesWhileDown(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for _, n := range []int{2, 3, 10, 100, 1000} {
		members := pool(equalWeights(n, 1)...)
		for _, m := range r.Perm(n)[:n/2] {
			members[m].Down = true
		}
		table := build(t, members)
		due := float64(table.Size()) / float64(n-n/2)
		for m, got := range shares(table, n) {
			switch {
			case members[m].Down && got > 0:
				t.Fatalf("member %d of %d is down and has %d entries", m, n, got)
			case !members[m].Down && (float64(got) > 1.25*due || float64(got) < 0.75*due):
				t.Errorf("member %d of %d has %d entries, want about %.0f", m, n, got, due)
			}
		}
	}
}

func BenchmarkShare(b *testing.B) {
	down := pool(equalWeights(100, 1)...)
	for i := range 10 {
		down[i].Down = true
	}
	for _, c := range []struct {
		name    string
		members []Member
	}{
		{"100 of 2 weights", pool(slices.Repeat([]int{1, 2}, 50)...)},
		{"100, 10 down", down},
		{"1000 of 4 weights", pool(slices.Repeat([]int{1, 2, 5, 10}, 250)...)},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Build(c.members, testSeed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
