package steer

import (
	"fmt"
	"sort"

	"github.com/cilium/ebpf"
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
	Memo        uint64 // ours, forwarded by a flow memo
	Shed        uint64 // ours, begins a connection for which there is no room: dropped
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
		c, err := readCounters(i.counts)
		if err != nil {
			return nil, fmt.Errorf("read counters of %s: %w", i.attached.Name, err)
		}
		all = append(all, InterfaceCounters{IfIndex: ifindex, Name: i.attached.Name, Counters: c})
	}
	sort.Slice(all, func(a, b int) bool { return all[a].IfIndex < all[b].IfIndex })
	return all, nil
}

// readCounters reads one interface's counters. Their order is that of enum
// outcome in bpf/steer.c.
func readCounters(m *ebpf.Map) (Counters, error) {
	var c Counters
	for outcome, to := range []*uint64{&c.Passed, &c.Redirected, &c.FailDropped, &c.FailPassed, &c.Denied, &c.Oversize, &c.Memo, &c.Shed} {
		var perCPU []uint64
		if err := m.Lookup(uint32(outcome), &perCPU); err != nil {
			return Counters{}, err
		}
		for _, n := range perCPU {
			*to += n
		}
	}
	return c, nil
}
