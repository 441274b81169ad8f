package desired

import (
	"maps"
	"slices"
	"time"

	"fairlead/controlplane/model"
)

// Adoption is how a change came to be that other nodes of a cluster have made.
type Adoption struct {
	Author  Author
	Comment string
	// Until is when it is undone unless it is confirmed; the zero time: it stays.
	Until  time.Time
	DryRun bool
	Try    func(*Desired) error // as a Request's
}

// Adopt makes declarations the present ones of their sources, by source; a nil one
// has its source declare nothing any more. Nothing holds it up that would hold up
// an operator: neither a change that waits to be confirmed, which is decided by
// this, nor that much is removed. Without declarations it decides what waits.
func (s *Store) Adopt(declarations map[string]*Declaration, a Adoption) (*Result, error) {
	for _, d := range declarations {
		if d != nil {
			if err := d.seal(); err != nil {
				return nil, err
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.following(a.Author, a.Comment[:min(len(a.Comment), MaxComment)])
	next.version.Pending = nil
	for _, source := range slices.Sorted(maps.Keys(declarations)) {
		d := declarations[source]
		if !a.Until.IsZero() {
			next.version.Pending = s.pendingFor(source, a.Until)
		}
		if d == nil {
			next.drop(source)
		} else {
			next.set(d)
		}
	}
	result, err := s.change(next, Request{Force: true, DryRun: a.DryRun, Try: a.Try})
	if err == nil && !a.DryRun && !result.Changed && s.current != nil && s.current.version.Pending != nil && a.Until.IsZero() {
		v := s.current.version.clone()
		v.Pending = nil
		err = s.amend(v)
	}
	return result, err
}

// pendingFor says that the next version is undone, unless it is confirmed, by
// giving a source the declaration back that it has now.
func (s *Store) pendingFor(source string, until time.Time) *Pending {
	p := &Pending{Version: s.next, Until: until, Source: source}
	if before, there := s.sources()[source]; there {
		p.Restore = &before
	}
	return p
}

// drop has a source declare nothing.
func (w *whole) drop(source string) {
	delete(w.declarations, source)
	delete(w.version.Sources, source)
}

// AdoptSettings makes these all that operators have set of backends. Those of
// backends that nobody declares are left out.
func (s *Store) AdoptSettings(settings []model.BackendSetting, author Author) (*Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.following(author, "")
	next.version.Settings = nil
	for i := range settings {
		one := &settings[i]
		stored := Setting{Pool: one.Pool, Endpoint: one.Endpoint, State: one.State, Weight: one.Weight}
		if !one.Deadline.IsZero() {
			deadline := one.Deadline.UTC()
			stored.Deadline = &deadline
		}
		next.version.Settings = insert(next.version.Settings, stored)
	}
	if s.current == nil {
		next.version.Settings = nil
	} else {
		next.merged = s.current.merged
		next.prune()
	}
	return s.change(next, Request{Force: true})
}
