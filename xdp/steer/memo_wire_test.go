package steer

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// receiver takes what arrives at an interface.
type receiver struct {
	fd int
}

func newReceiver(t *testing.T, l netlink.Link) *receiver {
	t.Helper()
	all := int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: l.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		t.Fatal(err)
	}
	return &receiver{fd}
}

// waitFor returns when the frame has arrived. Others are ignored: a host that
// has just got an interface talks about itself.
func (r *receiver) waitFor(t *testing.T, want []byte) {
	t.Helper()
	b := make([]byte, 2048)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		n, from, err := unix.Recvfrom(r.fd, b, 0)
		if err != nil {
			break
		}
		if from.(*unix.SockaddrLinklayer).Pkttype != unix.PACKET_OUTGOING && bytes.Equal(b[:n], want) {
			return
		}
	}
	t.Fatalf("did not arrive within 10 s: %x", want)
}

// TestMemoOnTheWire has memos forward real frames: back out of the interface
// they came in by, and out of another one.
func TestMemoOnTheWire(t *testing.T) {
	l := newMemoLab(t)
	tx := newSender(t, l.in.far)
	back, across := newReceiver(t, l.in.far), newReceiver(t, l.out.far)
	var sent uint64
	for _, w := range l.ways() {
		if !w.dontFragment {
			continue // its outer header has an identification of its own
		}
		for _, way := range []struct {
			out pair
			at  *receiver
		}{{l.in, back}, {l.out, across}} {
			w.route.Ifindex = uint32(way.out.ifindex())
			l.set(w, 0)
			tx.send(t, w.frame)
			way.at.waitFor(t, w.wanted)
			sent++
		}
	}
	if got, want := counters(t, l.s, l.in.ifindex()).Memo, sent; got != want {
		t.Errorf("%d frames by memos, want %d", got, want)
	}
}

// TestMemoLargeFrames has a program that accepts frames in several buffers:
// those in one go by memos, others never.
func TestMemoLargeFrames(t *testing.T) {
	l := newMemoLab(t)
	large := newPair(t, "large", 9000, 1)
	attach(t, open(t, ""), pair{near: large.far, far: large.near}, ModeNative) // else it takes nothing that is redirected
	if a := attach(t, l.s, large, ModeNative); !a.Frags {
		t.Fatalf("attached %+v", a)
	}
	l.runner = runner{t, l.s.ifaces[large.ifindex()].prog, large.ifindex()}
	l.in = large
	for _, w := range l.ways() {
		if !w.dontFragment {
			continue
		}
		w.route.Mtu = 9000
		l.set(w, 0)
		got, f := l.run(w.frame)
		if got != xdpCarried {
			t.Errorf("%s: %s", w.name, actionName(got))
		}
		equal(t, w.name, f, w.wanted)
		// Padding up to more than a page: in several buffers.
		big := append(append([]byte{}, w.frame...), make([]byte, 6000)...)
		if got, _ := runLinear(t, l.prog, big, large.ifindex()); got != xdpDrop {
			t.Errorf("%s: in several buffers: %s", w.name, actionName(got))
		}
		if c := l.count(2); c.Packets != 1 {
			t.Errorf("%s: %d packets counted", w.name, c.Packets)
		}
	}
}
