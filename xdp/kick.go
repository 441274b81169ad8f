package xdp

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/nic"
)

const (
	// copyBatch is the fewest frames one system call sends in copy mode while
	// there are more (the kernel's TX_BATCH_SIZE).
	copyBatch = 32

	// maxIdleKicks is how many kicks in a row may send nothing before Kick
	// gives up: the completion ring is full, or the device takes no more.
	maxIdleKicks = 2
)

// Kick implements nic.Queue. In copy mode the system call itself sends, a
// limited number of frames at a time, so it is repeated until the ring is
// drained or nothing moves any more. With zero copy it only wakes the driver,
// once. The call never blocks, so it does without the scheduler's knowledge
// (RawSyscall).
func (q *Queue) Kick() error {
	sent := atomic.LoadUint32(q.tx.consumer)
	for kicks, idle := 0, 0; sent != q.tx.next; kicks++ {
		if !q.tx.needsWakeup() {
			return nil
		}
		if kicks == q.maxKicks || idle == maxIdleKicks {
			q.counts.stalled.Add(1)
			return nil
		}
		q.counts.kicks.Add(1)
		_, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(q.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
		if e != 0 {
			if err := q.countKick(e); err != nil {
				return err
			}
		}
		if q.zeroCopy {
			return nil
		}
		before := sent
		sent = atomic.LoadUint32(q.tx.consumer)
		if sent == before {
			idle++
		} else {
			idle = 0
		}
	}
	return nil
}

// countKick counts an answer other than success.
func (q *Queue) countKick(e unix.Errno) error {
	switch e {
	case unix.EAGAIN, unix.EINTR:
		q.counts.again.Add(1)
	case unix.EBUSY:
		q.counts.busy.Add(1)
	case unix.ENOBUFS:
		q.counts.noBuffers.Add(1)
	case unix.ENETDOWN, unix.ENXIO, unix.ENODEV:
		q.counts.down.Add(1)
		return nic.ErrDown
	default:
		q.counts.otherErrors.Add(1)
		return nic.ErrDown
	}
	return nil
}

// wakeFill tells a driver that has run out of buffers that there are some. Its
// answer changes nothing: a queue that is down is found out by Kick, or
// receives nothing.
func (q *Queue) wakeFill() {
	q.counts.wakeups.Add(1)
	unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(q.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
}
