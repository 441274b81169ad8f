package flow

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

const batch = 64

// filled is a table of a million flows' size with n NAT flows in it, and
// their forward keys in random order.
func filled(b *testing.B, n int) (*Table, []Key) {
	b.Helper()
	t := newTable(b, 1_000_000, 1)
	w := t.Worker(0)
	ports := []PortRange{{Local: 5, First: 1024, Last: 65535}}
	keys := make([]Key, n)
	for i := range keys {
		f := natFlow(i, StateEstablished)
		if _, res := w.Bind(&f, ports, 0, 1<<30); res != Bound {
			b.Fatal(res)
		}
		keys[i] = f.ForwardKey()
	}
	rng := rand.New(rand.NewPCG(1, 2))
	rng.Shuffle(n, func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	return t, keys
}

// BenchmarkLookup is one packet's share of a batch of 64, with one, two and
// three passes over the batch.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1, 10_000, 100_000, 1_000_000} {
		t, keys := filled(b, n)
		for passes := 1; passes <= 3; passes++ {
			b.Run(fmt.Sprintf("flows=%d/passes=%d", n, passes), func(b *testing.B) {
				var (
					hashes [batch]uint64
					f      Flow
					sink   uint64
					at     int
				)
				b.ReportAllocs()
				for done := 0; done < b.N; done += batch {
					for i := range hashes {
						hashes[i] = t.Hash(&keys[(at+i)%n])
						if passes > 1 {
							sink += t.Touch(hashes[i])
						}
					}
					if passes > 2 {
						for i := range hashes {
							sink += t.TouchRecord(hashes[i])
						}
					}
					for i := range hashes {
						if _, _, ok := t.Lookup(&keys[(at+i)%n], hashes[i], 1, &f); !ok {
							b.Fatal("lost a flow")
						}
					}
					at = (at + batch) % n
				}
				_ = sink
			})
		}
	}
}

// BenchmarkMiss is the cost of finding out that a flow is new, batched as in
// BenchmarkLookup with two passes.
func BenchmarkMiss(b *testing.B) {
	t, keys := filled(b, 1_000_000)
	for i := range keys {
		keys[i].LocalPort = 81
	}
	b.Run("flows=1000000/passes=2", func(b *testing.B) {
		var (
			hashes [batch]uint64
			f      Flow
			sink   uint64
			at     int
		)
		for done := 0; done < b.N; done += batch {
			for i := range hashes {
				hashes[i] = t.Hash(&keys[(at+i)%len(keys)])
				sink += t.Touch(hashes[i])
			}
			for i := range hashes {
				if _, _, ok := t.Lookup(&keys[(at+i)%len(keys)], hashes[i], 1, &f); ok {
					b.Fatal("found a flow that is not there")
				}
			}
			at = (at + batch) % len(keys)
		}
		_ = sink
	})
}

// BenchmarkHash is the hash alone.
func BenchmarkHash(b *testing.B) {
	t := newTable(b, 1, 1)
	f := dsrFlow(1, StateHalfOpen)
	k := f.ForwardKey()
	sink := uint64(0)
	for i := range b.N {
		k.PeerPort = uint16(i)
		sink += t.Hash(&k)
	}
	_ = sink
}

// BenchmarkAdvance is a packet of an established flow, deadlines stored four
// times a second.
func BenchmarkAdvance(b *testing.B) {
	t := newTable(b, 1000, 1)
	f := dsrFlow(1, StateEstablished)
	ref, _ := t.Worker(0).Insert(&f, 0, 1000)
	for i := range b.N {
		t.Advance(ref, &f, Forward, 0x10, Time(i/1000), &testTimeouts)
	}
}

// BenchmarkInsert adds flows and forgets them by sweeping, at a table that is
// half full; once without and once with a reply key.
func BenchmarkInsert(b *testing.B) {
	b.Run("dsr", func(b *testing.B) {
		t, _ := filled(b, 500_000)
		w := t.Worker(0)
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			f := dsrFlow(10_000_000+i, StateHalfOpen)
			if _, ok := w.Insert(&f, Time(i>>10), 100); !ok {
				b.Fatal("no room")
			}
			w.Sweep(Time(i>>10), 4)
		}
	})
	b.Run("nat", func(b *testing.B) {
		t, _ := filled(b, 500_000)
		w := t.Worker(0)
		ports := []PortRange{{Local: 6, First: 1024, Last: 65535}}
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			f := natFlow(10_000_000+i, StateHalfOpen)
			if _, res := w.Bind(&f, ports, Time(i>>10), 100); res != Bound {
				b.Fatal(res)
			}
			w.Sweep(Time(i>>10), 4)
		}
	})
}

// BenchmarkInsertFlood adds half-open flows to a full table, so that each
// evicts another; established ones fill the given share of it.
func BenchmarkInsertFlood(b *testing.B) {
	for _, established := range []int{0, 50, 90, 100} {
		b.Run(fmt.Sprintf("established=%d%%", established), func(b *testing.B) {
			const flows = 1_000_000
			t := newTable(b, flows, 1)
			w := t.Worker(0)
			for i := range flows {
				f := dsrFlow(i, StateHalfOpen)
				if i%100 < established {
					f.State = StateEstablished
				}
				w.Insert(&f, 0, 1<<30)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				f := dsrFlow(flows+i, StateHalfOpen)
				w.Insert(&f, 1, 1<<30)
			}
		})
	}
}

// BenchmarkSweep is one record's share of sweeping a million live flows.
func BenchmarkSweep(b *testing.B) {
	t, _ := filled(b, 1_000_000)
	w := t.Worker(0)
	w.Sweep(1, 1_000_000)
	b.ResetTimer()
	for done := 0; done < b.N; done += 16 {
		w.Sweep(1, 16)
	}
}

// BenchmarkExhausted is one search over all 64,512 ports towards a backend
// that has none left, in a table that is otherwise full of other flows.
func BenchmarkExhausted(b *testing.B) {
	t := newTable(b, 1_000_000, 1)
	w := t.Worker(0)
	ports := []PortRange{{Local: 5, First: 1024, Last: 65535}}
	for i := range 900_000 {
		f := natFlow(i, StateEstablished)
		if i < 64512 {
			f.Backend = addr4(10, 1, 1, 1)
		}
		if _, res := w.Bind(&f, ports, 0, 1<<30); res != Bound {
			b.Fatal(res)
		}
	}
	b.ResetTimer()
	for i := range b.N {
		f := natFlow(1_000_000, StateHalfOpen)
		f.Backend = addr4(10, 1, 1, 1)
		if _, res := w.Bind(&f, ports, Time(i*100), 1<<30); res != Exhausted {
			b.Fatal(res)
		}
	}
}

// BenchmarkOpen adopts a table of a million flows.
func BenchmarkOpen(b *testing.B) {
	mem := memory(1_000_000)
	for range b.N {
		if _, err := New(mem, Config{Flows: 1_000_000, Workers: 2}); err != nil {
			b.Fatal(err)
		}
	}
}
