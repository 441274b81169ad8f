package desired

import (
	"errors"
	"fmt"
	"slices"
)

// Rollback makes what the sources declared in an earlier version desired again,
// as a new version; number 0 is the version before the current one. Settings of
// backends stay as they are today; backends that come back have those that they
// had then. While a change waits to be confirmed, the version before it is what
// number 0 means, and nothing waits afterwards.
func (s *Store) Rollback(number uint64, r Request) (*Result, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	to, err := s.stored(number)
	if err != nil {
		return nil, err
	}
	next := s.following(Author{Source: AuthorOperator, User: r.User}, r.Comment)
	if next.version.Comment == "" {
		next.version.Comment = fmt.Sprintf("rollback to version %d", to.version.Number)
	}
	next.version.Pending = nil
	s.returning(next, to)
	result, err := s.change(next, r)
	if err == nil && !r.DryRun && !result.Changed && s.current.version.Pending != nil {
		// The change that waits wants what was wanted before it.
		v := s.current.version.clone()
		v.Pending = nil
		err = s.amend(v)
	}
	return result, err
}

// stored reads an earlier version: 0 is the one that a rollback returns to.
func (s *Store) stored(number uint64) (*whole, error) {
	if s.current == nil {
		return nil, fmt.Errorf("%w: there is none yet", ErrUnknownVersion)
	}
	if number == 0 {
		of := s.current.version.Number
		if p := s.current.version.Pending; p != nil {
			of = p.Version
		}
		v := s.before(of)
		if v == nil {
			return nil, fmt.Errorf("%w: there is none before version %d", ErrUnknownVersion, of)
		}
		number = v.Number
	}
	at := slices.IndexFunc(s.history, func(v *Version) bool { return v.Number == number })
	if at < 0 {
		return nil, fmt.Errorf("%w: there is no version %d; kept are %s", ErrUnknownVersion, number, s.kept())
	}
	if s.history[at] == s.current.version {
		return s.current, nil
	}
	w, err := s.disk.whole(s.history[at], s.cfg.Parse)
	if err == nil && w.fileless() {
		err = errors.New("this release does not understand its configuration file")
	}
	if err != nil {
		return nil, fmt.Errorf("version %d cannot be read: %w", number, err)
	}
	return w, nil
}

func (s *Store) kept() string {
	first, last := s.history[0].Number, s.history[len(s.history)-1].Number
	if first == last {
		return fmt.Sprintf("version %d alone", last)
	}
	return fmt.Sprintf("some from %d to %d", first, last)
}

// Version reads a version that is kept; 0 is the current one.
func (s *Store) Version(number uint64) (*Desired, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number == 0 && s.current != nil {
		return s.current.desired(), nil
	}
	w, err := s.stored(number)
	if err != nil {
		return nil, err
	}
	return w.desired(), nil
}

// History lists the versions that are kept, the current one first.
func (s *Store) History() []*Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.history)
	slices.Reverse(list)
	return list
}
