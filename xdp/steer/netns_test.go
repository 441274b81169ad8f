package steer

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// pair is a veth pair in a namespace of the test's own: near carries the
// steering program, far is where frames are sent from.
type pair struct {
	near, far netlink.Link
}

func (p pair) ifindex() int { return p.near.Attrs().Index }
func (p pair) name() string { return p.near.Attrs().Name }

// newNamespace moves the test into a fresh network namespace for good. It
// belongs to the test's goroutine: subtests run outside of it.
func newNamespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	before, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatalf("make a network namespace: %v (these tests need root)", err)
	}
	t.Cleanup(func() {
		if err := netns.Set(before); err != nil {
			t.Errorf("leave the namespace: %v", err)
		}
		ns.Close()
		before.Close()
		runtime.UnlockOSThread()
	})
}

// newPair adds a veth pair to the namespace. The near end has as many queues as
// asked for, the far end one.
func newPair(t testing.TB, name string, mtu, queues int) pair {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	attrs.NumRxQueues, attrs.NumTxQueues = queues, queues
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: name + "p", PeerNumRxQueues: uint32(queues), PeerNumTxQueues: 1}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	p := pair{near: byName(t, name), far: byName(t, name+"p")}
	for _, l := range []netlink.Link{p.near, p.far} {
		quiet(t, l.Attrs().Name)
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// quiet keeps the kernel from sending IPv6 frames of its own.
func quiet(t testing.TB, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", name, "disable_ipv6"), []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

func byName(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// sender sends whole frames out of an interface.
type sender struct {
	fd   int
	addr unix.SockaddrLinklayer
}

func newSender(t *testing.T, l netlink.Link) *sender {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &sender{fd: fd, addr: unix.SockaddrLinklayer{Ifindex: l.Attrs().Index}}
}

func (s *sender) send(t *testing.T, frame []byte) {
	t.Helper()
	if err := unix.Sendto(s.fd, frame, 0, &s.addr); err != nil {
		t.Fatalf("send a frame of %d bytes: %v", len(frame), err)
	}
}

// eventually polls until ok says yes.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if ok() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("did not happen within 10 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// pinPath is a directory with a BPF file system for the test alone.
func pinPath(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bpf")
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

func open(t testing.TB, path string) *Steer {
	t.Helper()
	s, err := Open(Config{PinPath: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func attach(t testing.TB, s *Steer, p pair, mode Mode) Attached {
	t.Helper()
	a, err := s.Attach(p.ifindex(), p.name(), mode)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func setLocals(t testing.TB, s *Steer, locals ...Local) {
	t.Helper()
	if _, _, err := s.SetLocals(locals); err != nil {
		t.Fatal(err)
	}
}

// counters of one interface.
func counters(t *testing.T, s *Steer, ifindex int) Counters {
	t.Helper()
	all, err := s.Counters()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.IfIndex == ifindex {
			return c.Counters
		}
	}
	t.Fatalf("interface %d has no counters", ifindex)
	return Counters{}
}
