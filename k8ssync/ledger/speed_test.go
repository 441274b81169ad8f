package ledger

import (
	"fmt"
	"testing"
	"time"
)

// large is a ledger of 100,000 IPv4 addresses and a /64 with 10,000 objects, each
// with an address of both families.
func large(t testing.TB) (*Ledger, []Request) {
	l := New(pools(poolOf("a", "198.18.0.0/16"), poolOf("b", "198.19.0.0-198.19.134.159", "2001:db8::/64")))
	if p := l.Pools(); p[0].IPv4.Total+p[1].IPv4.Total != 100_000 {
		t.Fatalf("the pools have %v and %v", p[0].IPv4, p[1].IPv4)
	}
	requests := make([]Request, 10_000)
	for i := range requests {
		r := ask(fmt.Sprint("s", i), families(IPv4, IPv6), required)
		r.Held = l.Assign(r).Addresses
		if len(r.Held) != 2 {
			t.Fatalf("%s gets %v", r.Key, r.Held)
		}
		requests[i] = r
	}
	return l, requests
}

// TestLarge is bounded by memory and time only if nothing is done for each address of
// a pool.
func TestLarge(t *testing.T) {
	began := time.Now()
	l, requests := large(t)
	again := New(pools(poolOf("a", "198.18.0.0/16"), poolOf("b", "198.19.0.0-198.19.134.159", "2001:db8::/64")))
	for _, r := range l.Reservations() {
		again.Record(r)
	}
	again.Adopt(requests)
	for _, r := range requests {
		if got := again.Assign(r).Addresses; len(got) != 2 || got[0] != r.Held[0] || got[1] != r.Held[1] {
			t.Fatalf("%s moves from %v to %v", r.Key, r.Held, got)
		}
		again.Release(r.Key)
	}
	for _, p := range again.Pools() {
		for _, c := range []*Counts{p.IPv4, p.IPv6} {
			if c != nil && c.Free != c.Total {
				t.Errorf("pool %s: %+v", p.Name, *c)
			}
		}
	}
	t.Logf("10,000 objects were assigned two addresses each, adopted, and released in %v", time.Since(began))
}

func BenchmarkAssignRelease(b *testing.B) {
	l, _ := large(b)
	r := ask("new", families(IPv4, IPv6))
	for b.Loop() {
		l.Assign(r)
		l.Release(r.Key)
	}
}

func BenchmarkAssignAgain(b *testing.B) {
	l, requests := large(b)
	i := 0
	for b.Loop() {
		l.Assign(requests[i%len(requests)])
		i++
	}
}
