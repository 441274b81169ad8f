// Package quorum finds out together with other nodes which backends are alive.
//
// Every node has views: what its own checks say of the backends that it checks.
// Nodes tell each other their views (share.go), and each works out of all of them
// the same verdict (verdict.go). A backend is checked by some of the nodes, which
// all of them choose alike (assign.go); one that somebody finds down is looked at by
// more. A node whose views contradict nearly all that the others agree on is
// suspected itself, and is not listened to (suspicion.go).
//
// There is no consensus in it: nodes that can reach each other come to the same
// verdicts by the same views, and each side of a partition goes by what its own
// nodes see.
package quorum

import (
	"time"

	"fairlead/controlplane/model"
)

// State is what is known of a backend.
type State uint8

// The states of a backend.
const (
	Unknown State = iota // nobody has judged it yet
	Up
	Down
	Unable // this node cannot make the check; said by one node, it is no verdict
)

// String names the state as output and metrics do.
func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Down:
		return "down"
	case Unable:
		return "unable"
	}
	return "unknown"
}

// Target is a backend that is to be checked.
type Target struct {
	Key model.BackendKey
	// Tunnel says that it is reached by a tunnel or by its link-layer address, so
	// that what one node finds says less of what another would.
	Tunnel bool
	// Patience is how long one check of it may take, until its result has reached
	// all nodes.
	Patience time.Duration
}

// View is what checks of this node have found. Unknown: they have not judged the
// backend yet, and this node has no view of it. Unable: they cannot, and another node
// is to check in its place.
type View struct {
	Key    model.BackendKey
	State  State
	Since  time.Time
	Reason string // why it is Down, or this node is Unable
}

// Verdict is what a backend is taken for.
type Verdict struct {
	Key    model.BackendKey
	State  State
	Since  time.Time
	Up     int    // nodes whose view counts and who find it up
	Down   int    // and who find it down
	Reason string // why it is Down: what one of these nodes says, with its name
}

// Assignment is a backend that this node begins to check.
type Assignment struct {
	Key model.BackendKey
	// What the nodes take it for until now, and since when: the checks begin with
	// that.
	State State
	Since time.Time
	// Doubted says that another node has found it down: one failure is enough to
	// agree, as that one has seen several.
	Doubted bool
}

// NodeView is what one node has found of a backend.
type NodeView struct {
	Node    string
	State   State // Unknown: it is to check the backend, and has not judged it yet
	Since   time.Time
	Reason  string
	Ignored string // why the view does not count; "": it does
}
