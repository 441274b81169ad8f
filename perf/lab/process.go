package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// stopGrace is how long a process may take to end by itself when its lab is closed. A
// machine may be busy.
const stopGrace = 30 * time.Second

// Process is a command that runs in a host's namespace. It is killed when the
// process that started it dies, and stopped when the lab is closed.
type Process struct {
	cmd    *exec.Cmd
	host   *Host
	output *os.File // nil when the caller set both of the command's outputs
	done   chan struct{}
	err    error // what Wait returned; written before done is closed
}

// spawner starts processes, one after the other, on a thread that lives as long
// as the lab: the kernel delivers a parent-death signal when the *thread* that
// forked ends, not the process.
func (l *Lab) spawner() {
	defer close(l.spawnEnd)
	runtime.LockOSThread()
	for f := range l.spawn {
		f()
	}
	// Never unlocked: the thread ends with its goroutine, after all its children.
}

// Start runs a command in the host's namespace. Outputs the caller left nil are
// collected for Process.Output. The command's SysProcAttr may be set; the
// parent-death signal is added to it.
func (h *Host) Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, host: h, done: make(chan struct{})}
	if err := p.collectOutput(); err != nil {
		return nil, fmt.Errorf("host %s: output of %s: %w", h.Name, cmd.Path, err)
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := h.spawn(p); err != nil {
		p.closeOutput()
		return nil, fmt.Errorf("host %s: starting %s: %w", h.Name, cmd.Path, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (h *Host) spawn(p *Process) error {
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	if h.lab.closed {
		return errors.New("the lab is closed")
	}
	result := make(chan error, 1)
	h.lab.spawn <- func() { result <- h.Do(p.cmd.Start) }
	if err := <-result; err != nil {
		return err
	}
	h.mu.Lock()
	h.processes = append(h.processes, p)
	h.mu.Unlock()
	return nil
}

// collectOutput sends outputs nobody asked for to an unnamed file, not to a
// pipe: children of the command may keep it open after the command has ended.
func (p *Process) collectOutput() error {
	if p.cmd.Stdout != nil && p.cmd.Stderr != nil {
		return nil
	}
	f, err := os.CreateTemp("", "fairlead-lab-")
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(err, f.Close())
	}
	p.output = f
	if p.cmd.Stdout == nil {
		p.cmd.Stdout = f
	}
	if p.cmd.Stderr == nil {
		p.cmd.Stderr = f
	}
	return nil
}

func (p *Process) closeOutput() {
	if p.output != nil {
		p.output.Close()
	}
}

// Pid is the process's number.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait returns when the process has ended, with nil for exit status 0, or when
// ctx is done.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("host %s: %s still runs: %w", p.host.Name, p.cmd.Path, context.Cause(ctx))
	}
}

// Signal sends a signal; a process that has ended already is no error.
func (p *Process) Signal(sig os.Signal) error {
	err := p.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Kill ends the process at once and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// Stop asks the process to end and kills it when it has not after grace. The
// error says that it had to be killed, not how it ended.
func (p *Process) Stop(grace time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
		err := fmt.Errorf("host %s: %s (pid %d) did not end within %v of SIGTERM", p.host.Name, p.cmd.Path, p.Pid(), grace)
		return errors.Join(err, p.Kill())
	}
}

// Output returns what the command and its children have written so far to the
// outputs that the caller had left nil.
func (p *Process) Output() []byte {
	if p.output == nil {
		return nil
	}
	var b bytes.Buffer
	end, err := p.output.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil // closed with the lab
	}
	if _, err := io.Copy(&b, io.NewSectionReader(p.output, 0, end)); err != nil {
		return nil
	}
	return b.Bytes()
}

// WaitOutput returns when the output contains text. It fails when the process
// ends without having written it, and when ctx is done; the error quotes the
// output.
func (p *Process) WaitOutput(ctx context.Context, text string) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ended := false
		select {
		case <-p.done:
			ended = true
		default:
		}
		out := p.Output()
		switch {
		case bytes.Contains(out, []byte(text)):
			return nil
		case ended:
			return fmt.Errorf("host %s: %s ended (%v) without writing %q, but:\n%s", p.host.Name, p.cmd.Path, p.err, text, out)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("host %s: %s has not written %q (%w), but:\n%s", p.host.Name, p.cmd.Path, text, context.Cause(ctx), out)
		}
	}
}

// stopProcesses ends all processes started on the host, at once.
func (h *Host) stopProcesses(grace time.Duration) error {
	h.mu.Lock()
	processes := slices.Clone(h.processes)
	h.mu.Unlock()
	errs := make([]error, len(processes))
	var wg sync.WaitGroup
	for i, p := range processes {
		wg.Go(func() {
			errs[i] = p.Stop(grace)
			p.closeOutput()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
