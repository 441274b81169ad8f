package desired

import (
	"errors"
	"fmt"
)

// Begin says what a node is to start with: the newest version of the state
// directory, with the file as it is now. file is nil when fileErr says why there
// is none. What is wrong with the file, by itself or with what other sources
// declare, is no error when there is a version to start with; it is a condition.
//
// Nothing is written before the node has started and Attach is called.
func (s *Store) Begin(file *Declaration, fileErr error) (*Desired, error) {
	return s.BeginWith(file, fileErr, nil)
}

// BeginWith is Begin with declarations of other sources that have none yet. A nil
// one has its source declare nothing any more. They count when the file does.
func (s *Store) BeginWith(file *Declaration, fileErr error, others map[string]*Declaration) (*Desired, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.report()
	if s.current != nil && s.expired() {
		s.beginWithout()
	}
	if fileErr != nil {
		return s.lastGood(fileErr)
	}
	if err := file.seal(); err != nil {
		return nil, err
	}
	others = s.wanting(others)
	for _, d := range others {
		if d != nil {
			if err := d.seal(); err != nil {
				return nil, err
			}
		}
	}
	if len(others) == 0 && s.current != nil && s.current.version.Sources[SourceFile].Said == file.digest && !s.current.fileless() {
		if s.cfg.Check(s.current.desired()) == nil {
			return s.current.desired(), nil
		}
	}
	next := s.following(Author{Source: SourceFile}, "start")
	next.set(file)
	for source, d := range others {
		if d == nil {
			next.drop(source)
		} else {
			next.set(d)
		}
	}
	next.merge()
	if err := next.validate(); err != nil {
		return s.lastGood(err)
	}
	if err := next.refit(true); err != nil {
		return s.lastGood(err)
	}
	next.prune()
	if err := s.cfg.Check(next.desired()); err != nil {
		return s.lastGood(err)
	}
	if s.current != nil && next.same(s.current) {
		v := s.current.version.clone()
		v.Sources = next.version.Sources
		s.current.version = v
		s.unstored = true
		s.history[len(s.history)-1] = v
		return s.current.desired(), nil
	}
	changes := s.compare(next)
	next.version.Summary = summarize(changes)
	if s.current != nil && guard(s.current.state(), next.merged.state, changes, s.cfg.RemovalGuard) != nil {
		s.cfg.Log.Warn("the file has changed while the node was stopped, by more than a reload may remove without being forced: `fairlead config rollback` undoes it",
			"summary", next.version.Summary.String())
	}
	s.start(next)
	return next.desired(), nil
}

// wanting are those of others that change anything.
func (s *Store) wanting(others map[string]*Declaration) map[string]*Declaration {
	out := map[string]*Declaration{}
	for source, d := range others {
		if _, there := s.sources()[source]; there == (d == nil) {
			out[source] = d
		}
	}
	return out
}

// beginWithout undoes a change that was not confirmed while the node was down.
func (s *Store) beginWithout() {
	p := s.current.version.Pending
	next, err := s.unconfirmed()
	if err != nil {
		s.cfg.Log.Error("a change that was not confirmed cannot be undone; it is tried again", "version", p.Version, "error", err)
		s.why.set(RollbackFailed, fmt.Sprintf("version %d was not confirmed and cannot be undone: %v", p.Version, err))
		return
	}
	s.cfg.Log.Warn("a change that was not confirmed in time is undone", "version", p.Version, "now", next.version.Number, "summary", next.version.Summary.String())
	s.start(next)
}

// start makes a version the current one that the node is about to start with.
// It is stored by Attach, when the node has started.
func (s *Store) start(next *whole) {
	if s.unstored { // it was not even in force
		s.history = s.history[:len(s.history)-1]
	}
	s.unstored = true
	s.current, s.next = next, next.version.Number+1
	s.history = append(s.history, next.version)
}

// lastGood starts with what was in force last, because of what is wrong with
// the file.
func (s *Store) lastGood(why error) (*Desired, error) {
	if s.current == nil || s.current.declarations[SourceFile] == nil {
		return nil, why
	}
	s.cfg.Log.Error("THE CONFIGURATION FILE CANNOT BE USED: the node starts with what was in force last",
		"version", s.current.version.Number, "of", s.current.version.Time, "error", why)
	s.why.set(FileRefused, fmt.Sprintf("the file cannot be used, version %d is in force in its place: %v", s.current.version.Number, firstLine(why)))
	d := s.current.desired()
	if err := s.cfg.Check(d); err != nil {
		return nil, errors.Join(why, fmt.Errorf("nor can version %d, which was in force last: %w", s.current.version.Number, err))
	}
	return d, nil
}
