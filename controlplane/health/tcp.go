package health

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// tcpProbe succeeds when a connection is established, and resets it. There are
// many of these, so it does without package net, at half the cost.
type tcpProbe struct{ dialer }

func (p *tcpProbe) try(ctx context.Context, deadline time.Time) error {
	family := unix.AF_INET
	if p.to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return plain(os.NewSyscallError("socket", err), true)
	}
	passage, err := p.prepare(fd)
	defer passage.release()
	if err != nil {
		unix.Close(fd)
		return plain(err, true)
	}
	to := sockaddr(p.to)
	if err = unix.Connect(fd, to); err != unix.EINPROGRESS {
		unix.Close(fd)
		return passage.result(plain(err, true))
	}
	f := os.NewFile(uintptr(fd), "tcp check")
	defer f.Close()
	return passage.result(plain(await(ctx, f, to, deadline), true))
}

// prepare has the socket end with a reset, so that nothing of the connection
// stays behind here or on the backend, and gives it its source.
func (p *tcpProbe) prepare(fd int) (*passage, error) {
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return nil, os.NewSyscallError("SO_LINGER", err)
	}
	if p.tunnel != nil {
		source, err := p.from()
		if err != nil {
			return nil, err
		}
		return p.bind(fd, "tcp", source)
	}
	if !p.source.IsValid() {
		return nil, nil
	}
	// The port is chosen when the other end is known, so that many connections
	// to different ends can share one.
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return nil, os.NewSyscallError("IP_BIND_ADDRESS_NO_PORT", err)
	}
	return nil, os.NewSyscallError("bind", unix.Bind(fd, sockaddr(addrOnly(p.source))))
}

// await waits for the connection that is under way.
func await(ctx context.Context, f *os.File, to unix.Sockaddr, deadline time.Time) error {
	if err := f.SetWriteDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { f.SetWriteDeadline(past) })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Write(func(fd uintptr) bool { // before it waits, too: it may be established by now
		switch result = unix.Connect(int(fd), to); result {
		case unix.EISCONN:
			result = nil
			return true
		case unix.EALREADY, unix.EINPROGRESS, unix.EINTR:
			return false
		}
		return true
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("connect", result)
}
