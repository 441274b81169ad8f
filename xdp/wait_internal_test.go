package xdp

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWaiterLeavesDeadDescriptorsOut: a descriptor in an error state is taken
// out of the poll set, so that Wait sleeps, and put back after a while.
func TestWaiterLeavesDeadDescriptorsOut(t *testing.T) {
	var p, closed [2]int
	for _, pipe := range []*[2]int{&p, &closed} {
		if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
	}
	defer unix.Close(closed[1])
	// POLLERR on the write end of a pipe without reader, POLLHUP on the read
	// end of one without writer, POLLNVAL on what is no descriptor.
	var hung [2]int
	if err := unix.Pipe2(hung[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	unix.Close(hung[1])
	defer unix.Close(hung[0])
	unix.Close(p[0])
	defer unix.Close(p[1])
	const nothing = 1 << 20
	w, err := NewWaiter([]int{p[1], hung[0], nothing, closed[0]})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()

	w.Wait(time.Hour) // returns at once, for the errors
	for i, name := range []string{"POLLERR", "POLLHUP", "POLLNVAL"} {
		if fd := w.fds[1+i].Fd; fd != -1 {
			t.Errorf("the descriptor with %s is still polled", name)
		}
	}
	if w.fds[4].Fd != int32(closed[0]) {
		t.Error("the good descriptor is not polled")
	}
	// Each time round it is left out for longer, up to a limit.
	last := firstBackoff
	for range 8 {
		for i := range w.dead {
			w.dead[i].until = time.Now()
		}
		w.Wait(time.Hour)
		if d := w.dead[1].delay; d < last || d > lastBackoff {
			t.Errorf("left out for %v, the last time for %v", d, last)
		}
		last = w.dead[1].delay
	}
	if last != lastBackoff {
		t.Errorf("left out for %v at last, want %v", last, lastBackoff)
	}
	// While it is left out, Wait ends in time to look again: an hour's wait
	// with every descriptor dead does not last an hour.
	w.SetFDs([]int{nothing})
	for range 2 {
		w.Wait(time.Hour)
	}
	w.Wait(time.Hour)
	if w.fds[1].Fd != -1 || w.dead[1].delay < 2*firstBackoff {
		t.Error("the descriptor was not looked at again")
	}

	// A descriptor that works again is as good as new.
	w.SetFDs([]int{closed[0]})
	if _, err := unix.Write(closed[1], []byte{1}); err != nil {
		t.Fatal(err)
	}
	w.dead[1].delay = time.Second
	w.Wait(time.Hour)
	if w.dead[1].delay != 0 || w.fds[1].Fd != int32(closed[0]) {
		t.Error("the error is not forgotten")
	}
	unix.Close(closed[0])
}

func TestWaiterAfterClose(t *testing.T) {
	w, err := NewWaiter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 300 { // more than an eventfd's least significant byte holds
		w.Wake()
	}
	w.Wait(time.Hour)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	w.Wake()
}
