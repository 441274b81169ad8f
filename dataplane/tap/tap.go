// Package tap lets the control process look at packets that workers handle:
// samples of what is dropped, and captures. It says which by filters in memory
// that both processes share, and each worker copies what they select into a
// ring of its own in that memory. A ring has one writer and one reader; when it
// is full, packets are left out and counted, and the worker goes on.
//
// While nobody looks, a worker reads one word a round and does nothing else.
package tap

import (
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

const (
	// MaxTaps is how many filters there can be at a time.
	MaxTaps = 8
	// MaxSnap is the most bytes that are kept of a frame.
	MaxSnap = 4096
	// MaxNames is how many services, and how many backends, a filter may name.
	MaxNames = 8
)

// Set is a set of reasons.
type Set [2]uint64

// Reasons are never more than a Set holds.
var _ [128 - reason.Count]struct{}

// SetOf is the set of some reasons.
func SetOf(reasons ...reason.Reason) Set {
	var s Set
	for _, r := range reasons {
		s[r/64] |= 1 << (r % 64)
	}
	return s
}

// Ending is the set of all reasons that end in one of some actions.
func Ending(actions ...reason.Action) Set {
	var s Set
	for _, r := range reason.All() {
		for _, a := range actions {
			if r.Action() == a {
				s[r/64] |= 1 << (r % 64)
			}
		}
	}
	return s
}

// Has reports whether r is in the set.
func (s *Set) Has(r reason.Reason) bool { return s[r/64&1]>>(r%64)&1 != 0 }

// Empty reports whether nothing is in the set.
func (s *Set) Empty() bool { return s[0]|s[1] == 0 }

// Filter says which packets somebody wants to see. A packet is selected when
// all of it agrees. Services and backends are named by fib.ID; 0 is none, and
// with all 0 any will do, also packets that concern none.
type Filter struct {
	Reasons    Set         // how the packet's journey ended; required
	Client     packet.Addr // network of one end of the packet, as it came or as it left
	ClientMask packet.Addr // zero: any
	Services   [MaxNames]uint32
	Backends   [MaxNames]uint32
	Snap       uint32 // bytes wanted of each frame, at most MaxSnap
	Every      uint32 // one in so many is taken, at random; 0 and 1: all
	PerSecond  uint32 // at most so many for each reason and worker; 0: no limit
	Flags      uint32
}

// Flags of a filter.
const (
	// Received selects frames as they came in.
	Received = 1 << iota
	// Sent selects frames as they leave.
	Sent
	// AllPaths says that packets which the XDP program would forward by itself
	// are wanted too: it is to leave the flows that the filter selects to the
	// workers for as long as the filter is there.
	AllPaths
)

// forwarding are the reasons that packets of established flows end with, which
// the XDP program may carry by itself.
var forwarding = SetOf(reason.ForwardFlow, reason.ReplyFlow)

// withholds reports whether memos are to be withheld from flows for the filter.
func (f *Filter) withholds() bool {
	return f.Flags&AllPaths != 0 && (f.Reasons[0]&forwarding[0]|f.Reasons[1]&forwarding[1]) != 0
}

// Flow reports whether the filter selects packets of a flow.
func (f *Filter) Flow(service, backend uint32, client packet.Addr) bool {
	return named(&f.Services, service) && named(&f.Backends, backend) && f.ends(client)
}

// ends reports whether an address is in the filter's network.
func (f *Filter) ends(a packet.Addr) bool {
	return (a.Hi^f.Client.Hi)&f.ClientMask.Hi|(a.Lo^f.Client.Lo)&f.ClientMask.Lo == 0
}

// named reports whether an ID is among those of a filter that names any.
func named(ids *[MaxNames]uint32, id uint32) bool {
	any := uint32(0)
	for _, want := range ids {
		if want != 0 && want == id {
			return true
		}
		any |= want
	}
	return any == 0
}

// Mask is the mask of a network whose addresses have so many leading bits in
// common, counted in an IPv4 address if is4.
func Mask(bits int, is4 bool) packet.Addr {
	if is4 {
		bits += 96
	}
	var m packet.Addr
	if bits > 64 {
		m.Hi, m.Lo = ^uint64(0), ^uint64(0)<<(128-bits)
	} else {
		m.Hi = ^uint64(0) << (64 - bits)
	}
	return m
}
