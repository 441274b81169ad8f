// Package lab builds throwaway networks out of network namespaces and veth
// pairs, for tests, the demo and benchmarks: hosts, switches and cables, with
// real kernels' stacks at the ends.
//
// Everything a Lab makes has a name that starts with "fl-<pid>-", so that what
// a killed process left behind is found and removed by the next one. Interfaces
// are created inside their namespaces and never appear in the caller's.
//
// A test begins with a topology and closes it at its end:
//
//	topo, err := lab.TwoArm(lab.Config{Backends: 3, Queues: 2})
//	if err != nil {
//		t.Fatal(err)
//	}
//	t.Cleanup(func() {
//		if err := topo.Close(); err != nil {
//			t.Error(err)
//		}
//	})
//	lb, err := topo.LB.Start(exec.Command(binary, "run", "--config", file))
//
// All addresses come from the ranges kept for documentation and benchmarks
// (198.18.0.0/15, 2001:db8::/32). Building a lab needs CAP_SYS_ADMIN and
// CAP_NET_ADMIN, in practice root.
package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// namePrefix starts the name of every namespace of every lab.
const namePrefix = "fl-"

// labs counts the labs of this process: the second number in a namespace's name.
var labs atomic.Uint32

// Lab owns namespaces and everything in them: links, processes, listeners.
// Its methods may be called from several goroutines.
type Lab struct {
	name string

	mu       sync.Mutex
	hosts    []*Host
	onClose  []func() error
	nextMAC  uint32
	closed   bool
	spawn    chan func()
	spawnEnd chan struct{}
}

// New makes an empty lab. Namespaces left behind by processes that no longer
// live are removed first.
func New() (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a lab of network namespaces needs root")
	}
	if err := RemoveStale(); err != nil {
		return nil, fmt.Errorf("removing what earlier runs left behind: %w", err)
	}
	l := &Lab{
		name:     fmt.Sprintf("%s%d-%d-", namePrefix, os.Getpid(), labs.Add(1)),
		spawn:    make(chan func()),
		spawnEnd: make(chan struct{}),
	}
	go l.spawner()
	return l, nil
}

// OnClose has f called by Close, before any process is stopped or namespace
// removed. The functions run in the opposite order of their registration.
func (l *Lab) OnClose(f func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onClose = append(l.onClose, f)
}

// Hosts lists the lab's hosts and switches in the order they were made.
func (l *Lab) Hosts() []*Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.hosts)
}

// Close runs the OnClose functions, stops every process in the lab's
// namespaces (those it started are asked first, then killed) and removes the
// namespaces. It goes on after failures and reports all of them. Calling it
// again does nothing.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	hosts, onClose := slices.Clone(l.hosts), l.onClose
	l.mu.Unlock()

	var errs []error
	for _, f := range slices.Backward(onClose) {
		errs = append(errs, f())
	}
	errs = append(errs, stopAll(hosts))
	for _, h := range slices.Backward(hosts) {
		errs = append(errs, h.remove())
	}
	close(l.spawn)
	<-l.spawnEnd
	return errors.Join(errs...)
}

// stopAll ends what runs in the hosts: all processes are asked at once, so that
// a lab of many hosts does not wait for one after the other.
func stopAll(hosts []*Host) error {
	errs := make([]error, 2*len(hosts))
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() {
			errs[2*i] = h.stopProcesses(stopGrace)
			errs[2*i+1] = killInside(h.id)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// mac returns the next hardware address of the lab: locally administered and
// easy to recognise in a capture (46:4c is "FL").
func (l *Lab) mac() net.HardwareAddr {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextMAC++
	n := l.nextMAC
	return net.HardwareAddr{0x02, 0x46, 0x4c, byte(n >> 16), byte(n >> 8), byte(n)}
}

// waitFor polls cond until it holds, fails, or the deadline passes.
func waitFor(what string, timeout time.Duration, cond func() (bool, error)) error {
	deadline := time.Now().Add(timeout)
	for {
		ok, err := cond()
		if err != nil || ok {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not after %v", what, timeout)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
