package dataplane_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/ledger"
	"fairlead/dataplane/nic"
	"fairlead/dataplane/packet"
)

// The benchmark of many workers: the most there are, and the flows of each.
const (
	mostWorkers    = 16
	flowsPerWorker = 10_000
)

// lineLoop is a loop with flows of its own, on cache lines of its own.
type lineLoop struct {
	_ [64]byte
	*loop
	first   uint32 // its flows are first, first+1, ...
	next    uint32 // while they are opened
	opening bool
	_       [64]byte
}

func (l *lineLoop) Receive(frames []nic.Frame) int {
	n := min(len(frames), l.left)
	for i := range n {
		addr, ok := l.pool.Get()
		if !ok {
			n = i
			break
		}
		addr += 256
		number := l.next
		if l.opening {
			l.next++
		} else {
			l.order = l.order*1664525 + 1013904223
			number = uint32(uint64(l.order) * uint64(l.flows) >> 32)
		}
		l.write(l.pool.Mem[addr:], l.first+number)
		frames[i] = nic.Frame{Addr: addr, Len: uint32(len(l.frame))}
	}
	l.left -= n
	return n
}

// BenchmarkWorkers is what a packet costs with many workers, which share one
// flow table, the memos, the snapshots and the memory of their counters, and
// have each their own pool, rings and flows. What is reported is CPU time of the
// workers' own threads, so that it says the same on a machine with fewer CPUs
// than workers: "in turn" one after the other, and "at once" all together, where
// workers that share a CPU also find its caches full of each other's memory.
func BenchmarkWorkers(b *testing.B) {
	for _, method := range []fib.Method{fib.MethodNAT, fib.MethodIPIP} {
		for _, memos := range []memoKind{memoPrivate, memoOff} {
			for _, at := range []string{"in turn", "at once"} {
				for _, workers := range []int{1, 2, 4, 8, mostWorkers} {
					name := fmt.Sprintf("%s/%s/%s/workers=%d", method, memos, at, workers)
					b.Run(name, func(b *testing.B) { benchmarkWorkers(b, method, memos, workers, at == "at once") })
				}
			}
		}
	}
}

func benchmarkWorkers(b *testing.B, method fib.Method, memos memoKind, count int, atOnce bool) {
	const vip = "198.18.100.1"
	svc := testService{vip: vip, proto: packet.ProtoUDP, port: 80, method: method, backends: manyBackends(vip)[:10]}
	// The memory is the same for any number of workers.
	c := newCrew(b, mostWorkers, mostWorkers*flowsPerWorker*5/4, memos, testFIB([]testService{svc}))
	workers, loops := make([]*dataplane.Worker, count), make([]*lineLoop, count)
	for i := range workers {
		loops[i] = &lineLoop{loop: newLoop(b, vip, flowsPerWorker), first: uint32(i * flowsPerWorker), opening: true}
		workers[i] = c.worker(i, loops[i].pool, dataplane.PortQueue{Port: 0, Queue: loops[i]}, dataplane.PortQueue{Port: 1, Queue: sink{loops[i].loop}})
	}
	for range 2 { // the second packet, a while after the first, leaves a memo
		for i, l := range loops {
			for l.next, l.left = 0, flowsPerWorker; l.left > 0; {
				workers[i].Step()
			}
		}
		c.now += 2000
	}
	var total ledger.Ledger
	for i, l := range loops {
		l.opening = false
		total.Add(workers[i].Counters.Ledger)
	}
	if sent := total.TX[1]; sent != uint64(2*count*flowsPerWorker) {
		b.Fatalf("%d of %d packets were sent: %v", sent, 2*count*flowsPerWorker, total.Ended)
	}
	b.ReportAllocs()
	b.ResetTimer()
	times := make([]time.Duration, count)
	run := func(i int) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		before := threadTime()
		for loops[i].left = b.N; loops[i].left > 0; {
			workers[i].Step()
		}
		times[i] = threadTime() - before
	}
	if atOnce {
		var all sync.WaitGroup
		for i := range workers {
			all.Go(func() { run(i) })
		}
		all.Wait()
	} else {
		for i := range workers {
			run(i)
		}
	}
	b.StopTimer()
	var sum, most time.Duration
	for i, w := range workers {
		sum, most = sum+times[i], max(most, times[i])
		if err := w.Counters.Ledger.Check(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(sum)/float64(count*b.N), "cpu-ns/packet")
	b.ReportMetric(float64(most)/float64(b.N), "slowest-ns/packet")
	b.ReportMetric(0, "ns/op")
}

// threadTime is the processor time that the calling thread has used.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
