// Package desired holds what is desired of the node: what each source declares,
// merged to one state, and what operators have set of backends. Every change is
// a version. A version is written to the state directory before it takes
// effect, and taken back when it cannot, so that a restart comes up with what
// was in force, or with a change that was about to be, and never with a part of
// one.
package desired

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fairlead/controlplane/model"
)

// Desired is one version as a whole. It is never changed.
type Desired struct {
	Version      *Version
	State        *model.State // of all sources together, live ones among them
	Settings     []model.BackendSetting
	Declarations map[string]*Declaration // by source

	// Live is another number whenever live sources want something else.
	Live uint64
	// Pools, unless they are nil, are all that differs from what was put in force
	// before: pools with other backends.
	Pools []model.Pool
}

// Publisher puts a desired state in force. When it returns an error, the one
// before is in force as it was.
type Publisher func(*Desired) error

// Config is what a Store works with. Zero values of the optional fields are
// useful.
type Config struct {
	Directory    string // state directory; empty: nothing outlives the process
	RemovalGuard int    // per cent that a change may remove unless it is forced; 100 or more: any
	Parse        Parser
	// Live are the sources that want groups (Store.Live). What others have left on
	// disk is removed.
	Live []string
	// Check says what stands against a valid state on this machine. Optional.
	Check func(*Desired) error
	Log   *slog.Logger     // optional
	Now   func() time.Time // optional

	files fileSystem // of tests
}

// Store holds the desired state. Its methods may be called from any goroutine;
// changes are made one at a time.
type Store struct {
	cfg  Config
	disk *disk

	mu       sync.Mutex
	current  *whole
	history  []*Version // that are stored, oldest first; the current one is the last
	next     uint64     // number of the next version
	publish  Publisher  // nil before Attach
	unstored bool       // the current version is not on disk
	liveKept liveKept
	damaged  bool      // some version could not be used at the start
	revoked  []uint64  // versions that are still on disk though they never came into force
	again    time.Time // when what failed in the background is tried again
	status   atomic.Pointer[Status]
	why      conditions
}

// whole is a version with its declarations and the state that they come to.
type whole struct {
	version      *Version
	declarations map[string]*Declaration
	merged       *merged

	live  *live  // nil: there are no groups
	total *total // of merged and live; nil: merged alone
}

func (w *whole) merge()          { w.merged = merge(w.declarations) }
func (w *whole) validate() error { return w.merged.validate() }

// fileless reports whether the version has a file that could not be read.
func (w *whole) fileless() bool {
	_, read := w.declarations[SourceFile]
	_, there := w.version.Sources[SourceFile]
	return there && !read
}

func (w *whole) state() *model.State {
	if w == nil {
		return &model.State{}
	}
	return w.merged.state
}

func (w *whole) desired() *Desired {
	return &Desired{Version: w.version, State: w.wanted(), Live: w.alive().revision, Settings: w.version.BackendSettings(), Declarations: w.declarations}
}

// Open reads the state directory. That it cannot be read is no error: a node
// serves without it, and says so.
func Open(cfg Config) *Store {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Check == nil {
		cfg.Check = func(*Desired) error { return nil }
	}
	files := cfg.files
	switch {
	case files != nil:
	case cfg.Directory == "":
		files = newMemoryFiles()
	default:
		files = osFiles{cfg.Directory}
	}
	s := &Store{cfg: cfg, disk: newDisk(files), next: 1, why: conditions{now: cfg.Now}}
	s.load()
	s.report()
	return s
}

// load takes over the newest version of the directory that can be used.
func (s *Store) load() {
	l, err := s.disk.load()
	if err != nil {
		s.why.set(NotStored, fmt.Sprintf("the state directory cannot be used: %v", err))
		s.cfg.Log.Error("state directory cannot be used", "directory", s.cfg.Directory, "error", err)
		return
	}
	s.current = l.latest(s.disk, s.cfg.Parse)
	s.history, s.next = l.versions, l.highest+1
	for _, note := range l.notes {
		s.cfg.Log.Error("state directory: "+note, "directory", s.cfg.Directory)
	}
	if len(l.notes) > 0 {
		s.why.set(Damaged, l.notes[len(l.notes)-1])
	}
	s.damaged = len(l.notes) > 0
	s.loadLive()
	if err := s.disk.known(l.versions); err != nil {
		s.cfg.Log.Warn("state directory cannot be read", "directory", s.cfg.Directory, "error", err)
	}
}

// Attach gives the store who puts its changes in force. What Begin returned is
// in force already; it is stored now. That it cannot be is a condition, and
// tried again.
func (s *Store) Attach(publish Publisher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.publish = publish
	if err := s.settle(); err != nil {
		s.cfg.Log.Error("the version that the node has started with cannot be written to the state directory; it is tried again",
			"directory", s.cfg.Directory, "version", s.current.version.Number, "error", err)
		s.again = s.cfg.Now().Add(retryAfter)
	} else {
		s.why.clear(NotStored)
	}
	s.trim()
	// What could not be used may refer to declarations that nothing else does.
	if err := s.disk.sweep(s.history, !s.damaged); err != nil {
		s.cfg.Log.Warn("state directory cannot be tidied up", "directory", s.cfg.Directory, "error", err)
	}
	s.report()
}

// settle writes the current version to disk when it is not there.
func (s *Store) settle() error {
	if s.current == nil || !s.unstored {
		return nil
	}
	if err := s.disk.commit(s.current.version, s.current.declarations, false); err != nil {
		s.why.set(NotStored, fmt.Sprintf("version %d is in force and cannot be written to the state directory: %v", s.current.version.Number, err))
		s.report()
		return err
	}
	s.unstored = false
	return nil
}

// Current is the version in force, nil when there is none.
func (s *Store) Current() *Desired {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil
	}
	return s.current.desired()
}

// Request is how a change is made.
type Request struct {
	User    string        // who asks, for the version
	Comment string        // why, for the version
	Force   bool          // whatever it removes
	DryRun  bool          // find out what it would do, and do not do it
	Confirm time.Duration // undo it unless it is confirmed within that time; 0: it stays
	// Try, unless it is nil, has the last word on a change that nothing else stands
	// against, a dry run's too. It sees what would be in force.
	Try func(*Desired) error
}

// Result is what a change has done, or would do.
type Result struct {
	Version *Version // in force afterwards; of a dry run the one that would be
	Changed bool     // it is another version than before
	Changes []Change // to what was in force
}

// Bounds of a request.
const (
	MaxComment = 1000 // bytes
	MinConfirm = time.Second
	MaxConfirm = 24 * time.Hour
)

func (r *Request) check() error {
	switch {
	case len(r.Comment) > MaxComment:
		return &RequestError{fmt.Sprintf("the comment has %d bytes; it may have %d", len(r.Comment), MaxComment)}
	case r.Confirm != 0 && (r.Confirm < MinConfirm || r.Confirm > MaxConfirm):
		return &RequestError{fmt.Sprintf("the time to confirm is %v; it must be %v to %v", r.Confirm, MinConfirm, MaxConfirm)}
	}
	return nil
}

// RequestError says what is wrong with a request itself.
type RequestError struct{ Message string }

func (e *RequestError) Error() string { return e.Message }

// Declare makes d all that its source declares. It is all or nothing. With the
// error of a guard there is a result, too: what would change.
func (s *Store) Declare(d *Declaration, r Request) (*Result, error) { return s.DeclareAll(r, d) }

// DeclareAll is Declare for several sources at once; the author is the first one.
// A change that is to be confirmed has one source.
func (s *Store) DeclareAll(r Request, d *Declaration, more ...*Declaration) (*Result, error) {
	if err := errors.Join(r.check(), d.seal()); err != nil {
		return nil, err
	}
	for _, m := range more {
		if err := m.seal(); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.blocked(d.Source); err != nil && !r.DryRun {
		return nil, err
	}
	next := s.following(Author{Source: d.Source, User: r.User}, r.Comment)
	next.set(d)
	for _, m := range more {
		next.set(m)
	}
	if r.Confirm > 0 {
		next.version.Pending = s.pendingFor(d.Source, s.cfg.Now().Add(r.Confirm))
	}
	result, err := s.change(next, r)
	if d.Source == SourceFile && !r.DryRun {
		s.fileDeclared(err)
	}
	return result, err
}

// set replaces the declaration of one source.
func (w *whole) set(d *Declaration) {
	ref := d.ref()
	ref.Said = d.digest
	w.declarations[d.Source], w.version.Sources[d.Source] = d, ref
}

// blocked says that an operator's change must wait for the decision on another.
// Sources that no operator speaks through are not held up.
func (s *Store) blocked(source string) error {
	if s.current == nil || s.current.version.Pending == nil || source != SourceFile && source != SourceAPI {
		return nil
	}
	p := s.current.version.Pending
	return &PendingError{p.Version, p.Until}
}

func (s *Store) sources() map[string]Ref {
	if s.current == nil {
		return nil
	}
	return s.current.version.Sources
}

// following begins the version after the current one, equal to it so far.
func (s *Store) following(author Author, comment string) *whole {
	v := &Version{Sources: map[string]Ref{}}
	w := &whole{declarations: map[string]*Declaration{}}
	if s.current != nil {
		v = s.current.version.clone()
		w.declarations = maps.Clone(s.current.declarations)
		w.live, w.total = s.current.live, s.current.total
	} else {
		w.live = s.liveKept.restored
	}
	v.Number, v.Time, v.Author, v.Comment = s.next, s.cfg.Now().UTC().Round(0), author, comment
	w.version = v
	return w
}

// change makes next the current version: it must be valid and may not remove
// too much; it is stored, and then put in force.
func (s *Store) change(next *whole, r Request) (*Result, error) {
	declared := s.current == nil || !maps.Equal(next.declarations, s.current.declarations)
	if declared {
		next.merge()
		if err := next.validate(); err != nil {
			return nil, err
		}
		if err := next.refit(r.Force); err != nil {
			return nil, err
		}
		next.prune()
		if err := s.cfg.Check(next.desired()); err != nil {
			return nil, err
		}
	} else {
		next.merged = s.current.merged
	}
	result := &Result{Version: next.version, Changes: s.compare(next)}
	next.version.Summary = summarize(result.Changes)
	if declared && !r.Force && s.cfg.RemovalGuard < 100 && s.current != nil {
		if err := guard(s.current.state(), next.merged.state, result.Changes, s.cfg.RemovalGuard); err != nil {
			result.Changed = true
			return result, err
		}
	}
	if r.Try != nil {
		if err := r.Try(next.desired()); err != nil {
			return result, err
		}
	}
	if s.current != nil && next.same(s.current) {
		result.Version = s.current.version
		return result, s.said(next, r)
	}
	result.Changed = true
	if r.DryRun {
		return result, nil
	}
	return result, s.force(next)
}

// compare lists what next changes.
func (s *Store) compare(next *whole) []Change {
	var settings []Setting
	if s.current != nil {
		settings = s.current.version.Settings
	}
	changed := compareSettings(settings, next.version.Settings)
	if s.current != nil && next.merged == s.current.merged {
		return changed
	}
	return append(Compare(s.current.state(), next.merged.state), changed...)
}

// same reports whether a version wants what another wants, in the same words.
func (w *whole) same(o *whole) bool {
	return maps.EqualFunc(w.version.Sources, o.version.Sources, func(a, b Ref) bool { return a.Digest == b.Digest }) &&
		slices.EqualFunc(w.version.Settings, o.version.Settings, func(a, b Setting) bool { return a.equal(&b) })
}

// said notes that a source stands by what is in force already.
func (s *Store) said(next *whole, r Request) error {
	if r.DryRun || maps.Equal(next.version.Sources, s.current.version.Sources) {
		return nil
	}
	v := s.current.version.clone()
	v.Sources = next.version.Sources
	return s.amend(v)
}

// amend replaces the current version's record by one that wants the same. When
// that fails, either may be on disk until the current one is written again.
func (s *Store) amend(v *Version) error {
	if err := s.disk.commit(v, s.current.declarations, false); err != nil {
		s.unstored = true
		return &StoreError{err}
	}
	amended := *s.current
	amended.version = v
	s.current = &amended
	s.history[len(s.history)-1] = v
	s.unstored = false
	s.report()
	return nil
}

// force stores a version and puts it in force. When it cannot be put in force,
// it is taken off the disk again.
func (s *Store) force(next *whole) error {
	v := next.version
	if err := s.settle(); err != nil {
		return &StoreError{err}
	}
	if err := s.disk.commit(v, next.declarations, true); err != nil {
		if errors.Is(err, errForeign) {
			s.next = max(s.next, s.disk.highest()+1) // who asks again means it
		} else {
			s.revoke(v.Number)
		}
		s.report()
		return &StoreError{err}
	}
	if s.publish == nil {
		s.revoke(v.Number)
		return errors.New("the node does not take changes yet")
	}
	if err := s.publish(next.desired()); err != nil {
		s.revoke(v.Number)
		s.report()
		return fmt.Errorf("version %d cannot be put in force: %w", v.Number, err)
	}
	if len(s.revoked) == 0 {
		s.why.clear(NotStored)
	}
	s.adopt(next)
	return nil
}

// revoke takes a version off the disk that did not come into force, at once or,
// when that fails, later. Its number is not used again as long as that lasts.
func (s *Store) revoke(number uint64) {
	if err := s.disk.revoke(number); err != nil {
		s.revoked = append(s.revoked, number)
		s.next = number + 1
		s.why.set(NotStored, fmt.Sprintf("version %d did not take effect and cannot be removed from the state directory: %v", number, err))
		s.cfg.Log.Error("version that did not take effect cannot be removed from the state directory; it is tried again",
			"version", number, "error", err)
	}
}

// adopt makes a version the current one and lets go of the oldest.
func (s *Store) adopt(next *whole) {
	s.current = next
	s.next = max(s.next, next.version.Number) + 1
	s.history = append(s.history, next.version)
	s.trim()
	s.report()
}

// trim lets go of the versions that are too old to be kept.
func (s *Store) trim() {
	var drop []uint64
	if n := len(s.history) - keptVersions - 1; n > 0 {
		for _, v := range s.history[:n] {
			drop = append(drop, v.Number)
		}
		s.history = slices.Delete(s.history, 0, n)
	}
	if err := s.disk.prune(drop, s.history); err != nil {
		s.cfg.Log.Warn("old versions cannot be removed from the state directory", "directory", s.cfg.Directory, "error", err)
	}
}
