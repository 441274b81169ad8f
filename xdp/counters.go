package xdp

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Counters are what a queue has counted since it was attached.
type Counters struct {
	Received    uint64 // frames Receive returned
	Transmitted uint64 // frames Transmit accepted
	Refused     uint64 // frames Transmit did not accept: the TX ring was full
	Invalid     uint64 // times Transmit met a frame that does not lie in one chunk
	Completed   uint64 // chunks Complete returned
	Refilled    uint64 // chunks Refill accepted
	Kicks       uint64 // system calls to get frames sent
	Wakeups     uint64 // system calls to get the fill ring looked at
	Again       uint64 // kicks answered EAGAIN: more to send, or no memory or completion ring room just now
	Busy        uint64 // kicks answered EBUSY: the device or its queueing discipline dropped a frame
	NoBuffers   uint64 // kicks answered ENOBUFS
	Down        uint64 // kicks answered ENETDOWN or ENXIO: the interface is down or gone
	OtherErrors uint64 // kicks answered anything else
	Stalled     uint64 // calls of Kick that gave up with the TX ring not drained
	Stray       uint64 // ring entries ignored because the socket did not hold the chunk
}

// counters are written by the worker only and read by anybody. They keep to
// themselves on their cache lines, so that a reader does not slow the rings.
type counters struct {
	_ [64]byte

	received, transmitted, refused, invalid, completed, refilled atomic.Uint64
	kicks, wakeups, again, busy, noBuffers, down, otherErrors    atomic.Uint64
	stalled, stray                                               atomic.Uint64

	_ [64]byte
}

func (c *counters) snapshot() Counters {
	return Counters{
		Received: c.received.Load(), Transmitted: c.transmitted.Load(), Refused: c.refused.Load(),
		Invalid: c.invalid.Load(), Completed: c.completed.Load(), Refilled: c.refilled.Load(),
		Kicks: c.kicks.Load(), Wakeups: c.wakeups.Load(), Again: c.again.Load(), Busy: c.busy.Load(),
		NoBuffers: c.noBuffers.Load(), Down: c.down.Load(), OtherErrors: c.otherErrors.Load(),
		Stalled: c.stalled.Load(), Stray: c.stray.Load(),
	}
}

// Statistics are the kernel's counters of a socket (XDP_STATISTICS), since it
// was opened.
type Statistics struct {
	RXDropped     uint64 // frames dropped for any reason but a full RX ring, such as being too long for a chunk
	RXInvalid     uint64 // entries of the fill ring that were no chunk
	TXInvalid     uint64 // entries of the TX ring that were no frame
	RXRingFull    uint64 // frames dropped because the RX ring was full
	FillRingEmpty uint64 // times the fill ring had no chunk for a frame
	TXRingEmpty   uint64 // times the kernel looked for something to send and there was nothing
}

// ReadStatistics reads the kernel's counters of the socket fd. Any process
// that has the descriptor may.
func ReadStatistics(fd int) (Statistics, error) {
	var s unix.XDPStatistics
	if err := getsockopt(fd, unix.XDP_STATISTICS, unsafe.Pointer(&s), unsafe.Sizeof(s)); err != nil {
		return Statistics{}, fmt.Errorf("xdp: read socket statistics: %w", err)
	}
	return Statistics{
		RXDropped: s.Rx_dropped, RXInvalid: s.Rx_invalid_descs, TXInvalid: s.Tx_invalid_descs,
		RXRingFull: s.Rx_ring_full, FillRingEmpty: s.Rx_fill_ring_empty_descs, TXRingEmpty: s.Tx_ring_empty_descs,
	}, nil
}

// getsockopt reads an option of level SOL_XDP into the size bytes at value.
func getsockopt(fd, option int, value unsafe.Pointer, size uintptr) error {
	length := uint32(size)
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option),
		uintptr(value), uintptr(unsafe.Pointer(&length)), 0)
	if e != 0 {
		return e
	}
	return nil
}
