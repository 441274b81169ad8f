package store

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// entries is how much the stores of benchmarks have: the settings of ten thousand
// backends.
const entries = 10_000

func fill(b *testing.B, s *Store) {
	b.Helper()
	work := make(chan int)
	done := make(chan error)
	const writers = 64
	for range writers {
		go func() {
			var err error
			for i := range work {
				if e := s.Put(fmt.Sprintf("setting/pool-%d/198.18.%d.%d:8080", i%100, i/250, i%250), make([]byte, 100)); e != nil {
					err = e
				}
			}
			done <- err
		}()
	}
	for i := range entries {
		work <- i
	}
	close(work)
	for range writers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

func quietRig(b *testing.B, names ...string) *rig {
	return newRig(b, func(c *Config) { c.Interval = time.Hour }, names...)
}

// BenchmarkPut: one after the other, each on the medium before the next.
func BenchmarkPut(b *testing.B) {
	r := quietRig(b, "a")
	fill(b, r.nodes["a"])
	b.ResetTimer()
	for i := range b.N {
		put(b, r.nodes["a"], fmt.Sprintf("setting/%d", i%1000), "drain")
	}
}

// BenchmarkPutMany: many at a time share what the medium takes.
func BenchmarkPutMany(b *testing.B) {
	r := quietRig(b, "a")
	fill(b, r.nodes["a"])
	var n atomic.Int64
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			put(b, r.nodes["a"], fmt.Sprintf("setting/%d", n.Add(1)%1000), "drain")
		}
	})
}

// BenchmarkPutLive is of what no disk keeps.
func BenchmarkPutLive(b *testing.B) {
	r := quietRig(b, "a")
	for i := range b.N {
		put(b, r.nodes["a"], fmt.Sprintf("live/a/%d", i%1000), "up")
	}
}

// BenchmarkCompare is what a node that has the same costs.
func BenchmarkCompare(b *testing.B) {
	r := quietRig(b, "a", "b")
	fill(b, r.nodes["a"])
	for r.nodes["b"].Stats().Entries != entries {
		if _, err := r.nodes["a"].compare("b"); err != nil {
			b.Fatal(err)
		}
	}
	before := r.nodes["a"].Stats()
	b.ResetTimer()
	for range b.N {
		if _, err := r.nodes["a"].compare("b"); err != nil {
			b.Fatal(err)
		}
	}
	after := r.nodes["a"].Stats()
	b.ReportMetric(float64(after.SentBytes+after.TookBytes-before.SentBytes-before.TookBytes)/float64(b.N), "B/compare")
	if after.Differed != before.Differed {
		b.Fatal("they differed")
	}
}

// BenchmarkCompareOneDiffers is what it costs to find one entry that differs.
func BenchmarkCompareOneDiffers(b *testing.B) {
	r := quietRig(b, "a", "b")
	fill(b, r.nodes["a"])
	for r.nodes["b"].Stats().Entries != entries {
		if _, err := r.nodes["a"].compare("b"); err != nil {
			b.Fatal(err)
		}
	}
	r.world.Lose(1)
	before := r.nodes["a"].Stats()
	b.ResetTimer()
	for i := range b.N {
		put(b, r.nodes["b"], "setting/x", fmt.Sprint(i))
		if _, err := r.nodes["a"].compare("b"); err != nil {
			b.Fatal(err)
		}
	}
	after := r.nodes["a"].Stats()
	b.ReportMetric(float64(after.SentBytes+after.TookBytes-before.SentBytes-before.TookBytes)/float64(b.N), "B/compare")
	if got := get(r.nodes["a"], "setting/x"); got != fmt.Sprint(b.N-1) {
		b.Fatalf("%s has come", got)
	}
}

// BenchmarkJoin is until a node that has nothing has everything.
func BenchmarkJoin(b *testing.B) {
	r := quietRig(b, "a")
	fill(b, r.nodes["a"])
	b.ResetTimer()
	for i := range b.N {
		s := r.join(fmt.Sprintf("n%d", i))
		<-s.Synced()
		if st := s.Stats(); st.Entries != entries {
			b.Fatalf("synced with %d entries", st.Entries)
		} else if i == b.N-1 {
			b.ReportMetric(float64(st.SentBytes+st.TookBytes), "B/join")
		}
	}
}

// BenchmarkOpen is a restart.
func BenchmarkOpen(b *testing.B) {
	r := quietRig(b, "a")
	fill(b, r.nodes["a"])
	b.ResetTimer()
	for range b.N {
		r.nodes["a"].Close()
		if st := r.open("a").Stats(); st.Entries != entries {
			b.Fatalf("there are %d entries", st.Entries)
		}
	}
}

// BenchmarkPartition is until twenty nodes have the same after a partition in which
// each half has written five hundred entries.
func BenchmarkPartition(b *testing.B) {
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("n%02d", i))
	}
	const each = 500
	r := newRig(b, func(c *Config) { c.Interval, c.Dir = 2*time.Second, "" }, names...)
	for n := range b.N {
		b.StopTimer()
		r.same()
		r.world.Part(names[:10])
		for i := range each {
			put(b, r.nodes[names[i%10]], fmt.Sprintf("setting/left/%d/%d", n, i), "x")
			put(b, r.nodes[names[10+i%10]], fmt.Sprintf("setting/right/%d/%d", n, i), "x")
		}
		for _, s := range r.nodes {
			eventually(b, "each half has its own", func() bool { return s.Stats().Entries == each*(2*n+1) })
		}
		sent := func() (total uint64) {
			for _, s := range r.nodes {
				total += s.Stats().SentBytes
			}
			return total
		}
		before := sent()
		b.StartTimer()
		r.world.Heal()
		r.same()
		b.StopTimer()
		b.ReportMetric(float64(sent()-before)/float64(len(names)), "B/node")
	}
}
