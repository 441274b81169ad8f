// Package systemd speaks the protocol of sd_notify(3) and sd_listen_fds(3): a
// service tells its manager how it is, and has it keep descriptors, which the
// next process of the service is started with.
package systemd

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Manager is the service manager that has started this process. A nil Manager
// is none, and takes everything.
type Manager struct {
	fd       int // of a datagram socket
	to       *unix.SockaddrUnix
	watchdog time.Duration // 0: it does not watch
	last     time.Time     // when it was last told that this process works
}

// sendWait bounds how long the manager may take to read what it is told.
const sendWait = 2 * time.Second

// Find is the manager that NOTIFY_SOCKET names; nil when there is none.
func Find() (*Manager, error) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil, nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	wait := unix.NsecToTimeval(sendWait.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	m := &Manager{fd: fd, to: &unix.SockaddrUnix{Name: path}}
	pid, watched := os.LookupEnv("WATCHDOG_PID")
	if usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 && (!watched || pid == strconv.Itoa(os.Getpid())) {
		m.watchdog = time.Duration(usec) * time.Microsecond
	}
	return m, nil
}

// Send tells the manager of assignments ("READY=1"), with descriptors, which
// the caller keeps.
func (m *Manager) Send(fds []int, assignments ...string) error {
	if m == nil {
		return nil
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	text := []byte(strings.Join(assignments, "\n"))
	_, err := unix.SendmsgN(m.fd, text, rights, m.to, unix.MSG_NOSIGNAL)
	for errors.Is(err, unix.EINTR) {
		_, err = unix.SendmsgN(m.fd, text, rights, m.to, unix.MSG_NOSIGNAL)
	}
	if err != nil {
		return fmt.Errorf("tell the service manager %q: %w", assignments[0], err)
	}
	return nil
}

// Working says that this process does what it is for. It may be called often.
func (m *Manager) Working() {
	if m == nil || m.watchdog == 0 || time.Since(m.last) < m.watchdog/4 {
		return
	}
	if m.Send(nil, "WATCHDOG=1") == nil {
		m.last = time.Now()
	}
}

// Barrier returns when the manager has taken everything that it was told.
func (m *Manager) Barrier() error {
	if m == nil {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	err = m.Send([]int{int(w.Fd())}, "BARRIER=1")
	w.Close()
	if err != nil {
		return err
	}
	if err := r.SetReadDeadline(time.Now().Add(sendWait)); err != nil {
		return err
	}
	// The manager closes its end when it has come to this message.
	if _, err := r.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the service manager has not read what it was told within %v", sendWait)
	}
	return nil
}

// Keep has the manager keep a descriptor under a name, in the place of any other
// of that name.
func (m *Manager) Keep(name string, fd int) error {
	if m == nil {
		return nil
	}
	if err := m.Forget(name); err != nil {
		return err
	}
	return m.Send([]int{fd}, "FDSTORE=1", "FDNAME="+name, "FDPOLL=0")
}

// Forget has the manager close the descriptors of a name.
func (m *Manager) Forget(name string) error {
	return m.Send(nil, "FDSTOREREMOVE=1", "FDNAME="+name)
}

// firstKept is the number of the first descriptor that a process is started with
// (SD_LISTEN_FDS_START).
const firstKept = 3

// Kept are the descriptors that the manager has kept, by name. It may be called
// once, before this process opens anything.
func Kept() map[string]int {
	defer func() {
		for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			os.Unsetenv(name)
		}
	}()
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n <= 0 || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	kept := make(map[string]int, n)
	for i := range n {
		fd := firstKept + i
		unix.CloseOnExec(fd)
		if _, twice := kept[nameOf(names, i)]; twice {
			unix.Close(fd)
			continue
		}
		kept[nameOf(names, i)] = fd
	}
	return kept
}

func nameOf(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return ""
}
