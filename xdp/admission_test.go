package xdp

import (
	"testing"
	"unsafe"

	"fairlead/dataplane/nic"
)

// TestAdmissionLayout asserts what the steering program has too
// (bpf/admission.h).
func TestAdmissionLayout(t *testing.T) {
	var a Admission
	if AdmissionSize != 128 || unsafe.Offsetof(a.used) != 0 || unsafe.Offsetof(a.granted) != 64 || unsafe.Offsetof(a.enforced) != 68 {
		t.Errorf("%d bytes, used at %d, granted at %d, enforced at %d", AdmissionSize, unsafe.Offsetof(a.used), unsafe.Offsetof(a.granted), unsafe.Offsetof(a.enforced))
	}
}

// TestCredits asserts how many new connections a queue admits by what is left
// in its fill ring.
func TestCredits(t *testing.T) {
	const size = 256
	var producer, consumer, flags uint32
	q := &Queue{fill: ring[uint64]{producer: &producer, consumer: &consumer, flags: &flags, entries: make([]uint64, size), mask: size - 1},
		record: new(portRecord), holders: make([]Holder, 4*size), shift: 11, geometry: Geometry{Admission: new(Admission)}}
	a := q.geometry.Admission
	q.fill.startProducing()
	refill := func(n int) {
		t.Helper()
		var addrs [nic.BatchSize]uint64
		for n > 0 {
			got := q.Refill(addrs[:min(n, len(addrs))])
			if n -= got; got == 0 && n > 0 {
				return
			}
		}
	}
	for _, step := range []struct {
		name      string
		delivered uint32 // frames that the kernel delivers first
		used      uint32 // of them, those that begin connections
		refilled  int
		room      uint32
	}{
		{"the ring is filled", 0, 0, size, size / 2},
		{"a batch of SYNs is served", 64, 64, 64, size / 2},
		{"the worker is behind by a quarter", 64, 30, 10, size/2 - 54},
		{"and by more than a half", 100, 74, 16, leastRoom},
		{"it does not come round to refill much", 60, 16, 1, leastRoom},
		{"there is hardly anything left", 50, 0, 5, 14},
		{"it has caught up", 0, 0, size, size / 2},
	} {
		consumer += step.delivered
		a.used += step.used
		refill(step.refilled)
		if got := a.granted - a.used; got != step.room || a.enforced != 1 {
			t.Errorf("%s: %d are admitted, want %d; enforced %d; %d wait", step.name, got, step.room, a.enforced, q.fill.next-consumer)
		}
	}
	a.used, a.granted = ^uint32(0)-3, ^uint32(0)
	consumer += 64
	if allocs := testing.AllocsPerRun(10, func() { consumer += 4; refill(4) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if got := a.granted - a.used; got == 0 || got > size/2 {
		t.Errorf("after the counts have wrapped %d are admitted", got)
	}
}
