package ipc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxMessage = 64 << 10
	maxFDs     = 128
)

// Conn is one end of the Unix socket between the two processes. A message is
// one packet, so it is there in full or not at all. Send may be called from
// several goroutines, Receive from one.
type Conn struct {
	file   *os.File
	send   sync.Mutex
	closed atomic.Bool
}

// Message is one message as received. Whoever receives it owns its
// descriptors.
type Message struct {
	Kind Kind            `json:"kind"`
	Body json.RawMessage `json:"body,omitempty"`
	FDs  []int           `json:"-"`
}

// Pair makes the two ends; the second is for the child process.
func Pair() (parent *Conn, child *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("ipc: socketpair: %w", err)
	}
	for _, fd := range fds {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4*maxMessage); err != nil {
			unix.Close(fds[0])
			unix.Close(fds[1])
			return nil, nil, fmt.Errorf("ipc: send buffer: %w", err)
		}
	}
	return &Conn{file: os.NewFile(uintptr(fds[0]), "control")}, os.NewFile(uintptr(fds[1]), "data"), nil
}

// Inherit is the data process's end, from the descriptor number it was started
// with.
func Inherit(fd int) (*Conn, error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET {
		return nil, fmt.Errorf("ipc: descriptor %d is no socket of a control process: this command is started by `fairlead run`", fd)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("ipc: %w", err)
	}
	unix.CloseOnExec(fd)
	return &Conn{file: os.NewFile(uintptr(fd), "control")}, nil
}

// Send sends one message with its descriptors, which the caller keeps.
func (c *Conn) Send(kind Kind, body any, fds ...int) error {
	if len(fds) > maxFDs {
		return fmt.Errorf("ipc: %d descriptors in one message, %d are possible", len(fds), maxFDs)
	}
	m := Message{Kind: kind}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("ipc: %w", err)
		}
		m.Body = b
	}
	packet, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("ipc: %w", err)
	}
	if len(packet) > maxMessage {
		return fmt.Errorf("ipc: message of %d bytes, %d are possible", len(packet), maxMessage)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	c.send.Lock()
	defer c.send.Unlock()
	return c.raw("send", true, func(fd int) error {
		_, err := unix.SendmsgN(fd, packet, rights, nil, unix.MSG_NOSIGNAL)
		return err
	})
}

// Receive waits for the next message. It returns io.EOF when the other process
// is gone.
func (c *Conn) Receive() (*Message, error) {
	packet := make([]byte, maxMessage)
	rights := make([]byte, unix.CmsgSpace(4*maxFDs))
	var n, nr, flags int
	err := c.raw("receive", false, func(fd int) (err error) {
		n, nr, flags, _, err = unix.Recvmsg(fd, packet, rights, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	switch {
	case errors.Is(err, unix.ECONNRESET):
		return nil, io.EOF
	case err != nil:
		return nil, err
	case n == 0:
		return nil, io.EOF
	}
	fds, err := parseRights(rights[:nr])
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.New("ipc: message was cut short")
	}
	m := &Message{}
	if err == nil {
		if err = json.Unmarshal(packet[:n], m); err != nil {
			err = fmt.Errorf("ipc: %w", err)
		}
	}
	if err != nil {
		closeAll(fds)
		return nil, err
	}
	m.FDs = fds
	return m, nil
}

// SetReceiveDeadline has Receive fail after a time; the zero Time takes that
// back.
func (c *Conn) SetReceiveDeadline(t time.Time) error { return c.file.SetReadDeadline(t) }

// Close closes this end; the other sees io.EOF, and who waits here for a message
// os.ErrClosed.
func (c *Conn) Close() error {
	c.closed.Store(true)
	return c.file.Close()
}

// Decode reads the body of a message of the kind that is due and checks how
// many descriptors came with it. On an error the descriptors are closed.
func (m *Message) Decode(want Kind, body any, fds int) error {
	err := error(nil)
	switch {
	case m.Kind != want:
		err = &KindError{Want: want, Got: m.Kind}
	case fds >= 0 && len(m.FDs) != fds:
		err = fmt.Errorf("ipc: a %q message came with %d descriptors instead of %d", m.Kind, len(m.FDs), fds)
	default:
		if err = json.Unmarshal(m.Body, body); err != nil {
			err = fmt.Errorf("ipc: %q message: %w", m.Kind, err)
		}
	}
	if err != nil {
		closeAll(m.FDs)
		m.FDs = nil
	}
	return err
}

// raw runs a system call on the descriptor and lets the runtime wait while it
// would block.
func (c *Conn) raw(what string, write bool, call func(fd int) error) error {
	rc, err := c.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("ipc: %s: %w", what, err)
	}
	wait := rc.Read
	if write {
		wait = rc.Write
	}
	var callErr error
	err = wait(func(fd uintptr) bool {
		for {
			callErr = call(int(fd))
			if !errors.Is(callErr, unix.EINTR) {
				return !errors.Is(callErr, unix.EAGAIN)
			}
		}
	})
	if err != nil && c.closed.Load() {
		err = os.ErrClosed // the runtime has an error of its own for that
	}
	if err != nil {
		return fmt.Errorf("ipc: %s: %w", what, err)
	}
	if callErr != nil {
		return fmt.Errorf("ipc: %s: %w", what, callErr)
	}
	return nil
}

func parseRights(b []byte) ([]int, error) {
	if len(b) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(b)
	if err != nil {
		return nil, fmt.Errorf("ipc: %w", err)
	}
	var fds []int
	for i := range messages {
		more, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // another kind of control message carries no descriptor
		}
		fds = append(fds, more...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
