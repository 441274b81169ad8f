package lab

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Successor is a process that p has started, to take its place: its output goes
// on where p's ends. It is not killed with the process that started the lab, but
// with the lab, like everything in its namespaces. How it ends is not known.
func (p *Process) Successor(pid int) (*Process, error) {
	found, err := os.FindProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("host %s: process %d: %w", p.host.Name, pid, err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("host %s: process %d: %w", p.host.Name, pid, err)
	}
	next := &Process{cmd: &exec.Cmd{Path: p.cmd.Path, Process: found}, host: p.host, output: p.output, done: make(chan struct{})}
	go func() {
		defer close(next.done)
		defer unix.Close(fd)
		for {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if n, err := unix.Poll(poll, -1); n > 0 || err != unix.EINTR {
				return
			}
		}
	}()
	return next, nil
}
