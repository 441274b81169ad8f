package ipc

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (control, data *Conn) {
	t.Helper()
	control, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	if data, err = Inherit(fd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { control.Close(); data.Close() })
	return control, data
}

func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestDescriptorsCross sends a file and reads through what arrives.
func TestDescriptorsCross(t *testing.T) {
	control, data := pair(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := control.Send(KindFIB, FIB{Generation: 7, Size: 3}, int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	w.Close()
	m, err := data.Receive()
	if err != nil {
		t.Fatal(err)
	}
	var body FIB
	if err := m.Decode(KindFIB, &body, 1); err != nil {
		t.Fatal(err)
	}
	if body != (FIB{Generation: 7, Size: 3}) {
		t.Errorf("body %+v", body)
	}
	crossed := os.NewFile(uintptr(m.FDs[0]), "crossed")
	crossed.WriteString("through")
	crossed.Close()
	if got, _ := io.ReadAll(r); string(got) != "through" {
		t.Errorf("read %q", got)
	}
}

// TestWrongMessages asserts what is said of each, and that no descriptor of a
// refused message stays open.
func TestWrongMessages(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, c := range []struct {
		name string
		send func(*Conn) error
		fds  int
		want string
	}{
		{"another kind", func(c *Conn) error { return c.Send(KindStop, nil, int(null.Fd())) }, 1,
			`ipc: a "fib" message was due, a "stop" message came`},
		{"too few descriptors", func(c *Conn) error { return c.Send(KindFIB, FIB{}) }, 1,
			`ipc: a "fib" message came with 0 descriptors instead of 1`},
		{"too many descriptors", func(c *Conn) error { return c.Send(KindFIB, FIB{}, int(null.Fd()), int(null.Fd())) }, 1,
			`ipc: a "fib" message came with 2 descriptors instead of 1`},
		{"a body of another shape", func(c *Conn) error { return c.Send(KindFIB, []int{1}, int(null.Fd())) }, 1,
			`ipc: "fib" message: json: cannot unmarshal array into Go value of type ipc.FIB`},
	} {
		t.Run(c.name, func(t *testing.T) {
			control, data := pair(t)
			before := openFDs(t)
			if err := c.send(control); err != nil {
				t.Fatal(err)
			}
			m, err := data.Receive()
			if err != nil {
				t.Fatal(err)
			}
			var body FIB
			if err := m.Decode(KindFIB, &body, c.fds); err == nil || err.Error() != c.want {
				t.Errorf("error %v\nwant  %s", err, c.want)
			}
			if after := openFDs(t); after != before {
				t.Errorf("%d descriptors are open, %d were", after, before)
			}
		})
	}
}

// TestGarbage asserts that bytes which are no message are an error and close
// what came with them.
func TestGarbage(t *testing.T) {
	control, data := pair(t)
	before := openFDs(t)
	rc, err := control.file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	rc.Control(func(fd uintptr) {
		if err := unix.Sendmsg(int(fd), []byte("nonsense"), unix.UnixRights(0), nil, 0); err != nil {
			t.Error(err)
		}
	})
	if _, err := data.Receive(); err == nil || !strings.HasPrefix(err.Error(), "ipc: invalid character") {
		t.Errorf("error %v", err)
	}
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
}

// TestOtherEndGone asserts io.EOF on both ends, and an error from Send.
func TestOtherEndGone(t *testing.T) {
	control, data := pair(t)
	data.Close()
	if _, err := control.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("receive: %v", err)
	}
	if err := control.Send(KindStop, nil); !errors.Is(err, unix.EPIPE) {
		t.Errorf("send: %v", err)
	}
}

// TestOwnEndClosed asserts that who waits for a message is told when this end is
// closed, and that it was this one.
func TestOwnEndClosed(t *testing.T) {
	control, _ := pair(t)
	waited := make(chan error, 1)
	go func() {
		_, err := control.Receive()
		waited <- err
	}()
	control.Close()
	if err := <-waited; !errors.Is(err, os.ErrClosed) {
		t.Errorf("waiting: %v", err)
	}
	if err := control.Send(KindStop, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("sending: %v", err)
	}
}

// TestLimits asserts that what does not fit is refused by the sender.
func TestLimits(t *testing.T) {
	control, _ := pair(t)
	if err := control.Send(KindReady, strings.Repeat("x", maxMessage)); err == nil || !strings.Contains(err.Error(), "65536 are possible") {
		t.Errorf("long message: %v", err)
	}
	if err := control.Send(KindWorker, nil, make([]int, maxFDs+1)...); err == nil || err.Error() != "ipc: 129 descriptors in one message, 128 are possible" {
		t.Errorf("many descriptors: %v", err)
	}
}

// TestInheritRefuses asserts the message for somebody who types the hidden
// command by hand.
func TestInheritRefuses(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Inherit(int(f.Fd())); err == nil || !strings.HasSuffix(err.Error(), "is no socket of a control process: this command is started by `fairlead run`") {
		t.Errorf("error %v", err)
	}
}
