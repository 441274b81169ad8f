// Package selftest finds out what a node can carry: how fast its workers are
// with no network at all, and what its interfaces receive and send through
// AF_XDP.
package selftest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Options say what to try.
type Options struct {
	// Duration is how long each measurement takes.
	Duration time.Duration
	// Flows are the numbers of flows that workers forward in memory.
	Flows []int
	// Interface is looked at in place of measuring workers in memory.
	Interface string
	// Traffic attaches the XDP program to the interface, binds sockets to its
	// queues, and has them receive frames that are made on this machine.
	Traffic bool
	// Transmit sends frames to this Ethernet address after that; nil: none.
	Transmit net.HardwareAddr
}

// Limits of Options.Duration.
const (
	MinDuration = 10 * time.Millisecond
	MaxDuration = 10 * time.Second
)

// MaxFlows is the largest number of flows to measure with.
const MaxFlows = 10_000_000

// DefaultFlows are numbers that tell most: all in the nearest cache, in none, and
// between the two.
func DefaultFlows() []int { return []int{1, 10_000, 1_000_000} }

// Report is what was found.
type Report struct {
	CPUs      int            `json:"cpus"`
	Kernel    string         `json:"kernel"`
	Memory    []MemoryResult `json:"memory,omitempty"`
	Interface *Interface     `json:"interface,omitempty"`
}

// Run tries everything that the options ask for. What it has set up is taken
// down when it returns. progress, if not nil, is told what is being measured.
func Run(ctx context.Context, o Options, progress func(string)) (*Report, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(string) {}
	}
	cpus, err := allowedCPUs()
	if err != nil {
		return nil, err
	}
	r := &Report{CPUs: len(cpus)}
	if r.Kernel, err = kernelRelease(); err != nil {
		return nil, err
	}
	if o.Interface == "" {
		r.Memory, err = measureMemory(ctx, o.Duration, cpus, o.Flows, progress)
	} else {
		r.Interface, err = measureInterface(ctx, o, cpus, progress)
	}
	return r, err
}

func (o *Options) check() error {
	switch {
	case o.Duration < MinDuration || o.Duration > MaxDuration:
		return fmt.Errorf("a measurement takes %v to %v, not %v", MinDuration, MaxDuration, o.Duration)
	case o.Interface == "" && (len(o.Flows) == 0 || slices.Min(o.Flows) < 1 || slices.Max(o.Flows) > MaxFlows):
		return fmt.Errorf("there can be 1 to %d flows, not %v", MaxFlows, o.Flows)
	case o.Traffic && o.Interface == "":
		return errors.New("traffic needs an interface: name it with --interface")
	case o.Transmit != nil && !o.Traffic:
		return errors.New("frames are sent only when traffic is asked for as well: add --traffic")
	case o.Transmit != nil && (len(o.Transmit) != 6 || o.Transmit[0]&1 != 0):
		return fmt.Errorf("%s is not the Ethernet address of one station", o.Transmit)
	}
	return nil
}

// allowedCPUs are the CPUs that this process may use.
func allowedCPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("which CPUs may be used: %w", err)
	}
	var cpus []int
	for cpu := range 8 * len(set) * int(unix.SizeofPtr) {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

func kernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// onCPU runs f on a thread of its own that is pinned to a CPU. The thread ends
// with f.
func onCPU(cpu int, f func() error) error {
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			ended <- fmt.Errorf("pin a thread to CPU %d: %w", cpu, err)
			return
		}
		ended <- f()
	}()
	return <-ended
}

// threadTime is the CPU time of the calling thread, which must be locked.
func threadTime() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0, fmt.Errorf("read the thread's CPU time: %w", err)
	}
	return time.Duration(t.Nano()), nil
}
