package health

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dialer makes connections of checks to one address: straight to it, or through
// the tunnel to a backend. It is never changed.
type dialer struct {
	to      netip.AddrPort
	source  netip.Addr // that connections come from; the zero Addr: as the routes say
	backend netip.Addr
	tunnel  *tunnel // nil: direct
	way     Way     // of the tunnel
}

// dial connects by "tcp" or "udp".
func (d *dialer) dial(ctx context.Context, network string, deadline time.Time) (net.Conn, error) {
	n := net.Dialer{Deadline: deadline, KeepAlive: -1}
	n.SetMultipathTCP(false)
	var f *passage
	if d.tunnel != nil {
		source, err := d.from()
		if err != nil {
			return nil, err
		}
		n.Control = func(_, _ string, raw syscall.RawConn) error {
			return control(raw, func(fd int) (err error) {
				f, err = d.bind(fd, network, source)
				return err
			})
		}
	} else if d.source.IsValid() {
		n.LocalAddr = &net.TCPAddr{IP: d.source.AsSlice()}
		if network == "udp" {
			n.LocalAddr = &net.UDPAddr{IP: d.source.AsSlice()}
		}
	}
	conn, err := n.DialContext(ctx, network, d.to.String())
	if err != nil {
		f.release()
		return nil, f.result(plain(err, true))
	}
	if err := f.result(nil); err != nil && network == "tcp" {
		conn.Close()
		f.release()
		return nil, err
	}
	if t, is := conn.(*net.TCPConn); is {
		// Ends with a reset: nothing of the connection stays behind, here or on
		// the backend.
		t.SetLinger(0) //nolint:errcheck // it would only take longer to be forgotten
	}
	conn.SetDeadline(deadline) //nolint:errcheck // it has just been opened
	return &checkConn{Conn: conn, passage: f, stop: context.AfterFunc(ctx, func() { conn.SetDeadline(past) })}, nil
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

func control(raw syscall.RawConn, f func(fd int) error) error {
	var err error
	if outer := raw.Control(func(fd uintptr) { err = f(int(fd)) }); outer != nil {
		return outer
	}
	return err
}

// checkConn is a connection of a check. It ends with its deadline, or with the
// context that it was dialled with.
type checkConn struct {
	net.Conn
	passage *passage
	stop    func() bool
}

// Read is that of the connection. What is read without anything having gone
// through the tunnel that it was to take is not the backend's.
func (c *checkConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err = c.passage.result(err); err != nil {
		n = 0
	}
	return n, err
}

func (c *checkConn) Close() error {
	c.stop()
	err := c.Conn.Close()
	c.passage.release()
	return err
}

// from is the address that a check through the tunnel comes from.
func (d *dialer) from() (netip.Addr, error) {
	if d.source.IsValid() {
		return d.source, nil
	}
	return d.tunnel.source(d.backend, d.to.Addr())
}

// bind gives a socket a port of the source address, has what it sends go into
// the tunnel, and tells the tunnel to whom that goes.
func (d *dialer) bind(fd int, network string, source netip.Addr) (*passage, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, fwMark); err != nil {
		return nil, os.NewSyscallError("SO_MARK", err)
	}
	if err := unix.Bind(fd, sockaddr(addrOnly(source))); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	proto := uint8(unix.IPPROTO_TCP)
	if network == "udp" {
		proto = unix.IPPROTO_UDP
	}
	return d.tunnel.open(ident{proto, netip.AddrPortFrom(source, portOf(name))}, d.backend, d.way)
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func portOf(s unix.Sockaddr) uint16 {
	switch s := s.(type) {
	case *unix.SockaddrInet4:
		return uint16(s.Port)
	case *unix.SockaddrInet6:
		return uint16(s.Port)
	}
	return 0
}

// addrOnly is an address with the port left to the kernel.
func addrOnly(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 0) }
