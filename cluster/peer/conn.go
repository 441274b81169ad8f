package peer

import (
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unsentLimit is how much the kernel takes of a connection before it is sent, in
// bytes: what a small message may have to wait behind.
const unsentLimit = 128 << 10

// base is what moments are measured from: monotonic, so that no clock that is
// set makes a connection old.
var base = time.Now()

func now() int64 { return int64(time.Since(base)) }

// watchedConn knows when something has arrived last, and how much.
type watchedConn struct {
	net.Conn
	lastRead      atomic.Int64 // see now
	read, written atomic.Uint64
	writes        atomic.Uint64
}

func watch(c net.Conn) *watchedConn {
	limitUnsent(c)
	w := &watchedConn{Conn: c}
	w.lastRead.Store(now())
	return w
}

func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.lastRead.Store(now())
		c.read.Add(uint64(n))
	}
	return n, err
}

func (c *watchedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(uint64(n))
	c.writes.Add(1)
	return n, err
}

// limitUnsent keeps what waits to be sent here, where it has an order, and not
// in the kernel. Where it cannot be set, such as on what is not TCP, all works
// as well.
func limitUnsent(c net.Conn) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentLimit)
	})
}
