package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/controlplane/model"
)

// execProbe succeeds when a program ends with status 0.
type execProbe struct {
	starter *starter
	command []string
	env     []string
}

// mostOutput is how much of a program's output is kept, for its last line to be
// the reason.
const mostOutput = 4 << 10

// execGrace is how long a program that was killed, or has ended, may keep its
// output open by way of others that it has started.
const execGrace = 100 * time.Millisecond

func newExecProbe(s *starter, command []string, key model.BackendKey, to netip.AddrPort) *execProbe {
	return &execProbe{starter: s, command: command, env: []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"FAIRLEAD_POOL=" + key.Pool,
		"FAIRLEAD_BACKEND_ADDRESS=" + key.Endpoint.Addr().String(),
		"FAIRLEAD_BACKEND_PORT=" + strconv.Itoa(int(to.Port())),
	}}
}

func (p *execProbe) try(ctx context.Context, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.command[0], p.command[1:]...)
	out := &tail{most: mostOutput}
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = p.env, "/", out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = execGrace
	if err := p.starter.start(cmd); err != nil {
		return own(fmt.Errorf("start: %w", err))
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errors.New("the program did not end in time")
	case ctx.Err() != nil:
		return errEnded
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	case !errors.As(err, &exit):
		return err
	}
	said := out.lastLine()
	if said != "" {
		said = ": " + clip(said)
	}
	return fmt.Errorf("%s%s", exit.ProcessState, said)
}

// tail keeps the end of what is written to it.
type tail struct {
	most int
	data []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if extra := len(t.data) - t.most; extra > 0 {
		t.data = append(t.data[:0], t.data[extra:]...)
	}
	return len(p), nil
}

func (t *tail) lastLine() string {
	text := bytes.TrimSpace(t.data)
	if at := bytes.LastIndexByte(text, '\n'); at >= 0 {
		text = text[at+1:]
	}
	return strings.TrimSpace(string(text))
}

// starter starts programs from one thread that has given up every capability
// for good, and with it those that it starts: this process may configure the
// network and load programs into the kernel, and they must not.
type starter struct {
	ctx   context.Context
	once  sync.Once
	queue chan start
}

type start struct {
	cmd *exec.Cmd
	err chan error
}

func newStarter(ctx context.Context) *starter {
	return &starter{ctx: ctx, queue: make(chan start)}
}

// start starts a program.
func (s *starter) start(cmd *exec.Cmd) error {
	s.once.Do(func() { go s.run() })
	one := start{cmd, make(chan error, 1)}
	select {
	case s.queue <- one:
		return <-one.err
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// run has a thread of its own, which ends with it.
func (s *starter) run() {
	runtime.LockOSThread()
	unfit := renounce()
	for {
		select {
		case one := <-s.queue:
			if unfit != nil {
				one.err <- unfit
				continue
			}
			one.err <- one.cmd.Start()
		case <-s.ctx.Done():
			return
		}
	}
}

// renounce takes from the calling thread what a program that it starts could
// have of capabilities: even one that runs as root, or is set-user-ID, gets
// none.
func renounce() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		// It needs CAP_SETPCAP, which root has. Another user's programs get
		// capabilities by files alone, and no_new_privs ends that.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("bounding set: %w", err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}
