package xdp

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/nic"
)

// Backoff of a descriptor that poll reports an error of.
const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 2 * time.Second
)

// Waiter sleeps in poll(2) on a worker's sockets. Wait and SetFDs belong to
// the worker; Wake may be called from anywhere.
//
// poll also wakes a driver that asked to be woken. A descriptor that poll
// reports an error or hang-up of would make every Wait return at once: it is
// left out for a while, longer each time, so that a dead interface costs no
// spin.
type Waiter struct {
	fds   []unix.PollFd // fds[0] is the eventfd
	dead  []backoff     // as fds
	ts    unix.Timespec
	drain [8]byte

	mu    sync.Mutex // guards event against Close
	event int
}

// backoff is how a descriptor is left out; the zero value is not.
type backoff struct {
	fd    int // the descriptor, while it is left out of the poll set
	delay time.Duration
	until time.Time
}

var _ nic.Waiter = (*Waiter)(nil)

// NewWaiter makes a waiter for the sockets fds, which it does not own.
func NewWaiter(fds []int) (*Waiter, error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("xdp: make eventfd: %w", err)
	}
	w := &Waiter{event: event}
	w.SetFDs(fds)
	return w, nil
}

// SetFDs replaces the sockets, as after a rebind.
func (w *Waiter) SetFDs(fds []int) {
	w.fds = append(w.fds[:0], unix.PollFd{Fd: int32(w.event), Events: unix.POLLIN})
	w.dead = append(w.dead[:0], backoff{})
	for _, fd := range fds {
		w.fds = append(w.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		w.dead = append(w.dead, backoff{})
	}
}

// Wait implements nic.Waiter.
func (w *Waiter) Wait(timeout time.Duration) {
	if left := w.rearm(); left > 0 {
		timeout = min(timeout, left)
	}
	w.ts = unix.NsecToTimespec(max(0, timeout).Nanoseconds())
	n, err := unix.Ppoll(w.fds, &w.ts, nil)
	if err != nil || n == 0 {
		return
	}
	if w.fds[0].Revents != 0 {
		unix.Read(int(w.fds[0].Fd), w.drain[:])
	}
	for i := 1; i < len(w.fds); i++ {
		switch got := w.fds[i].Revents; {
		case got&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0:
			w.leaveOut(i)
		case got != 0:
			w.dead[i].delay = 0
		}
	}
}

// leaveOut takes a descriptor out of the poll set for a while.
func (w *Waiter) leaveOut(i int) {
	d := &w.dead[i]
	d.fd = int(w.fds[i].Fd)
	d.delay = min(max(2*d.delay, firstBackoff), lastBackoff)
	d.until = time.Now().Add(d.delay)
	w.fds[i].Fd = -1 // ignored by poll
	// The pending error would be reported again and again.
	unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_ERROR)
}

// rearm puts descriptors back whose time has come, and returns how long the
// next one has to wait, 0 when there is none.
func (w *Waiter) rearm() time.Duration {
	var left time.Duration
	var now time.Time
	for i := range w.fds {
		if w.fds[i].Fd >= 0 {
			continue
		}
		if now.IsZero() {
			now = time.Now()
		}
		d := &w.dead[i]
		if wait := d.until.Sub(now); wait > 0 {
			if left == 0 || wait < left {
				left = wait
			}
			continue
		}
		w.fds[i].Fd = int32(d.fd)
	}
	return left
}

// one is what Wake adds to the eventfd: any value but zero will do.
var one = [8]byte{1}

// Wake implements nic.Waiter. Waking a closed waiter does nothing.
func (w *Waiter) Wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.event >= 0 {
		unix.Write(w.event, one[:])
	}
}

// Close closes the eventfd. The worker must have stopped waiting.
func (w *Waiter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.event < 0 {
		return nil
	}
	event := w.event
	w.event = -1
	return unix.Close(event)
}
