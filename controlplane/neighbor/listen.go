package neighbor

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// notifyBuffer is how many bytes of notifications the kernel may hold for us.
const notifyBuffer = 4 << 20

// groups are the notifications that say that a way may have changed. Routes
// that vanish with an address or an interface are not notified of in IPv4:
// hence addresses and links.
var groups = []int{
	unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_NEXTHOP,
	unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
	unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE,
}

// listener receives the kernel's notifications.
type listener struct {
	file *os.File
	in   []byte
}

func openListener() (*listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	// Without CAP_NET_ADMIN the buffer is as large as the system allows.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, notifyBuffer) != nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, notifyBuffer)
	}
	errs := []error{err, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})}
	for _, g := range groups {
		errs = append(errs, unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g))
	}
	if err := errors.Join(errs...); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink notifications: %w", err)
	}
	return &listener{file: os.NewFile(uintptr(fd), "rtnetlink"), in: make([]byte, receiveSize)}, nil
}

// close ends run.
func (l *listener) close() error { return l.file.Close() }

// run collects notifications until the listener is closed. When some are lost,
// everything is read again; the socket itself goes on.
func (l *listener) run(c *changes, log *slog.Logger) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return // closed before it began
	}
	for {
		n, flags := 0, 0
		var from unix.Sockaddr
		closed := raw.Read(func(fd uintptr) bool {
			n, _, flags, from, err = unix.Recvmsg(int(fd), l.in, nil, 0)
			return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
		})
		switch {
		case closed != nil:
			return
		case err != nil || flags&unix.MSG_TRUNC != 0:
			log.Warn("notifications of the kernel were lost; its tables are read again", "error", err)
			c.everything()
			if err != nil && !errors.Is(err, unix.ENOBUFS) {
				time.Sleep(retryAfter / 10) // whatever it is, it must not become a spin
			}
			continue
		}
		if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != 0 {
			continue // not from the kernel
		}
		c.note(func(s *changeSet) {
			for m := range messages(l.in[:n]) {
				s.notification(&m)
			}
		})
	}
}

// notification enters one notification of the kernel.
func (s *changeSet) notification(m *message) {
	switch m.kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if l, ok := parseLink(m.body); ok && !s.everything {
			s.links[l.index] = linkChange{l, m.kind == unix.RTM_DELLINK}
		}
	case unix.RTM_NEWNEIGH:
		if n, ok := parseEntry(m.body); ok {
			s.entry(n)
		}
	case unix.RTM_DELNEIGH:
		if n, ok := parseEntry(m.body); ok {
			s.entry(entry{index: n.index, addr: n.addr})
		}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if p, ok := parsePrefix(m.body); ok {
			s.prefix(p)
		}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR, unix.RTM_NEWRULE, unix.RTM_DELRULE, unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP:
		s.anyRoute()
	}
}
