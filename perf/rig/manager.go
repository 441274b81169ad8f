package rig

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Manager plays systemd for a node: it is told how the node is (sd_notify(3)),
// keeps the descriptors that it is given (FDSTORE=1), and starts the node's next
// process with them (sd_listen_fds(3)).
type Manager struct {
	path  string
	conn  *net.UnixConn
	ended chan struct{}

	mu    sync.Mutex
	kept  map[string]int
	names []string // of kept, in the order they came
	said  []string // assignments other than those about descriptors
	beats int      // WATCHDOG=1
}

// NewManager makes a manager whose socket lies in dir.
func NewManager(dir string) (*Manager, error) {
	m := &Manager{path: filepath.Join(dir, "notify.sock"), ended: make(chan struct{}), kept: make(map[string]int)}
	var err error
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"}); err != nil {
		return nil, err
	}
	go m.listen()
	return m, nil
}

func (m *Manager) listen() {
	defer close(m.ended)
	text, rights := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4*32))
	for {
		n, nr, _, _, err := m.conn.ReadMsgUnix(text, rights)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		var fds []int
		if messages, err := unix.ParseSocketControlMessage(rights[:nr]); err == nil {
			for i := range messages {
				more, _ := unix.ParseUnixRights(&messages[i])
				fds = append(fds, more...)
			}
		}
		m.take(strings.Split(string(text[:n]), "\n"), fds)
	}
}

// take does what one message says.
func (m *Manager) take(assignments []string, fds []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := ""
	for _, a := range assignments {
		if n, is := strings.CutPrefix(a, "FDNAME="); is {
			name = n
		}
	}
	switch {
	case slices.Contains(assignments, "FDSTORE=1"):
		if len(fds) == 1 {
			m.kept[name] = fds[0]
			m.names = append(m.names, name)
			return
		}
	case slices.Contains(assignments, "FDSTOREREMOVE=1"):
		if fd, there := m.kept[name]; there {
			unix.Close(fd)
			delete(m.kept, name)
			m.names = slices.DeleteFunc(m.names, func(n string) bool { return n == name })
		}
	case slices.Contains(assignments, "WATCHDOG=1"):
		m.beats++
	default: // of BARRIER=1 the descriptor is closed below
		m.said = append(m.said, assignments...)
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// Kept is how many descriptors are kept.
func (m *Manager) Kept() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.kept)
}

// Said reports whether the node has said something.
func (m *Manager) Said(assignment string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.said, assignment)
}

// Beats is how often the node has said that it works.
func (m *Manager) Beats() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.beats
}

// Prepare has a command started as systemd starts a service.
func (m *Manager) Prepare(cmd *exec.Cmd, watchdog time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC="+strconv.FormatInt(watchdog.Microseconds(), 10))
	if len(m.names) == 0 {
		return nil
	}
	for _, name := range m.names {
		fd, err := unix.FcntlInt(uintptr(m.kept[name]), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("descriptor %s: %w", name, err)
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(fd), name))
	}
	cmd.Env = append(cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(m.names)), "LISTEN_FDNAMES="+strings.Join(m.names, ":"))
	// Which number the process has is known to itself alone.
	shell, err := exec.LookPath("sh")
	if err != nil {
		return err
	}
	cmd.Path, cmd.Args = shell, append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, cmd.Args...)
	return nil
}

// Close ends the manager and closes what it keeps.
func (m *Manager) Close() error {
	err := m.conn.Close()
	<-m.ended
	for _, fd := range m.kept {
		unix.Close(fd)
	}
	return err
}

// SaidMain reports whether the node has said that a process is its main one now.
func (m *Manager) SaidMain(pid int) bool { return m.Said("MAINPID=" + strconv.Itoa(pid)) }
