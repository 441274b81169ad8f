package apply

import (
	"fmt"
	"strings"
)

// Refusal is why a node would not put a change in force.
type Refusal struct {
	Node     string
	Reason   string
	Conflict bool // another change is in the way; it may be tried again
}

// RefusedError says that nodes refuse a change, which is therefore made nowhere.
type RefusedError struct{ Refusals []Refusal }

// Error has a line for each node.
func (e *RefusedError) Error() string {
	lines := make([]string, len(e.Refusals))
	for i, r := range e.Refusals {
		lines[i] = fmt.Sprintf("node %q refuses the change, and it is made nowhere: %s", r.Node, r.Reason)
	}
	return strings.Join(lines, "\n")
}

// Conflict reports whether all that stands against the change is another one.
func (e *RefusedError) Conflict() bool {
	for _, r := range e.Refusals {
		if !r.Conflict {
			return false
		}
	}
	return true
}

// ConflictError says that a change is in the way of another.
type ConflictError struct{ Message string }

func (e *ConflictError) Error() string { return e.Message }

// IncompleteError says that nodes could not be asked, and that the change was to
// be made on all or none.
type IncompleteError struct{ Missing []Missing }

// Error names the nodes.
func (e *IncompleteError) Error() string {
	var names []string
	for _, m := range e.Missing {
		names = append(names, fmt.Sprintf("%q (%s)", m.Node, m.Why))
	}
	return "the change is made nowhere: it needs all nodes, and these were not asked: " + strings.Join(names, ", ")
}

// SizeError says that a change is too large to be shared.
type SizeError struct{ Err error }

func (e *SizeError) Error() string { return "the change is made nowhere: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *SizeError) Unwrap() error { return e.Err }

// ShareError says that a change cannot be told to the others.
type ShareError struct{ Err error }

// Error tells what has become of it.
func (e *ShareError) Error() string {
	return fmt.Sprintf("the change cannot be shared with the other nodes and is undone: %v", e.Err)
}

// Unwrap gives the cause.
func (e *ShareError) Unwrap() error { return e.Err }
