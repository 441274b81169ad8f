package tell

import (
	"errors"
	"runtime"
	"sync"
	"testing"

	"fairlead/dataplane/packet"
)

func sides(t testing.TB, workers int) (*Control, []*Worker, []byte) {
	t.Helper()
	mem := make([]byte, Size(workers))
	c, err := NewControl(mem, workers)
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWorkers(mem, workers)
	if err != nil {
		t.Fatal(err)
	}
	return c, w, mem
}

// TestBothWays has records go each way concurrently: each once, in order, or
// counted as lost.
func TestBothWays(t *testing.T) {
	c, workers, _ := sides(t, 2)
	const each = 100_000
	var running sync.WaitGroup
	for i, w := range workers {
		running.Go(func() {
			next := uint32(0)
			for n := range uint32(each) {
				w.Tell(&Record{ServiceID: uint32(i), BackendID: n})
				for r := w.Next(); r != nil; r = w.Next() {
					if r.BackendID < next {
						t.Errorf("worker %d was given %d after %d", i, r.BackendID, next)
						return
					}
					next = r.BackendID
					w.Take(r.BackendID%2 == 0)
				}
			}
		})
	}
	heard, next, given := 0, [2]uint32{}, uint64(0)
	hear := func() {
		c.Hear(func(r *Record) {
			heard++
			if r.BackendID < next[r.ServiceID] {
				t.Errorf("worker %d told %d after %d", r.ServiceID, r.BackendID, next[r.ServiceID])
			}
			next[r.ServiceID] = r.BackendID
		})
	}
	for n := range uint32(each) {
		if c.Give(&Record{Client: packet.Addr{Lo: uint64(n)}, BackendID: n}) {
			given++
		}
		hear()
		runtime.Gosched()
	}
	running.Wait()
	hear()
	for _, w := range workers {
		for r := w.Next(); r != nil; r = w.Next() {
			w.Take(r.BackendID%2 == 0)
		}
	}
	s := c.Stats()
	if s.Told+s.Lost != 2*each || uint64(heard) != s.Told || s.Given != given || s.Taken != given || s.Refused == 0 || s.Refused > given {
		t.Errorf("heard %d, given %d: %+v", heard, given, s)
	}
}

// TestFullRings has both sides lose, and count, what finds a ring full, and a
// second process go on where the first has stopped.
func TestFullRings(t *testing.T) {
	c, workers, mem := sides(t, 1)
	for n := range uint32(Told + 10) {
		workers[0].Tell(&Record{BackendID: n})
	}
	if s := c.Stats(); s.Told != Told || s.Lost != 10 {
		t.Errorf("told more than there is room for: %+v", s)
	}
	for n := range uint32(Given) {
		if !c.Give(&Record{BackendID: n}) {
			t.Fatalf("record %d of %d finds no room", n, Given)
		}
	}
	if c.Give(&Record{}) {
		t.Error("there is room beyond the ring")
	}
	workers[0].Take(true)

	again, err := NewControl(mem, 1)
	if err != nil {
		t.Fatal(err)
	}
	if n := again.Hear(func(*Record) {}); n != Told {
		t.Errorf("the next control process hears %d", n)
	}
	next, err := NewWorkers(mem, 1)
	if err != nil {
		t.Fatal(err)
	}
	if r := next[0].Next(); r == nil || r.BackendID != 1 {
		t.Errorf("the next worker goes on with %+v", r)
	}
}

func TestMemoryIsRefused(t *testing.T) {
	if _, err := NewControl(make([]byte, 100), 1); err == nil || err.Error() != "tell: 1 workers take 1581056 bytes, the memory has 100" {
		t.Errorf("error %v", err)
	}
	mem := make([]byte, Size(1))
	if _, err := NewWorkers(mem, 1); !errors.Is(err, ErrLayout) {
		t.Errorf("memory that nobody has prepared: %v", err)
	}
	mem[0] = 1
	if _, err := NewControl(mem, 1); !errors.Is(err, ErrLayout) {
		t.Errorf("memory of something else: %v", err)
	}
}

func TestNothingIsAllocated(t *testing.T) {
	c, workers, _ := sides(t, 1)
	r := Record{}
	if n := testing.AllocsPerRun(100, func() {
		workers[0].Tell(&r)
		c.Give(&r)
		workers[0].Next()
		workers[0].Take(true)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
