package nictest

import (
	"time"

	"fairlead/dataplane/nic"
)

// Waiter sleeps until a frame arrives at one of its queues. It starts no
// goroutine and needs no closing.
type Waiter struct {
	queues []*Queue
	wake   chan struct{}
	timer  *time.Timer
}

var _ nic.Waiter = (*Waiter)(nil)

// NewWaiter makes a waiter for queues; a queue has one waiter at a time.
func NewWaiter(queues ...*Queue) *Waiter {
	w := &Waiter{queues: queues, wake: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	w.timer.Stop()
	for _, q := range queues {
		q.onArrival(w.Wake)
	}
	return w
}

// Wait implements nic.Waiter.
func (w *Waiter) Wait(timeout time.Duration) {
	for _, q := range w.queues {
		if q.Pending() > 0 {
			return
		}
	}
	w.timer.Reset(timeout)
	select {
	case <-w.wake:
		w.timer.Stop()
	case <-w.timer.C:
	}
}

// Wake implements nic.Waiter.
func (w *Waiter) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
