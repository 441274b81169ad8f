package maglev

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/dgryski/go-maglev"
)

// TestFillIsGoMaglev compares tables of every size, of few and of many names,
// with those of go-maglev.
func TestFillIsGoMaglev(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for n, size := range sizes {
		counts := []int{1, 2, 3, int(size) / entriesPerMember, fewFor(size) + 1, int(size) / 7}
		if n == 0 {
			for range 300 {
				counts = append(counts, 1+r.IntN(40))
			}
			counts = append(counts, 1008, 1009, 1010, 3000)
		}
		if size > 70000 {
			counts = counts[:4]
		}
		for _, count := range counts {
			names := make([]string, count)
			walks := make([]walk, count)
			for i := range names {
				names[i] = fmt.Sprintf("name %x", r.Uint64())
				walks[i] = newWalk([]byte(names[i]), uint16(i), size)
			}
			want := maglev.New(names, uint64(size))
			for slot, owner := range (&builder{walks: walks}).fill(size) {
				if int(owner) != want.Lookup(uint64(slot)) {
					t.Fatalf("%d names, %d slots: slot %d is %d's, by go-maglev %d's", count, size, slot, owner, want.Lookup(uint64(slot)))
				}
			}
		}
	}
}

// FuzzFill compares tables of any names with those of go-maglev.
func FuzzFill(f *testing.F) {
	f.Add("a\x00b\x00c", uint8(0))
	f.Add("198.18.0.1:80#0@1.2", uint8(1))
	f.Fuzz(func(t *testing.T, text string, rung uint8) {
		size := sizes[int(rung)%4]
		var names []string
		for len(text) > 0 && len(names) < 3000 {
			n := min(len(text), 1+int(text[0])%5)
			names, text = append(names, text[:n]), text[n:]
		}
		if len(names) == 0 {
			return
		}
		walks := make([]walk, len(names))
		for i := range names {
			walks[i] = newWalk([]byte(names[i]), uint16(i), size)
		}
		got, want := (&builder{walks: walks}).fill(size), maglev.New(names, uint64(size))
		for slot := range got {
			if int(got[slot]) != want.Lookup(uint64(slot)) {
				t.Fatalf("%d names, %d slots: slot %d is %d's, by go-maglev %d's", len(names), size, slot, got[slot], want.Lookup(uint64(slot)))
			}
		}
	})
}

// TestInverse multiplies inverses back.
func TestInverse(t *testing.T) {
	for _, p := range sizes {
		for a := uint32(1); a < p; a += 1 + a/50 {
			if inv := inverse(a, p); uint64(a)*uint64(inv)%uint64(p) != 1 {
				t.Fatalf("the inverse of %d modulo %d is not %d", a, p, inv)
			}
		}
	}
}

func BenchmarkBuildMany(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			members := pool(equalWeights(n, 1)...)
			b.ReportAllocs()
			for b.Loop() {
				build(b, members)
			}
		})
	}
}

func BenchmarkGoMaglev(b *testing.B) {
	names := make([]string, 100)
	for i, m := range pool(equalWeights(100, 1)...) {
		names[i] = m.Name
	}
	b.ReportAllocs()
	for b.Loop() {
		maglev.New(names, 16001)
	}
}

// TestCacheFromManyGoroutines asks for a few tables from many goroutines: each
// is built once, and all get the same.
func TestCacheFromManyGoroutines(t *testing.T) {
	var c Cache
	const goroutines, tables = 8, 20
	got := make([][tables]*Table, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range tables {
				n := (i + 3*g) % tables
				table, err := c.Table(pool(equalWeights(1+n, 1)...), testSeed)
				if err != nil {
					t.Error(err)
				}
				got[g][n] = table
			}
		})
	}
	wg.Wait()
	for g := range got {
		if got[g] != got[0] {
			t.Errorf("goroutine %d has other tables", g)
		}
	}
	if c.Built() != tables || c.Len() != tables {
		t.Errorf("%d tables were built and %d are remembered, want %d", c.Built(), c.Len(), tables)
	}
}
