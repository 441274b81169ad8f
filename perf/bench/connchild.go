package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The clients and the server of real TCP connections: one thread each, on
// epoll, so that they leave as much of the CPUs as possible to the forwarder.

// What goes over each connection, in bytes.
const (
	requestLen  = 100
	responseLen = 100
)

// parallel is how many connections the clients have at a time.
const parallel = 64

// connCounts is the shared memory in which the clients count.
type connCounts struct {
	completed uint64 // connections that got their response and were closed
	failed    uint64
}

const connCountsSize = 4096

// mapConnCounts maps shared memory made for them.
func mapConnCounts(fd int) (mem []byte, counts *connCounts, err error) {
	mem, err = unix.Mmap(fd, 0, connCountsSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map the clients' counters: %w", err)
	}
	return mem, (*connCounts)(unsafe.Pointer(&mem[0])), nil
}

// loop is an epoll instance with what is known of each connection.
type loop struct {
	epoll int
	conns []conn // by descriptor
}

// conn is how far a connection has come.
type conn struct {
	begun  bool // the client has sent its request
	length int  // bytes read
}

func newLoop() (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &loop{epoll: epoll}, nil
}

// add waits for both directions of a descriptor, once for every change.
func (l *loop) add(fd int, events uint32) error {
	for len(l.conns) <= fd {
		l.conns = append(l.conns, conn{})
	}
	l.conns[fd] = conn{}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("epoll: add: %w", err)
	}
	return nil
}

// each calls f for every event, for ever.
func (l *loop) each(f func(fd int, events uint32) error) error {
	events := make([]unix.EpollEvent, 2*parallel)
	for {
		n, err := unix.EpollWait(l.epoll, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("epoll: wait: %w", err)
		}
		for _, e := range events[:n] {
			if err := f(int(e.Fd), e.Events); err != nil {
				return err
			}
		}
	}
}

const everyChange = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET

// read takes in what there is and reports whether the other side has finished.
func (l *loop) read(fd int, buf []byte) (closed bool, err error) {
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return true, err
		case n == 0:
			return true, nil
		}
		l.conns[fd].length += n
		if n < len(buf) {
			return false, nil
		}
	}
}

// serveChild answers every request on a port until it is killed.
func serveChild(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%d arguments, want a port and a CPU", len(args))
	}
	port, err := atoi(args[0])
	if err != nil {
		return err
	}
	cpu, err := atoi(args[1])
	if err != nil {
		return err
	}
	if err := pinThread(cpu); err != nil {
		return err
	}
	l, err := newLoop()
	if err != nil {
		return err
	}
	listener, err := listenTCP(port)
	if err != nil {
		return err
	}
	if err := l.add(listener, unix.EPOLLIN); err != nil {
		return err
	}
	fmt.Print(ready)
	buf, response := make([]byte, 4*requestLen), make([]byte, responseLen)
	return l.each(func(fd int, _ uint32) error {
		if fd == listener {
			return l.acceptAll(listener)
		}
		closed, err := l.read(fd, buf)
		c := &l.conns[fd]
		if !closed && c.length >= requestLen {
			c.length -= requestLen
			_, err = unix.Write(fd, response)
		}
		if closed || err != nil {
			return unix.Close(fd) // what went wrong is the client's to count
		}
		return nil
	})
}

func listenTCP(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Port: port}),
		unix.Listen(fd, 4096),
	)
	if err != nil {
		return -1, fmt.Errorf("listen on port %d: %w", port, errors.Join(err, unix.Close(fd)))
	}
	return fd, nil
}

func (l *loop) acceptAll(listener int) error {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return nil // none is waiting, or one has gone again
		}
		if err := l.add(fd, unix.EPOLLIN|unix.EPOLLET); err != nil {
			return err
		}
	}
}

// connectChild makes connections, one after the other on each of its slots,
// until it is killed.
func connectChild(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("%d arguments, want a target, the first source address, how many there are, and a CPU", len(args))
	}
	target, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return err
	}
	source, err := netip.ParseAddr(args[1])
	if err != nil {
		return err
	}
	sources, err := atoi(args[2])
	if err != nil {
		return err
	}
	cpu, err := atoi(args[3])
	if err != nil {
		return err
	}
	_, counts, err := mapConnCounts(firstExtraFile)
	if err != nil {
		return err
	}
	if err := pinThread(cpu); err != nil {
		return err
	}
	l, err := newLoop()
	if err != nil {
		return err
	}
	c := &connector{loop: l, target: unix.SockaddrInet4{Port: int(target.Port()), Addr: target.Addr().As4()}, source: source.As4(), sources: sources, counts: counts}
	for range parallel {
		if err := c.begin(); err != nil {
			return err
		}
	}
	return l.each(c.step)
}

// connector is the clients.
type connector struct {
	*loop
	target  unix.SockaddrInet4
	source  [4]byte // the first address
	sources int
	next    int
	counts  *connCounts
	request [requestLen]byte
	buf     [4 * responseLen]byte
}

// begin opens a connection from the next source address: ports that rest
// after a connection are as many for each of them.
func (c *connector) begin() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	from := unix.SockaddrInet4{Addr: c.source}
	binary.BigEndian.PutUint32(from.Addr[:], binary.BigEndian.Uint32(c.source[:])+uint32(c.next%c.sources))
	c.next++
	err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1), unix.Bind(fd, &from))
	if err == nil {
		err = c.add(fd, everyChange)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("connect from %v: %w", from.Addr, err), unix.Close(fd))
	}
	if err := unix.Connect(fd, &c.target); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return c.end(fd, false)
	}
	return nil
}

// step takes a connection further.
func (c *connector) step(fd int, events uint32) error {
	at := &c.conns[fd]
	if !at.begun {
		if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			return c.end(fd, false)
		}
		if events&unix.EPOLLOUT == 0 {
			return nil
		}
		at.begun = true
		if n, err := unix.Write(fd, c.request[:]); err != nil || n < requestLen {
			return c.end(fd, false)
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
		return nil
	}
	closed, err := c.read(fd, c.buf[:])
	if at.length >= responseLen {
		return c.end(fd, true)
	}
	if closed || err != nil {
		return c.end(fd, false)
	}
	return nil
}

// end closes a connection and opens the next.
func (c *connector) end(fd int, completed bool) error {
	count := &c.counts.failed
	if completed {
		count = &c.counts.completed
	}
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	atomic.AddUint64(count, 1)
	return c.begin()
}
