package controlplane

import (
	"fmt"
	"runtime"
	"testing"
)

// BenchmarkMemory is what a node's services and backends take: in the control
// process, once for what it is told and once for what it makes of that, and in
// each of the two images, which both processes share.
func BenchmarkMemory(b *testing.B) {
	for _, size := range []struct{ services, backends int }{{1000, 1}, {10000, 1}, {1000, 10}, {10000, 10}, {1000, 100}, {10000, 100}} {
		b.Run(fmt.Sprintf("%dx%d", size.services, size.backends), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				state, obs := large(size.services, size.backends)
				told := heap()
				p := &pair{}
				r := New(p)
				if err := r.Start(state, obs); err != nil {
					b.Fatal(err)
				}
				all := heap()
				const mib = 1 << 20
				b.ReportMetric(float64(told-before)/mib, "told-MiB")
				b.ReportMetric(float64(all-told)/mib, "made-MiB")
				b.ReportMetric(float64(p.images.Snapshot().Used())/mib, "image-MiB")
				runtime.KeepAlive(r)
				runtime.KeepAlive(state)
				runtime.KeepAlive(obs)
				p.close()
			}
		})
	}
}

// heap is what is alive on the heap.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
