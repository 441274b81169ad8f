package xdptest

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// The far end of a link: what a test sends to and sees of a port.

// openPacketSocket opens a packet socket on an interface of this thread's
// namespace. Its buffers hold whatever a test sends.
func openPacketSocket(ifname string) (int, error) {
	iface, err := net.InterfaceByName(ifname)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open packet socket: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	for _, buffer := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, buffer, 256<<20)
		}
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: iface.Index})
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("set up packet socket on %s: %w", ifname, err)
	}
	return fd, nil
}

// Send puts frames on the wire towards a port. It reports failure, so that it
// may be called while the link is down or from any goroutine.
func (l *Lab) Send(port int, frames ...[]byte) error {
	for _, f := range frames {
		if _, err := unix.Write(l.links[port].packet, f); err != nil {
			return fmt.Errorf("send frame of %d bytes to %s: %w", len(f), l.links[port].Name, err)
		}
	}
	return nil
}

// Inject is Send that fails the test.
func (l *Lab) Inject(t testing.TB, port int, frames ...[]byte) {
	t.Helper()
	if err := l.Send(port, frames...); err != nil {
		t.Fatal(err)
	}
}

// Sent returns the test frames that came out of a port since the last call.
func (l *Lab) Sent(port int) [][]byte {
	var frames [][]byte
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(l.links[port].packet, buf)
		if err != nil {
			return frames
		}
		if n >= 14 && binary.BigEndian.Uint16(buf[12:]) == EtherType {
			frames = append(frames, append([]byte(nil), buf[:n]...))
		}
	}
}

// CloseFar closes the packet socket on a port's far end, which would slow a
// benchmark down: Send and Sent may not be called for the port any more.
func (l *Lab) CloseFar(t testing.TB, port int) {
	t.Helper()
	k := l.links[port]
	if err := unix.Close(k.packet); err != nil {
		t.Fatal(err)
	}
	k.packet = -1
}

// FarIndex is the interface index of a port's far end.
func (l *Lab) FarIndex(t testing.TB, port int) int {
	t.Helper()
	far, err := l.nl.LinkByName(l.links[port].Peer)
	if err != nil {
		t.Fatal(err)
	}
	return far.Attrs().Index
}

func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
