package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// ready is what a child process writes when it works.
const ready = "ready\n"

// firstExtraFile is the descriptor of the first file that a child is given
// beside standard input, output and error.
const firstExtraFile = 3

// children are the parts of the kit that run as processes of their own in a
// namespace, so that their CPU time is theirs alone. The first argument of the
// program picks one.
var children = map[string]func(args []string) error{
	"child-generate": generateChild,
	"child-plain":    plainChild,
	"child-asavie":   asavieChild,
	"child-serve":    serveChild,
	"child-connect":  connectChild,
}

// runChild runs a child when the program was started as one, and does not
// return then.
func runChild() {
	if len(os.Args) < 2 {
		return
	}
	child := children[os.Args[1]]
	if child == nil {
		return
	}
	if err := child(os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
	os.Exit(0)
}

// childCommand starts this program as a child.
func childCommand(name string, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.Command(self, append([]string{name}, args...)...), nil
}

// pinThread locks the goroutine to its thread and the thread to a CPU.
func pinThread(cpu int) error {
	runtime.LockOSThread()
	if err := setAffinity(0, cpu); err != nil {
		return err
	}
	return nil
}

// setAffinity pins a thread (0: the calling one) to a CPU.
func setAffinity(tid, cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(tid, &set); err != nil {
		return fmt.Errorf("pin thread %d to CPU %d: %w", tid, cpu, err)
	}
	return nil
}

// atoi reads a child's numeric argument, which its parent wrote.
func atoi(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("argument %q is no number", s)
	}
	return n, nil
}
