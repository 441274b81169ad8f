package decap

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// newNamespace moves the test into a fresh network namespace for good. It
// belongs to the test's goroutine: subtests run outside of it.
func newNamespace(t *testing.T) {
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

// newPair adds a veth pair: near is the backend's interface, far the wire.
func newPair(t *testing.T, name string, mtu int) (near, far netlink.Link) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	attrs.NumRxQueues, attrs.NumTxQueues = 1, 1
	attrs.HardwareAddr = nearMAC
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "p", PeerHardwareAddr: farMAC}); err != nil {
		t.Fatal(err)
	}
	near, far = byName(t, name), byName(t, name+"p")
	quiet(t, name+"p")
	for _, l := range []netlink.Link{near, far} {
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	return near, far
}

// quiet keeps the kernel from sending IPv6 frames of its own.
func quiet(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", name, "disable_ipv6"), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
}

func byName(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// addAddress gives an interface an address that is usable at once.
func addAddress(t *testing.T, l netlink.Link, prefix string) {
	t.Helper()
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		t.Fatal(err)
	}
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(l, a); err != nil {
		t.Fatal(err)
	}
}

// addGateway makes farMAC the way to a prefix.
func addGateway(t *testing.T, l netlink.Link, prefix, gateway string) {
	t.Helper()
	_, dst, err := net.ParseCIDR(prefix)
	if err != nil {
		t.Fatal(err)
	}
	ip := net.ParseIP(gateway)
	family := unix.AF_INET6
	if ip.To4() != nil {
		family = unix.AF_INET
	}
	if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, Family: family, State: netlink.NUD_PERMANENT, IP: ip, HardwareAddr: farMAC}); err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: dst, Gw: ip}); err != nil {
		t.Fatal(err)
	}
}

// wire is an interface as raw frames.
type wire struct {
	fd   int
	addr unix.SockaddrLinklayer
}

func newWire(t *testing.T, l netlink.Link) *wire {
	t.Helper()
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	addr := unix.SockaddrLinklayer{Ifindex: l.Attrs().Index, Protocol: all}
	if err := unix.Bind(fd, &addr); err != nil {
		t.Fatal(err)
	}
	return &wire{fd: fd, addr: addr}
}

func (w *wire) send(t *testing.T, frame []byte) {
	t.Helper()
	if err := unix.Sendto(w.fd, frame, 0, &w.addr); err != nil {
		t.Fatalf("send a frame of %d bytes: %v", len(frame), err)
	}
}

// receive waits for a frame from the backend that match accepts.
func (w *wire) receive(t *testing.T, what string, match func(frame []byte) bool) []byte {
	t.Helper()
	buf := make([]byte, 1<<16)
	var found []byte
	eventually(t, what, func() bool {
		n, from, err := unix.Recvfrom(w.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		if from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING || !match(buf[:n]) {
			return false
		}
		found = append([]byte{}, buf[:n]...)
		return true
	})
	return found
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
