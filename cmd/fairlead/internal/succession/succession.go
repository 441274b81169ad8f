// Package succession hands a node from one control process to the next, which
// may be of another binary, while the data process goes on:
//
//	old                                  new
//	starts it
//	                                     reads its configuration, looks at the machine
//	                            <- prepared
//	stops its parts, leaves the data process alone
//	go, with what it knows ->
//	                                     takes the data process over, starts its parts
//	                            <- ready
//	ends
//
// Whatever goes wrong before ready, the new process is ended and the old one
// takes the data process over again.
package succession

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/ipc"
)

// Variable names the environment variable by which a process knows that it is
// to succeed another one: the number of its descriptor.
const Variable = "FAIRLEAD_UPGRADE"

// Messages of a succession.
const (
	kindPrepared ipc.Kind = "prepared"
	kindGo       ipc.Kind = "go" // descriptor: what the old process knows
	kindReady    ipc.Kind = "ready"
)

// How long a new process may take.
const (
	PrepareWait = 30 * time.Second
	ReadyWait   = 60 * time.Second
)

// Command is the file that this process was started from, by the name it was
// started with: what is there now may be another binary.
func Command() (string, error) {
	name := os.Args[0]
	if !strings.ContainsRune(name, '/') {
		return exec.LookPath(name)
	}
	return filepath.Abs(name)
}

// Heir is the process that is to succeed this one.
type Heir struct {
	PID    int
	cmd    *exec.Cmd
	conn   *ipc.Conn
	exited chan struct{}
	err    error // how it ended; valid once exited is closed
}

// Start starts the binary with this process's arguments, and returns when it is
// prepared.
func Start(binary string) (*Heir, error) {
	conn, child, err := ipc.Pair()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{child}
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); name != Variable && name != "WATCHDOG_PID" && name != "LISTEN_PID" && name != "LISTEN_FDS" {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, Variable+"=3")
	err = cmd.Start()
	child.Close()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	h := &Heir{PID: cmd.Process.Pid, cmd: cmd, conn: conn, exited: make(chan struct{})}
	go func() {
		h.err = cmd.Wait()
		close(h.exited)
	}()
	if err := h.await(kindPrepared, PrepareWait); err != nil {
		return nil, errors.Join(err, h.End())
	}
	return h, nil
}

// await waits for one message.
func (h *Heir) await(kind ipc.Kind, wait time.Duration) error {
	if err := h.conn.SetReceiveDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	m, err := h.conn.Receive()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("process %d was not %s within %v", h.PID, kind, wait)
	case errors.Is(err, io.EOF):
		<-h.exited
		return fmt.Errorf("process %d ended before it was %s: %w", h.PID, kind, h.err)
	case err != nil:
		return err
	case m.Kind != kind:
		return &ipc.KindError{Want: kind, Got: m.Kind}
	}
	return nil
}

// Go has the process take over, with what this one knows. When it returns
// without an error, that process is the node's.
func (h *Heir) Go(state []byte) error {
	fd, err := unix.MemfdCreate("fairlead-state", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	file := os.NewFile(uintptr(fd), "state")
	defer file.Close()
	if _, err := file.Write(state); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := h.conn.Send(kindGo, nil, fd); err != nil {
		return err
	}
	return h.await(kindReady, ReadyWait)
}

// End ends the process, whatever it does, and returns when it is gone.
func (h *Heir) End() error {
	h.cmd.Process.Kill()
	<-h.exited
	return h.conn.Close()
}

// Predecessor is the process that this one is to succeed.
type Predecessor struct{ conn *ipc.Conn }

// Find is the process that this one is to succeed; nil when there is none.
func Find() (*Predecessor, error) {
	text, there := os.LookupEnv(Variable)
	if !there {
		return nil, nil
	}
	os.Unsetenv(Variable)
	fd, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("%s=%q: not a descriptor", Variable, text)
	}
	conn, err := ipc.Inherit(fd)
	if err != nil {
		return nil, err
	}
	return &Predecessor{conn}, nil
}

// Prepared says that nothing is known that would keep this process from taking
// over, and returns what the one before knows when it has stopped.
func (p *Predecessor) Prepared() (state []byte, err error) {
	if err := p.conn.Send(kindPrepared, nil); err != nil {
		return nil, err
	}
	m, err := p.conn.Receive()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the process before has changed its mind, or has ended")
	}
	if err != nil {
		return nil, err
	}
	if m.Kind != kindGo || len(m.FDs) != 1 {
		return nil, &ipc.KindError{Want: kindGo, Got: m.Kind}
	}
	file := os.NewFile(uintptr(m.FDs[0]), "state")
	defer file.Close()
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(file)
}

// Ready says that this process has taken over. The other one ends.
func (p *Predecessor) Ready() error {
	err := p.conn.Send(kindReady, nil)
	return errors.Join(err, p.conn.Close())
}
