package nic

import (
	"math/rand/v2"
	"testing"
)

const (
	testChunks    = 64
	testChunkSize = 2048
	testHeadroom  = 256
)

func newTestPool(t testing.TB) *Pool {
	t.Helper()
	p, err := NewPool(make([]byte, testChunks*testChunkSize), testChunkSize, testHeadroom)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestNewPoolRefusesImpossibleGeometry(t *testing.T) {
	for _, c := range []struct {
		bytes, chunkSize, headroom int
		want                       string
	}{
		{8192, 0, 0, "chunk size 0 is not a power of two"},
		{8192, 3000, 0, "chunk size 3000 is not a power of two"},
		{0, 2048, 0, "memory of 0 bytes is not a whole number of 2048-byte chunks"},
		{5000, 2048, 0, "memory of 5000 bytes is not a whole number of 2048-byte chunks"},
		{8192, 2048, -1, "headroom -1 does not fit a chunk of 2048 bytes"},
		{8192, 2048, 2048, "headroom 2048 does not fit a chunk of 2048 bytes"},
	} {
		_, err := NewPool(make([]byte, c.bytes), c.chunkSize, c.headroom)
		wantError(t, err, c.want)
	}
}

// TestRestoreEqualsClaims compares Restore with its slow oracle: one Claim for
// every chunk that is not free.
func TestRestoreEqualsClaims(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		owners := make([]Owner, testChunks)
		for i := range owners {
			owners[i] = Owner(rng.IntN(int(OwnerTX) + 1))
		}
		slow, fast := newTestPool(t), newTestPool(t)
		for i, o := range owners {
			if o == OwnerFree {
				continue
			}
			if err := slow.Claim(uint64(i*testChunkSize+rng.IntN(testChunkSize)), o); err != nil {
				t.Fatal(err)
			}
		}
		// Whatever the pool held before must not matter.
		for range rng.IntN(10) {
			fast.Get()
		}
		if err := fast.Restore(owners); err != nil {
			t.Fatal(err)
		}
		for _, p := range []*Pool{slow, fast} {
			if err := p.Check(); err != nil {
				t.Fatal(err)
			}
		}
		for o := OwnerFree; o <= OwnerTX; o++ {
			if slow.Count(o) != fast.Count(o) {
				t.Fatalf("%s: %d by Claim, %d by Restore", o, slow.Count(o), fast.Count(o))
			}
		}
		for {
			a, ok := slow.Get()
			b, ok2 := fast.Get()
			if a != b || ok != ok2 {
				t.Fatalf("free lists differ: %#x %v by Claim, %#x %v by Restore", a, ok, b, ok2)
			}
			if !ok {
				break
			}
		}
	}
}

func TestRestoreRefusesWhatDoesNotFit(t *testing.T) {
	p := newTestPool(t)
	p.Get()
	wantError(t, p.Restore(make([]Owner, 3)), "3 owners do not fit a pool of 64 chunks")
	bad := make([]Owner, testChunks)
	bad[5] = 9
	wantError(t, p.Restore(bad), "chunk at 0x2800: owner(9) is no owner")
	if err := p.Check(); err != nil {
		t.Error(err)
	}
	if p.Count(OwnerUser) != 1 {
		t.Errorf("a refused Restore changed the pool: %d chunks are held, want 1", p.Count(OwnerUser))
	}
}

func TestReclaim(t *testing.T) {
	p := newTestPool(t)
	addrs := make([]uint64, 2)
	p.TakeForFill(addrs)
	p.Filled(2)
	tx, _ := p.Get()
	p.Sent([]Frame{{Addr: tx + 100, Len: 60}})
	user, _ := p.Get()

	for _, a := range []uint64{addrs[0], tx + 100} {
		if err := p.Reclaim(a); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, p.Reclaim(user+7), "chunk at 0x1800 is user and was in no ring")
	wantError(t, p.Reclaim(addrs[0]), "chunk at 0x0 is free and was in no ring")
	wantError(t, p.Reclaim(1<<40), "address 0x10000000000 is outside the memory of 131072 bytes")
	if err := p.Check(); err != nil {
		t.Error(err)
	}
	if p.Count(OwnerFree) != testChunks-2 || p.Count(OwnerFill) != 1 || p.Count(OwnerTX) != 0 {
		t.Errorf("free %d fill %d tx %d", p.Count(OwnerFree), p.Count(OwnerFill), p.Count(OwnerTX))
	}
}

func TestStrayCompletionChangesNothing(t *testing.T) {
	p := newTestPool(t)
	p.Completed([]uint64{0, 2048 + 300})
	if p.Strays() != 2 {
		t.Errorf("%d strays, want 2", p.Strays())
	}
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}

func TestPoolDoesNotAllocate(t *testing.T) {
	p := newTestPool(t)
	addrs := make([]uint64, 16)
	frames := make([]Frame, 16)
	if n := testing.AllocsPerRun(200, func() {
		k := p.TakeForFill(addrs)
		p.Filled(k)
		for i, a := range addrs[:k] {
			frames[i] = Frame{Addr: a + testHeadroom, Len: 60}
		}
		p.Received(frames[:k])
		p.Sent(frames[:k])
		p.Completed(addrs[:k])
	}); n != 0 {
		t.Errorf("%v allocations a round, want 0", n)
	}
}

func BenchmarkRestore(b *testing.B) {
	p, err := NewPool(make([]byte, 8192*2048), 2048, 256)
	if err != nil {
		b.Fatal(err)
	}
	owners := make([]Owner, 8192)
	for i := range owners {
		owners[i] = Owner(i % 4)
	}
	for b.Loop() {
		if err := p.Restore(owners); err != nil {
			b.Fatal(err)
		}
	}
}
