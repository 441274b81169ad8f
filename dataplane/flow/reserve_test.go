package flow

import (
	"testing"

	"fairlead/dataplane/packet"
)

// TestReserve asserts that room made ahead is room that Insert would have made:
// as many half-open flows go as are asked for and no more, established ones stay,
// and what was made is used before anything else is evicted.
func TestReserve(t *testing.T) {
	const size = 4096
	table, err := New(make([]byte, Size(size)), Config{Flows: size, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	w := table.Worker(0)
	flow := func(i int) *Flow {
		return &Flow{Client: packet.Addr{Lo: 0xffff<<32 | uint64(i)}, ClientPort: uint16(i), VIP: 1, VIPPort: 80, Proto: 6, BackendID: 1, ServiceID: 1}
	}
	live := func(now Time) (halfOpen, established int) {
		for i := range 4 * size {
			k := flow(i).ForwardKey()
			var f Flow
			if _, _, ok := table.Lookup(&k, table.Hash(&k), now, &f); ok {
				if f.State == StateEstablished {
					established++
				} else {
					halfOpen++
				}
			}
		}
		return halfOpen, established
	}
	if w.Reserve(1000, 64); w.count.evicted[rankHalfOpen].Load() != 0 || len(w.free) != 0 {
		t.Error("an empty table makes room")
	}
	for i := range size {
		f := flow(i)
		if i%2 == 0 {
			f.State = StateEstablished
		}
		if _, ok := w.Insert(f, 1000, 60_000); !ok {
			t.Fatalf("flow %d has no room", i)
		}
	}
	w.Reserve(2000, 20)
	if h, e := live(2000); h != size/2-20 || e != size/2 {
		t.Errorf("%d half-open and %d established flows are left of %d each, want 20 half-open ones less", h, e, size/2)
	}
	if w.Reserve(2000, 20); len(w.free) != 20 {
		t.Errorf("%d records are free after asking again, want 20", len(w.free))
	}
	for i := range 20 {
		if _, ok := w.Insert(flow(size+i), 2000, 60_000); !ok {
			t.Fatalf("flow %d has no room", size+i)
		}
	}
	if h, e := live(2000); h != size/2 || e != size/2 {
		t.Errorf("%d half-open and %d established flows, want %d each: what was reserved was not used", h, e, size/2)
	}
	if got := w.count.evicted[rankHalfOpen].Load(); got != 20 {
		t.Errorf("%d flows were evicted, want 20", got)
	}
	// Nothing but established flows: nothing to be had.
	for i := range 4 * size {
		k := flow(i).ForwardKey()
		var f Flow
		if ref, _, ok := table.Lookup(&k, table.Hash(&k), 2000, &f); ok && f.State == StateHalfOpen {
			table.Advance(ref, &f, Forward, 0x10, 2000, &Timeouts{Established: 60_000})
		}
	}
	if w.Reserve(3000, 64); len(w.free) != 0 {
		t.Errorf("%d established flows were evicted", len(w.free))
	}
	if h, e := live(3000); h != 0 || e != size {
		t.Errorf("%d half-open and %d established flows, want %d established ones", h, e, size)
	}
}
