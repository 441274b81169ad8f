package desired

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"fairlead/controlplane/model"
)

// ErrUnknownVersion says that there is no such version any more, or not yet.
var ErrUnknownVersion = errors.New("no such version")

// ErrNotPending says that no change waits to be confirmed.
var ErrNotPending = errors.New("no change waits to be confirmed")

// InvalidError is everything that is wrong with what the sources declare
// together. Its message has the place of each thing.
type InvalidError struct{ findings []finding }

// Error gives one line for each finding.
func (e *InvalidError) Error() string {
	all := e.Unwrap()
	lines := make([]string, len(all))
	for i, err := range all {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives one error for each declaration that something is wrong with: what
// its document makes of the findings, or the findings themselves.
func (e *InvalidError) Unwrap() []error {
	var order []*Declaration
	of := map[*Declaration][]*model.Error{}
	for _, f := range e.findings {
		if _, known := of[f.from]; !known {
			order = append(order, f.from)
		}
		of[f.from] = append(of[f.from], f.err)
	}
	var out []error
	for _, d := range order {
		switch {
		case d != nil && d.Document != nil:
			out = append(out, d.Document.Locate(of[d]))
			continue
		case d == nil:
			for _, one := range of[d] {
				out = append(out, one)
			}
			continue
		}
		for _, one := range of[d] {
			out = append(out, fmt.Errorf("source %q: %w", d.Source, one))
		}
	}
	return out
}

// GuardError says that a change removes more than it may without being forced.
type GuardError struct {
	Removed []Removal // kinds that too much is removed of
	Percent int       // what may be removed at once
}

// Removal is how much of one kind a change removes.
type Removal struct {
	Kind    string // "services", "VIPs" or "backends"
	Removed int
	Of      int
}

// Error gives the counts.
func (e *GuardError) Error() string {
	var parts []string
	for _, r := range e.Removed {
		parts = append(parts, fmt.Sprintf("%d of %d %s", r.Removed, r.Of, r.Kind))
	}
	return fmt.Sprintf("this removes %s, which is more than the %d %% that [state] removal_guard allows at once; use --force if it is meant", strings.Join(parts, " and "), e.Percent)
}

// PendingError says that a change waits to be confirmed, and no other may be
// made before.
type PendingError struct {
	Version uint64
	Until   time.Time
}

// Error tells what to do.
func (e *PendingError) Error() string {
	return fmt.Sprintf("version %d waits to be confirmed until %s; `fairlead config confirm` it or `fairlead config rollback` first",
		e.Version, e.Until.UTC().Format(time.RFC3339))
}

// BackendError says why a backend cannot be set.
type BackendError struct{ Message string }

func (e *BackendError) Error() string { return e.Message }

// StoreError says that a change did not take effect because it could not be
// written to the state directory.
type StoreError struct{ Err error }

// Error tells that nothing has changed.
func (e *StoreError) Error() string {
	return fmt.Sprintf("the change cannot be written to the state directory and does not take effect: %v", e.Err)
}

// Unwrap gives the cause.
func (e *StoreError) Unwrap() error { return e.Err }
