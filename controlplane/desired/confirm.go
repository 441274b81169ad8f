package desired

import (
	"context"
	"fmt"
	"maps"
	"time"
)

// How often Run looks whether something is due, and how long what has failed
// waits before it is tried again.
const (
	lookEvery  = 200 * time.Millisecond
	retryAfter = 5 * time.Second
)

// Confirm lets the change stay that waits for it.
func (s *Store) Confirm() (*Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.current.version.Pending == nil {
		return nil, ErrNotPending
	}
	v := s.current.version.clone()
	v.Pending = nil
	if err := s.amend(v); err != nil {
		return nil, err
	}
	s.trim() // what was to be restored is no longer needed
	return v, nil
}

// Run sees to what nobody asks for, until ctx ends: changes that are not
// confirmed in time, and what could not be written to disk.
func (s *Store) Run(ctx context.Context) {
	defer s.keepLive(true)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.Tick()
			s.keepLive(false)
		}
	}
}

// Tick is one round of Run.
func (s *Store) Tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.publish == nil || s.cfg.Now().Before(s.again) {
		return
	}
	s.again = time.Time{}
	if s.expired() {
		s.rollBack()
	}
	s.catchUp()
}

// expired reports whether a change has waited too long.
func (s *Store) expired() bool {
	p := s.current.version.Pending
	return p != nil && !s.cfg.Now().Before(p.Until)
}

// unconfirmed is the version that follows a change that was not confirmed.
func (s *Store) unconfirmed() (*whole, error) {
	p := s.current.version.Pending
	next := s.following(Author{Source: AuthorOperator}, fmt.Sprintf("version %d was not confirmed in time", p.Version))
	next.version.Pending = nil
	delete(next.declarations, p.Source)
	said := next.version.Sources[p.Source].Said
	delete(next.version.Sources, p.Source)
	if p.Restore != nil {
		d, err := s.disk.declaration(p.Source, *p.Restore, s.cfg.Parse)
		if err != nil {
			return nil, err
		}
		ref := *p.Restore
		ref.Said = said
		next.declarations[p.Source], next.version.Sources[p.Source] = d, ref
	}
	next.version.Settings = s.settingsOf(next, s.before(p.Version))
	next.merge()
	if err := next.validate(); err != nil {
		return nil, err
	}
	if err := next.refit(true); err != nil {
		return nil, err
	}
	next.prune()
	next.version.Summary = summarize(s.compare(next))
	return next, nil
}

// before is the version before another one, nil when it is not kept.
func (s *Store) before(number uint64) (last *Version) {
	for _, v := range s.history {
		if v.Number < number {
			last = v
		}
	}
	return last
}

// rollBack undoes the change that was not confirmed. It is in force before it is
// written to disk: what is there would be undone by a restart, too, and a full
// disk must not keep a bad change in force.
func (s *Store) rollBack() {
	p := s.current.version.Pending
	next, err := s.unconfirmed()
	if err == nil {
		err = s.publish(next.desired())
	}
	if err != nil {
		s.cfg.Log.Error("a change that was not confirmed cannot be undone; it is tried again", "version", p.Version, "error", err)
		s.why.set(RollbackFailed, fmt.Sprintf("version %d was not confirmed and cannot be undone: %v", p.Version, err))
		s.again = s.cfg.Now().Add(retryAfter)
		s.report()
		return
	}
	s.cfg.Log.Warn("a change that was not confirmed in time is undone", "version", p.Version, "now", next.version.Number, "summary", next.version.Summary.String())
	s.why.clear(RollbackFailed)
	s.unstored = true
	s.adopt(next)
}

// catchUp writes what could not be written when it was due.
func (s *Store) catchUp() {
	var left []uint64
	for _, number := range s.revoked {
		if number == s.current.version.Number {
			continue
		}
		if s.disk.revoke(number) != nil {
			left = append(left, number)
		}
	}
	s.revoked = left
	if s.settle() != nil || len(left) > 0 {
		s.again = s.cfg.Now().Add(retryAfter)
		return
	}
	if s.why.clear(NotStored) {
		s.cfg.Log.Info("the state directory is up to date again")
		s.report()
	}
}

// settingsOf are the settings of a version that returns to an earlier one:
// today's, and for backends that are not there today those of then.
func (s *Store) settingsOf(next *whole, then *Version) []Setting {
	list := next.version.Settings
	if then == nil {
		return list
	}
	today := declaredOf(s.current.wanted(), then.Settings)
	for _, one := range then.Settings {
		if !today[one.key()] {
			list = insert(list, one)
		}
	}
	return list
}

// returning makes next want what a stored version did, source by source.
func (s *Store) returning(next *whole, to *whole) {
	for source := range next.declarations {
		if _, then := to.declarations[source]; !then {
			delete(next.declarations, source)
			delete(next.version.Sources, source)
		}
	}
	said := maps.Clone(next.version.Sources)
	for source, d := range to.declarations {
		ref := d.ref()
		ref.Said = said[source].Said
		if ref.Said == "" {
			ref.Said = to.version.Sources[source].Said
		}
		next.declarations[source], next.version.Sources[source] = d, ref
	}
	next.version.Settings = s.settingsOf(next, to.version)
}
