package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/clock"
)

// TestConverges: whatever is written, deleted, lost, cut apart, restarted and left
// without power, in any order, with clocks that jump by minutes, in the end all
// nodes have the last version of every key, and nothing else.
func TestConverges(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			converges(t, seed, false)
		})
	}
}

// TestConvergesOverMonths: nodes are away for longer than tombstones are kept. In
// the end all have the same, and nothing that was never written.
func TestConvergesOverMonths(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			converges(t, seed, true)
		})
	}
}

func converges(t *testing.T, seed uint64, months bool) {
	random := rand.New(rand.NewPCG(seed, 5))
	names := []string{"a", "b", "c", "d"}
	disks := map[string]*media{}
	for _, name := range names {
		disks[name] = newMedia()
	}
	clocks := newTimes()
	r := newRig(t, func(c *Config) {
		clocks.tune(c)
		c.Interval, c.folder, c.leastLog = 20*time.Millisecond, disks[c.Identity.Name()], 20_000
	}, names...)
	down := map[string]bool{}
	oracle := map[string]*item{}
	ever := map[[32]byte]bool{}
	r.world.Lose(0.3)
	r.world.Delay(0, 20*time.Millisecond)
	restarted := map[string]bool{}
	for range 300 {
		name := names[random.IntN(len(names))]
		s := r.nodes[name]
		switch n := random.IntN(100); {
		case n < 80:
			if s == nil {
				continue
			}
			key := []string{"setting/", "desired/", "node/" + name + "/", "live/" + name + "/"}[random.IntN(4)] + fmt.Sprint(random.IntN(12))
			var err error
			if random.IntN(3) == 0 {
				err = s.Delete(key)
			} else {
				size := 10
				if random.IntN(20) == 0 {
					size = 1000 + random.IntN(200_000)
				}
				value := make([]byte, size)
				for i := range value {
					value[i] = byte(random.Uint32())
				}
				err = s.Put(key, value)
			}
			var skew *clock.SkewError
			if months && errors.As(err, &skew) {
				continue // a message was on its way for a month
			}
			if err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			if it := s.table.get(key); it != nil {
				ever[it.hash] = true
				if it.newer(oracle[key]) {
					oracle[key] = it
				}
			}
			s.mu.Unlock()
		case n < 86:
			random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			r.world.Part(names[:2])
		case n < 92:
			r.world.Heal()
		case n < 96 && s != nil:
			left := disks[name]
			if random.IntN(2) == 0 {
				left = left.cut(random)
			}
			r.stop(name)
			disks[name], down[name], restarted[name] = left, true, true
		case s == nil:
			r.start(name)
			delete(down, name)
		case n == 96 && months:
			clocks.pass(time.Duration(random.IntN(40)) * day)
			r.sweep()
		case n < 98:
			clocks.set(name, time.Duration(random.IntN(240)-120)*time.Second)
		default:
			time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
		}
	}
	for name := range down {
		r.start(name)
	}
	r.world.Heal()
	if months {
		eventually(t, "all nodes have the same", func() bool { r.sweep(); return r.equal() })
	} else {
		r.same()
	}
	for name, s := range r.nodes {
		s.mu.Lock()
		if months {
			s.table.each(func(it *item) {
				if !ever[it.hash] && ownerOf(it.Key) == "" {
					t.Errorf("%s has %s of %v by %s: nobody wrote that", name, it.Key, it.Version, it.Writer)
				}
			})
			s.mu.Unlock()
			continue
		}
		s.table.each(func(it *item) {
			former := live(it.Key) && restarted[it.Writer] // what it wrote last may be lost with it
			if want := oracle[it.Key]; !former && (want == nil || want.hash != it.hash) {
				t.Errorf("%s has %s of %v by %s: not the last one", name, it.Key, it.Version, it.Writer)
			}
			if !it.whole || len(it.Value) != it.size {
				t.Errorf("%s has %s without its value", name, it.Key)
			}
		})
		for key, want := range oracle {
			lost := live(key) && len(restarted) > 0 // no disk keeps it
			if got := s.table.get(key); got == nil && !lost {
				t.Errorf("%s has not %s of %v by %s", name, key, want.Version, want.Writer)
			}
		}
		s.mu.Unlock()
		list := s.List("")
		if !slices.IsSortedFunc(list, func(x, y cluster.Entry) int {
			if x.Key < y.Key {
				return -1
			}
			return 1
		}) {
			t.Error("a list is not in order")
		}
	}
	if t.Failed() {
		t.Log(r.log)
	}
}
