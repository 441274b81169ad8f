package memo

import (
	"fmt"
	"testing"
)

// BenchmarkLookup is what it costs to find and read the memos of a batch of 64
// random keys, lines touched first as the worker does.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint("memos=", n), func(b *testing.B) {
			m, way := table(b, n)
			keyOf := func(i uint64) Key { return key(0xcb007100+i&0xffff, uint16(1024+i>>16)) }
			for i := range uint64(n) {
				k := keyOf(i)
				m.Put(&k, m.Hash(&k), way, &Grant{}, 1000, 11_000)
			}
			order := uint32(1)
			var (
				batch  [64]Key
				hashes [64]uint64
				others [65]uint8
				places [64]Place
				memo   Memo
				found  int
			)
			b.ResetTimer()
			for at := 0; at < b.N; at += len(batch) {
				for i := range batch {
					order = order*1664525 + 1013904223
					batch[i] = keyOf(uint64(order) * uint64(n) >> 32)
					hashes[i] = m.Hash(&batch[i])
				}
				for _, h := range hashes {
					m.Touch(h)
				}
				misses := 0
				for i := range batch {
					place, missed := m.First(&batch[i], hashes[i])
					places[i] = place
					others[misses] = uint8(i)
					misses += missed
				}
				for _, i := range others[:misses] {
					m.TouchOthers(hashes[i])
				}
				for _, i := range others[:misses] {
					places[i], _ = m.Other(&batch[i], hashes[i])
				}
				for i := range batch {
					if m.Read(places[i], &batch[i], 1000, &memo) {
						found++
					}
				}
			}
			if found < b.N*98/100 {
				b.Fatalf("%d of %d found", found, b.N)
			}
		})
	}
}
