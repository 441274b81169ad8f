package neighbor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many requests go to the kernel at once. Their answers
	// wait in the socket's receive buffer, of which each takes some 4 KiB: 32
	// fit into the smallest default.
	batchSize = 32
	// receiveSize is larger than any message of rtnetlink.
	receiveSize = 64 << 10
	// dumpTries bounds how often a dump is begun again because the table has
	// changed meanwhile.
	dumpTries = 5
	// answerTimeout in seconds; the kernel answers before the request returns.
	answerTimeout = 5
)

// conn asks the kernel. It belongs to one goroutine, and for ever to the
// network namespace it was opened in.
type conn struct {
	fd  int
	seq uint32
	in  []byte
	out encoder
}

func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: answerTimeout}),
	)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &conn{fd: fd, in: make([]byte, receiveSize)}, nil
}

func (c *conn) close() error { return unix.Close(c.fd) }

// message is one netlink message without its header.
type message struct {
	kind  uint16
	flags uint16
	seq   uint32
	body  []byte
}

// err is the error that a message of kind NLMSG_ERROR carries, nil for an
// acknowledgement and for every other kind.
func (m *message) err() error {
	if m.kind != unix.NLMSG_ERROR || len(m.body) < 4 {
		return nil
	}
	if n := int32(binary.NativeEndian.Uint32(m.body)); n != 0 {
		return unix.Errno(-n)
	}
	return nil
}

// batch sends n requests, each with its place in the encoder, and hands over
// the one answer to each. A request that has no answer by nature must ask for
// an acknowledgement.
func (c *conn) batch(n int, put func(i int, e *encoder), got func(i int, m *message)) error {
	for first := 0; first < n; first += batchSize {
		last := min(n, first+batchSize)
		base := c.seq
		c.out.buf = c.out.buf[:0]
		for i := first; i < last; i++ {
			c.out.seq = base + uint32(i-first)
			put(i, &c.out)
		}
		c.seq += uint32(last - first)
		if err := c.send(); err != nil {
			return err
		}
		for left := last - first; left > 0; {
			err := c.receive(func(m *message) {
				if at := m.seq - base; at < uint32(last-first) {
					got(first+int(at), m)
					left--
				}
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// dump asks for a whole table. When the table changed while it was read, it is
// read again: begin is called before each reading.
func (c *conn) dump(put func(e *encoder), begin func(), got func(m *message)) error {
	for range dumpTries {
		begin()
		c.out.buf, c.out.seq = c.out.buf[:0], c.seq
		c.seq++
		put(&c.out)
		if err := c.send(); err != nil {
			return err
		}
		done, torn := false, false
		var failed error
		for !done {
			err := c.receive(func(m *message) {
				if m.seq != c.out.seq || done {
					return
				}
				torn = torn || m.flags&unix.NLM_F_DUMP_INTR != 0
				switch m.kind {
				case unix.NLMSG_DONE:
					done = true
				case unix.NLMSG_ERROR:
					done, failed = true, m.err()
				default:
					got(m)
				}
			})
			if err != nil {
				return err
			}
		}
		if failed != nil {
			return fmt.Errorf("netlink dump: %w", failed)
		}
		if !torn {
			return nil
		}
	}
	return fmt.Errorf("netlink dump: the table changed during each of %d readings", dumpTries)
}

func (c *conn) send() error {
	if err := unix.Sendto(c.fd, c.out.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink request: %w", err)
	}
	return nil
}

// receive reads one datagram of messages.
func (c *conn) receive(got func(*message)) error {
	for {
		n, from, err := unix.Recvfrom(c.fd, c.in, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("netlink answer: %w", err)
		}
		if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != 0 {
			continue // not from the kernel
		}
		for m := range messages(c.in[:n]) {
			got(&m)
		}
		return nil
	}
}

// messages takes a datagram apart; what is cut off is left out. The bodies lie
// in b.
func messages(b []byte) iter.Seq[message] {
	return func(yield func(message) bool) {
		for len(b) >= unix.NLMSG_HDRLEN {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return
			}
			m := message{
				kind:  binary.NativeEndian.Uint16(b[4:]),
				flags: binary.NativeEndian.Uint16(b[6:]),
				seq:   binary.NativeEndian.Uint32(b[8:]),
				body:  b[unix.NLMSG_HDRLEN:size],
			}
			if !yield(m) {
				return
			}
			b = b[min(align(size), len(b)):]
		}
	}
}

// attributes takes a list of attributes apart; what is cut off is left out.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.SizeofRtAttr || size > len(b) {
				return
			}
			kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(kind, b[unix.SizeofRtAttr:size]) {
				return
			}
			b = b[min(align(size), len(b)):]
		}
	}
}

// encoder writes requests one after the other.
type encoder struct {
	buf   []byte
	seq   uint32
	start int // of the message being written
}

// begin starts a message with its fixed part.
func (e *encoder) begin(kind, flags uint16, fixed ...byte) {
	e.start = len(e.buf)
	e.buf = binary.NativeEndian.AppendUint32(e.buf, 0)
	e.buf = binary.NativeEndian.AppendUint16(e.buf, kind)
	e.buf = binary.NativeEndian.AppendUint16(e.buf, flags|unix.NLM_F_REQUEST)
	e.buf = binary.NativeEndian.AppendUint32(e.buf, e.seq)
	e.buf = binary.NativeEndian.AppendUint32(e.buf, 0) // port: the kernel fills it in
	e.buf = append(e.buf, fixed...)
	e.end()
}

func (e *encoder) attribute(kind uint16, value ...byte) {
	e.buf = binary.NativeEndian.AppendUint16(e.buf, uint16(unix.SizeofRtAttr+len(value)))
	e.buf = binary.NativeEndian.AppendUint16(e.buf, kind)
	e.buf = append(e.buf, value...)
	e.end()
}

func (e *encoder) attribute32(kind uint16, value uint32) {
	e.attribute(kind, binary.NativeEndian.AppendUint32(nil, value)...)
}

// end pads what was written and brings the message's length up to date.
func (e *encoder) end() {
	for len(e.buf) != align(len(e.buf)) {
		e.buf = append(e.buf, 0)
	}
	binary.NativeEndian.PutUint32(e.buf[e.start:], uint32(len(e.buf)-e.start))
}

// align rounds up to a multiple of four, as messages and attributes are.
func align(n int) int { return (n + 3) &^ 3 }
