package steer

import (
	"fmt"
	"sort"
)

// Counters are an interface's frames by what became of them. Every frame the
// program has seen is in exactly one.
type Counters struct {
	Passed      uint64 // to the host: not ours
	Redirected  uint64 // handed to the queue's socket (which may still lack room: the socket counts that)
	FailDropped uint64 // ours, but the queue has no socket: dropped
	FailPassed  uint64 // ours, but the queue has no socket: to the host
	Denied      uint64 // ours, from a denied source: dropped
	Oversize    uint64 // ours, in more than one buffer: dropped
}

// InterfaceCounters are the counters of one interface.
type InterfaceCounters struct {
	IfIndex int
	Name    string
	Counters
}

// Counters reads the counters of every attached interface, in order of
// interface numbers. With pinning they go on counting across restarts.
func (s *Steer) Counters() ([]InterfaceCounters, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	all := make([]InterfaceCounters, 0, len(s.ifaces))
	for ifindex, i := range s.ifaces {
		var perCPU []objectCounters
		if err := i.counts.Lookup(uint32(0), &perCPU); err != nil {
			return nil, fmt.Errorf("read counters of %s: %w", i.attached.Name, err)
		}
		all = append(all, InterfaceCounters{IfIndex: ifindex, Name: i.attached.Name, Counters: sumCounters(perCPU)})
	}
	sort.Slice(all, func(a, b int) bool { return all[a].IfIndex < all[b].IfIndex })
	return all, nil
}

func sumCounters(perCPU []objectCounters) Counters {
	var sum Counters
	for _, c := range perCPU {
		sum.Passed += c.Passed
		sum.Redirected += c.Redirected
		sum.FailDropped += c.FailDropped
		sum.FailPassed += c.FailPassed
		sum.Denied += c.Denied
		sum.Oversize += c.Oversize
	}
	return sum
}
