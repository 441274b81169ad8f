package ipc

import (
	"testing"
	"unsafe"

	"fairlead/dataplane/ledger"
	"fairlead/dataplane/reason"
)

// TestCountersAreShared asserts that two mappings of the same memory see the
// same counts, that workers' parts are on pages of their own, and that sums are
// over all workers.
func TestCountersAreShared(t *testing.T) {
	const workers, services, backends = 3, 10, 20
	mem := make([]byte, CountersSize(workers, services, backends))
	a, err := MapCounters(mem, workers, services, backends)
	if err != nil {
		t.Fatal(err)
	}
	b, err := MapCounters(mem, workers, services, backends)
	if err != nil {
		t.Fatal(err)
	}
	for i := range workers {
		w := a.Workers[i]
		w.Ledger.Received += uint64(10 * (i + 1))
		w.Ledger.Ended[reason.ForwardFlow] += uint64(10 * (i + 1))
		w.Services[services-1].Flows++
		w.Backends[backends-1].Packets += 2
		if at := uintptr(unsafe.Pointer(w.Ledger)) - uintptr(unsafe.Pointer(&mem[0])); at%page != 0 {
			t.Errorf("worker %d begins at %d", i, at)
		}
	}
	total := b.Total()
	if total.Received != 60 || total.Check() != nil {
		t.Errorf("total %d, %v", total.Received, total.Check())
	}
	if got := b.Service(services - 1).Flows; got != workers {
		t.Errorf("service flows %d", got)
	}
	if got := b.Backend(backends - 1).Packets; got != 2*workers {
		t.Errorf("backend packets %d", got)
	}
	if got := b.Backend(0).Packets; got != 0 {
		t.Errorf("another backend's packets %d", got)
	}
}

// TestNewOwnersBeginAtZero asserts that what a slot's next owner has counted is
// its own, for every process that maps the counters.
func TestNewOwnersBeginAtZero(t *testing.T) {
	mem := make([]byte, CountersSize(2, 4, 4))
	c, err := MapCounters(mem, 2, 4, 4)
	if err != nil {
		t.Fatal(err)
	}
	count := func(times uint64) {
		for _, w := range append(c.Workers, c.Kernel) {
			for range times {
				w.Services[1].Add(ledger.Tally{Packets: 1, Bytes: 100, Flows: 2, Drops: 3})
				w.Backends[2].Add(ledger.Tally{Packets: 4, Bytes: 50})
			}
		}
	}
	count(7)
	c.NewService(1)
	c.NewBackend(2)
	if s, b := c.Service(1), c.Backend(2); s != (ledger.Tally{}) || b != (ledger.Tally{}) {
		t.Errorf("new owners begin with %+v and %+v", s, b)
	}
	count(2)
	if c, err = MapCounters(mem, 2, 4, 4); err != nil {
		t.Fatal(err)
	}
	if s, b := c.Service(1), c.Backend(2); s != (ledger.Tally{Packets: 6, Bytes: 600, Flows: 12, Drops: 18}) || b != (ledger.Tally{Packets: 24, Bytes: 300}) {
		t.Errorf("the owners have counted %+v and %+v", s, b)
	}
	if s, b := c.Service(0), c.Backend(0); s != (ledger.Tally{}) || b != (ledger.Tally{}) {
		t.Errorf("others have counted %+v and %+v", s, b)
	}
}

// TestCountersNeedRoom asserts that short memory is refused.
func TestCountersNeedRoom(t *testing.T) {
	if _, err := MapCounters(make([]byte, 100), 1, 1, 1); err == nil || err.Error() != "ipc: counters take 24576 bytes, the memory has 100" {
		t.Errorf("error %v", err)
	}
}
