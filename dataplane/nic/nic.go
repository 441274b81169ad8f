// Package nic is the seam between the worker and whatever moves frames: real
// AF_XDP sockets (package xdp) or in-memory rings (package nictest). The same
// worker and the same test bodies run on both.
package nic

import (
	"errors"
	"time"
)

// BatchSize is how many frames a worker handles at a time: one atomic load and
// one atomic store of a ring index are paid per batch.
const BatchSize = 64

// MaxPorts is the most interfaces one data process drives.
const MaxPorts = 16

// MaxQueues is the most queues, of all interfaces together, that one worker
// drives.
const MaxQueues = 16

// ErrDown says that a queue's interface is down or gone, so that nothing can
// be sent there. It is not fatal: the interface may come back, and the control
// process rebinds the queue when it does.
var ErrDown = errors.New("interface is down or gone")

// Frame is one frame in a worker's UMEM. Whoever holds the Frame owns the
// buffer chunk it lies in.
type Frame struct {
	Addr uint64 // offset in the UMEM of the frame's first byte
	Len  uint32 // bytes from Addr
	Port uint16 // the interface it was received on: index in the FIB's interface table
}

// Queue is one queue of one interface, used by exactly one worker. No call
// blocks and none allocates. Frames pass through four rings, and every chunk
// has exactly one owner at any time: free (the Pool), fill (waiting to be
// received into), user (received, not yet sent or freed), tx (handed over for
// sending, not yet completed).
type Queue interface {
	// Receive moves up to len(frames) received frames to the caller (owner
	// user) and returns how many.
	Receive(frames []Frame) int

	// Transmit hands over frames for sending and returns how many were
	// accepted, always a prefix; the caller keeps the rest. All frames lie in
	// the UMEM this queue shares, wherever they were received.
	Transmit(frames []Frame) int

	// Kick gets the kernel to send what Transmit handed over, repeating a
	// bounded number of times while the ring is not drained. Busy and
	// try-again answers are counted by the implementation and are no error;
	// the error is ErrDown or nil.
	Kick() error

	// Complete returns up to len(addrs) chunks whose frames have been sent
	// (owner free again). An address may point anywhere into its chunk.
	Complete(addrs []uint64) int

	// Refill offers chunks for receiving (owner fill) and returns how many
	// were accepted, always a prefix. It wakes the kernel when the kernel has
	// asked to be woken.
	Refill(addrs []uint64) int
}

// Waiter lets an idle worker sleep.
type Waiter interface {
	// Wait returns when one of the worker's queues may have frames, when Wake
	// was called, or after timeout; it may return early for no reason.
	Wait(timeout time.Duration)

	// Wake makes a present or the next Wait return at once. It may be called
	// from any goroutine.
	Wake()
}
