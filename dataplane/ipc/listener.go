package ipc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Listener is where a data process is found by a control process that did not
// start it: a Unix socket in the file system, which only its owner and root may
// connect to. Its descriptor outlives the process that made it, in those that it
// was handed to; so connections wait in it while a process is replaced.
type Listener struct {
	conn Conn // for its system calls
	fd   int
}

// Credentials say who is at the other end of a connection, as the kernel knows
// it. For the end that connected, it is who made the listener.
type Credentials struct {
	PID int
	UID uint32
}

// backlog is how many connections may wait for a process that is being replaced.
const backlog = 8

// Listen makes a listener. A socket file that is there already is replaced:
// whoever calls it has found that nobody answers there.
func Listen(path string) (*Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("ipc: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("ipc: %w", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("ipc: socket: %w", err)
	}
	// Nobody can connect before the listener listens, which is when the file
	// has its mode.
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("ipc: listen on %s: %w", path, err)
	}
	return newListener(fd), nil
}

func newListener(fd int) *Listener {
	return &Listener{conn: Conn{file: os.NewFile(uintptr(fd), "rest")}, fd: fd}
}

// InheritListener is the listener behind a descriptor that was handed over.
func InheritListener(fd int) (*Listener, error) {
	on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err == nil && on == 0 {
		err = errors.New("it does not listen")
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("ipc: descriptor %d as a listener: %w", fd, err)
	}
	return newListener(fd), nil
}

// FD is the listener's descriptor, to hand over; the listener keeps owning it.
func (l *Listener) FD() int { return l.fd }

// Accept waits for a connection. It returns os.ErrClosed when the listener is
// closed.
func (l *Listener) Accept() (*Conn, Credentials, error) {
	fd := -1
	err := l.conn.raw("accept", false, func(listener int) (err error) {
		fd, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return err
	})
	if err != nil {
		return nil, Credentials{}, err
	}
	return connected(fd)
}

// Close closes this process's descriptor of the listener.
func (l *Listener) Close() error { return l.conn.Close() }

// ErrNobody is the error of Dial when no process has the listener.
var ErrNobody = errors.New("ipc: nobody listens")

// Dial connects to the process that has the listener at path.
func Dial(path string) (*Conn, Credentials, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, Credentials{}, fmt.Errorf("ipc: socket: %w", err)
	}
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	if err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
			return nil, Credentials{}, ErrNobody
		}
		return nil, Credentials{}, fmt.Errorf("ipc: connect to %s: %w", path, err)
	}
	return connected(fd)
}

// connected makes a Conn of a connected socket.
func connected(fd int) (*Conn, Credentials, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4*maxMessage)
	}
	if err != nil {
		unix.Close(fd)
		return nil, Credentials{}, fmt.Errorf("ipc: new connection: %w", err)
	}
	return &Conn{file: os.NewFile(uintptr(fd), "control")}, Credentials{PID: int(cred.Pid), UID: cred.Uid}, nil
}
