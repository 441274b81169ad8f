package nictest

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"fairlead/dataplane/nic"
)

// deadline bounds everything Conformance waits for.
const deadline = 10 * time.Second

// testEtherType is the local experimental EtherType 1 (IEEE Std 802).
const testEtherType = 0x88b5

// Harness is an implementation under test: two ports whose queues share a
// pool, with a network at each.
type Harness struct {
	Pool     *nic.Pool
	Queues   [2]nic.Queue // by port
	Waiter   nic.Waiter   // for both queues
	RingSize int          // of every ring; at most a quarter of the pool's chunks

	// Inject puts a frame on the wire towards a port. It may be called from
	// any goroutine.
	Inject func(port int, frame []byte) error
	// Sent returns the frames that came out of a port since the last call.
	Sent func(port int) [][]byte
	// SetDown takes a port's interface down or up again.
	SetDown func(t *testing.T, port int, down bool)
	// Err reports misuse or trouble the implementation saw; may be nil.
	Err func() error
}

// frame makes a test frame that can be recognised: a serial number and bytes
// that follow from it.
func frame(serial, length int) []byte {
	f := make([]byte, length)
	for i := range f {
		f[i] = byte(serial + i*7)
	}
	copy(f, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2})
	binary.BigEndian.PutUint16(f[12:], testEtherType)
	binary.BigEndian.PutUint32(f[14:], uint32(serial))
	return f
}

// check fails the test when the pool's books are wrong or chunks are missing.
func (h *Harness) check(t *testing.T) {
	t.Helper()
	if err := h.Pool.Check(); err != nil {
		t.Fatal(err)
	}
	if h.Err != nil {
		if err := h.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// until polls a condition.
func (h *Harness) until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !done(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, deadline)
		}
		h.Waiter.Wait(time.Millisecond)
	}
}

// refill offers n free chunks to a port and returns how many were accepted.
func (h *Harness) refill(t *testing.T, port, n int) int {
	t.Helper()
	addrs := make([]uint64, n)
	taken := h.Pool.TakeForFill(addrs)
	accepted := h.Queues[port].Refill(addrs[:taken])
	h.Pool.Filled(accepted)
	h.check(t)
	return accepted
}

// receive takes exactly n frames from a port, waiting for them.
func (h *Harness) receive(t *testing.T, port, n int) []nic.Frame {
	t.Helper()
	frames := make([]nic.Frame, n)
	got := 0
	h.until(t, "receive", func() bool {
		k := h.Queues[port].Receive(frames[got:])
		h.Pool.Received(frames[got : got+k])
		got += k
		return got == n
	})
	h.check(t)
	return frames
}

// transmit hands frames over, not yet kicking, and returns how many were
// accepted.
func (h *Harness) transmit(t *testing.T, port int, frames []nic.Frame) int {
	t.Helper()
	n := h.Queues[port].Transmit(frames)
	h.Pool.Sent(frames[:n])
	h.check(t)
	return n
}

// drain kicks a port and takes back what it has sent, until no chunk of the
// pool is in sending.
func (h *Harness) drain(t *testing.T, port int) {
	t.Helper()
	addrs := make([]uint64, nic.BatchSize)
	h.until(t, "complete", func() bool {
		if err := h.Queues[port].Kick(); err != nil {
			t.Fatal(err)
		}
		n := h.Queues[port].Complete(addrs)
		h.Pool.Completed(addrs[:n])
		return h.Pool.Count(nic.OwnerTX) == 0
	})
	h.check(t)
}

// make takes n chunks from the pool and writes frames into them.
func (h *Harness) make(t *testing.T, firstSerial, n, length int) []nic.Frame {
	t.Helper()
	frames := make([]nic.Frame, n)
	for i := range frames {
		addr, ok := h.Pool.Get()
		if !ok {
			t.Fatal("the pool is empty")
		}
		frames[i] = nic.Frame{Addr: addr + uint64(h.Pool.Headroom()), Len: uint32(length)}
		copy(h.Pool.Bytes(frames[i]), frame(firstSerial+i, length))
	}
	return frames
}

// free puts frames' chunks back.
func (h *Harness) free(frames []nic.Frame) {
	for _, f := range frames {
		h.Pool.Put(f.Addr)
	}
}

// expectSent waits until exactly the wanted frames came out of a port, in
// order.
func (h *Harness) expectSent(t *testing.T, port int, want [][]byte) {
	t.Helper()
	var got [][]byte
	h.until(t, "frames on the wire", func() bool {
		got = append(got, h.Sent(port)...)
		return len(got) >= len(want)
	})
	if len(got) != len(want) {
		t.Fatalf("port %d: %d frames came out, want %d", port, len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("port %d: frame %d of %d differs:\n got %x\nwant %x", port, i, len(want), got[i], want[i])
		}
	}
}

func (h *Harness) inject(t *testing.T, port int, frame []byte) {
	t.Helper()
	if err := h.Inject(port, frame); err != nil {
		t.Fatal(err)
	}
}
