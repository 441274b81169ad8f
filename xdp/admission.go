package xdp

import (
	"sync/atomic"
	"unsafe"
)

// Admission is a queue's account of new TCP connections, in memory that the
// steering program shares (package xdp/steer, bpf/admission.h). What begins a
// connection takes a credit, or is dropped before it reaches the RX ring;
// everything else passes. The queue grants credits for what the kernel can still
// deliver beyond half of what it ever could: so a flood of SYNs leaves room for
// the packets of connections that exist, whatever keeps the worker from its
// rings. The program writes the first cache line, the queue the second.
type Admission struct {
	used uint32 // credits taken, modulo 2^32
	_    [60]byte

	granted  uint32 // credits given, modulo 2^32
	enforced uint32 // 0: nobody has granted anything yet, and all are admitted
	_        [56]byte
}

// AdmissionSize is the size of an account in bytes.
const AdmissionSize = int(unsafe.Sizeof(Admission{}))

// leastRoom is granted in any case while anything can be delivered at all: no
// load that the ring is full of shuts new connections out.
const leastRoom = 16

// admit grants credits by how many chunks wait in the fill ring.
func (q *Queue) admit() {
	waiting := q.fill.next - atomic.LoadUint32(q.fill.consumer)
	q.mostWaiting = max(q.mostWaiting, waiting)
	room := min(waiting, leastRoom)
	if half := q.mostWaiting / 2; waiting > half {
		room = max(room, waiting-half)
	}
	a := q.geometry.Admission
	atomic.StoreUint32(&a.granted, atomic.LoadUint32(&a.used)+room)
	if atomic.LoadUint32(&a.enforced) == 0 {
		atomic.StoreUint32(&a.enforced, 1)
	}
}
