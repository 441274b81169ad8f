package flows

import (
	"net/netip"
	"time"
)

// Kind says what is told of a flow.
type Kind uint8

// The kinds.
const (
	Established Kind = 1 + iota // it lives, at this backend
	Ended                       // it has ended
	Affinity                    // the client's next flows go to this backend
	Ending                      // it lives, and one side has said that it has no more to send
	kinds
)

// String gives the kind's stable name.
func (k Kind) String() string {
	switch k {
	case Established:
		return "established"
	case Ended:
		return "ended"
	case Affinity:
		return "affinity"
	case Ending:
		return "ending"
	}
	return "unknown"
}

// Flow is an exception: a flow, or a session affinity, that a node which knows
// nothing of it would send elsewhere. Ends are addresses, since each node numbers
// what it knows by itself.
type Flow struct {
	Kind    Kind
	Proto   uint8          // as in the IP header
	Client  netip.AddrPort // port 0 for Affinity
	VIP     netip.AddrPort
	Backend netip.AddrPort // as the pool has it: port 0 is the packet's own; zero for Ended
	Life    time.Duration  // until it is forgotten unless a packet comes first; on the wire in whole seconds
	Slack   time.Duration  // for how much longer those keep it who have only been told of it; likewise

	// What follows is known at home only.
	Timeout time.Duration // that packets prolong its life to
	Pool    string
	Told    bool // known from peers alone: this node has seen no packet of it
}

// Key is what a flow is found by.
type Key struct {
	Client, VIP netip.AddrPort
	Proto       uint8
	Affinity    bool
}

// Key is what the flow is found by.
func (f *Flow) Key() Key {
	return Key{f.Client, f.VIP, f.Proto, f.Kind == Affinity}
}

// spread is a number that is the same for a flow wherever it is asked for, and
// has nothing in common with that of another.
func (f *Flow) spread() uint64 {
	a := f.Client.Addr().As16()
	h := uint64(14695981039346656037) // FNV-1a
	for _, b := range a {
		h = (h ^ uint64(b)) * 1099511628211
	}
	for _, p := range [...]uint16{f.Client.Port(), f.VIP.Port()} {
		h = (h ^ uint64(p)) * 1099511628211
	}
	return h ^ h>>32
}
