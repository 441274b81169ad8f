// Package health finds out which backends are alive: it asks each of them
// again and again, in the way that its pool's check says, and reports the
// changes of its verdicts.
//
// A backend of a service with the methods ipip, gue or l2 is asked as its
// clients' packets reach it: what the host's own stack sends to the VIP is
// carried to that one backend by the service's method (tunnel.go). So a backend
// that does not decapsulate, or that lacks the VIP, is found dead.
package health

import (
	"net/netip"
	"time"

	"fairlead/controlplane/model"
)

// State is what is known of a backend.
type State uint8

// The states. A backend is Unknown until its first success, which makes it Up
// at once, or until as many failures in a row as would make a live one Down.
//
// A check that this node cannot make, for want of descriptors, rights, or the
// program to run, changes nothing: it is no failure of the backend.
//
// What Unknown means for traffic is the pool's to say: as long as no backend of
// a pool has been judged, all of them serve, so that a node that starts among
// healthy backends loses nothing; beside backends that are Up, an Unknown one
// gets no new flows and keeps those it has.
const (
	Unknown State = iota
	Up
	Down
)

// String is the state's name in output and metrics.
func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Down:
		return "down"
	}
	return "unknown"
}

// Way is what a backend is asked at, and how the question gets there.
type Way struct {
	// Address is what is asked: the backend itself, or the VIP. Its port is
	// that of the check.
	Address netip.AddrPort
	// Method is NAT, or empty, for a question straight to Address; otherwise
	// the way by which it is carried to the backend.
	Method model.Method
	// Tunnel has the outer headers' values for the methods IPIP and GUE.
	Tunnel model.Tunnel
}

// Direct reports whether the question goes straight to its address.
func (w *Way) Direct() bool { return w.Method == model.NAT || w.Method == "" }

// Target is one backend to check.
type Target struct {
	Key   model.BackendKey
	Check *model.Check // shared by the backends of a pool; with defaults
	Ways  []Way        // all of them must succeed; at least one

	// Initial is what was known of it by someone else: the process that this
	// one follows. It counts for a backend that the checker does not know.
	Initial State
	Since   time.Time // of Initial
	// Doubted says that somebody else has found it down, by several checks. One
	// failure is enough to agree. It counts as Initial does.
	Doubted bool
}

// Verdict is what a backend was found to be.
type Verdict struct {
	Key    model.BackendKey
	State  State
	Since  time.Time
	Reason string // what the last failure was; empty when Up
	// Own says that a check of this checker has agreed with State, which is until
	// then what the target began with.
	Own bool
	// Unable is why this checker cannot make the check: as many attempts in a row as
	// make a backend Down came to nothing, for a fault of this node's. What is known
	// of the backend is old, then. It is empty when the check is made.
	Unable string
}

// Result is everything that is known of one backend, for those who look.
type Result struct {
	Verdict
	Type model.CheckType
	Ways []WayResult
}

// WayResult is how the checks of one way went.
type WayResult struct {
	Way
	State    State
	Since    time.Time
	Error    string        // of the last check, or why it could not be made; empty when it succeeded
	Latency  time.Duration // of the last check that succeeded
	Last     time.Time     // when the last check ended; zero: there was none
	Streak   int           // successes in a row, or failures as a negative number
	Checks   uint64        // done
	Failures uint64        // among them
}

// Stats are numbers of the checker as a whole.
type Stats struct {
	Targets   int    // backends
	Running   int    // checks under way
	Waiting   int    // checks that are due and wait for others to end
	Checks    uint64 // done
	Failures  uint64 // among them
	Prevented uint64 // that could not be made, for a fault of this node's, and say nothing
	Late      uint64 // that began more than a tenth of their interval after they were due
}
