package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/controlplane/model"
)

// Config is what a Checker needs of its surroundings.
type Config struct {
	// Report is told of verdicts that have changed, in the order in which they
	// did, by one goroutine. Those that change while it is busy come together
	// with its next call. It must not close the checker.
	Report func([]Verdict)
	// NextHop is the link-layer way to a backend, as the data path takes it. It
	// is needed for the methods IPIP, GUE and L2, and called often.
	NextHop func(netip.Addr) (Hop, bool)
	// Confirm has Report be told, too, when a verdict that a target began with
	// becomes the checker's own (Verdict.Own), or ceases to be, and when the checker
	// cannot make a check (Verdict.Unable), or can again.
	Confirm bool
	Log     *slog.Logger
}

// Hop is the link-layer way to an address.
type Hop struct {
	Interface           int // the kernel's number
	Source, Destination [6]byte
}

// Checks that run at a time.
const (
	mostRunning  = 16384 // that wait for answers; fewer when the process may not have that many descriptors
	mostPrograms = 64    // of type exec
)

// Checker checks backends until it is closed. Its methods may be called from
// any goroutine.
type Checker struct {
	cfg    Config
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tools  *tools
	done   sync.WaitGroup // what New has started, and checks under way

	mu       sync.Mutex // guards what follows
	closed   bool
	backends map[model.BackendKey]*backend
	due      schedule
	network  slots
	programs slots
	changed  []*backend // since the last report
	stats    Stats
	complain time.Time // not before then, of checks that could not be made

	wake   chan struct{} // the schedule has something earlier
	report chan struct{} // there is something to report
}

// backend is one target and what is known of it.
type backend struct {
	key      model.BackendKey
	check    *model.Check
	ways     []*probed
	state    State
	since    time.Time
	reason   string
	reported State  // that was last reported, or that it began with
	own      bool   // a check has agreed with state
	unable   string // why a check cannot be made
	told     told   // as they were last reported
	listed   bool   // in Checker.changed
	removed  bool
}

// told is what else than its state is reported of a backend.
type told struct{ own, unable bool }

// probed is one way to a backend.
type probed struct {
	judge
	of      *backend
	way     Way
	probe   probe
	removed bool
	own     bool      // a check has agreed with the state
	failed  int       // attempts in a row that came to nothing
	begin   time.Time // of the check under way
	at      time.Time // when the next one is due
	started bool      // has been checked or is being checked

	err              string
	latency          time.Duration
	last             time.Time
	checks, failures uint64
}

// New makes a checker that has no targets yet.
func New(cfg Config) (*Checker, error) {
	if cfg.Report == nil || cfg.Log == nil {
		return nil, errors.New("health: Report and Log are needed")
	}
	limit, err := descriptors()
	if err != nil {
		return nil, err
	}
	c := &Checker{cfg: cfg, backends: make(map[model.BackendKey]*backend), wake: make(chan struct{}, 1), report: make(chan struct{}, 1)}
	c.network.limit, c.programs.limit = limit, mostPrograms
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.tools = newTools(c.ctx, &cfg)
	c.done.Go(c.schedule)
	c.done.Go(c.reporter)
	return c, nil
}

// descriptors is how many checks may run at a time: half of the descriptors
// that the process may have, so that the rest of it goes on.
func descriptors() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("limit of descriptors: %w", err)
	}
	return int(max(16, min(limit.Cur/2, mostRunning))), nil
}

// Close stops all checks and returns when none is under way any more. What was
// set up for checks through tunnels is taken down.
func (c *Checker) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.done.Wait()
	return c.tools.close()
}

// Set replaces the targets. Those that stay keep their state; if neither their
// check nor their ways are others, their schedule too. The error has what keeps
// a target from being checked: it stays what it was and, when it is new,
// Unknown. All others are checked. changed is false when everything is as it
// was.
func (c *Checker) Set(targets []Target) (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false, errors.New("the checker is closed")
	}
	kept := make(map[model.BackendKey]bool, len(targets))
	fresh, changed, errs := c.setAll(targets, kept, time.Now())
	for key := range c.backends {
		if !kept[key] {
			c.remove(key)
			changed = true
		}
	}
	c.finishSet(fresh)
	return changed, errors.Join(errs...)
}

// Change begins to check some targets, or checks them otherwise, as Set does, and
// ceases to check others. All that it does not name stay as they are.
func (c *Checker) Change(add []Target, remove []model.BackendKey) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.New("the checker is closed")
	}
	for _, key := range remove {
		c.remove(key)
	}
	fresh, _, errs := c.setAll(add, make(map[model.BackendKey]bool, len(add)), time.Now())
	c.finishSet(fresh)
	return errors.Join(errs...)
}

// setAll makes targets what they are to be, and gives the ways that are new.
func (c *Checker) setAll(targets []Target, kept map[model.BackendKey]bool, now time.Time) (fresh []*probed, changed bool, errs []error) {
	prepared := make(map[*model.Check]*preparation)
	for i := range targets {
		t := &targets[i]
		if kept[t.Key] {
			errs = append(errs, fmt.Errorf("backend %s of pool %q is to be checked twice", t.Key.Endpoint, t.Key.Pool))
			continue
		}
		kept[t.Key] = true
		begun, other, err := c.set(t, prepared, now)
		changed = changed || other
		if err != nil {
			errs = append(errs, fmt.Errorf("backend %s of pool %q cannot be checked: %w", t.Key.Endpoint, t.Key.Pool, err))
		}
		fresh = append(fresh, begun...)
	}
	return fresh, changed, errs
}

// remove ceases to check a backend.
func (c *Checker) remove(key model.BackendKey) {
	if b := c.backends[key]; b != nil {
		b.removed = true
		b.stop(b.ways)
		delete(c.backends, key)
	}
}

// finishSet takes what is no longer checked out of the lists, and begins what is
// new.
func (c *Checker) finishSet(fresh []*probed) {
	c.changed = slices.DeleteFunc(c.changed, func(b *backend) bool { return b.removed })
	c.due.drop()
	c.begin(fresh, time.Now())
}

// set makes one target what it is to be, and gives the ways that are new.
func (c *Checker) set(t *Target, prepared map[*model.Check]*preparation, now time.Time) (fresh []*probed, changed bool, err error) {
	b, known := c.backends[t.Key]
	if !known {
		b = &backend{key: t.Key, state: t.Initial, since: t.Since, reported: t.Initial}
		if b.since.IsZero() {
			b.since = now
		}
		c.backends[t.Key] = b
	}
	if known && b.check.Equal(t.Check) && slices.EqualFunc(b.ways, t.Ways, func(p *probed, w Way) bool { return p.way == w }) {
		b.check = t.Check
		return nil, false, nil
	}
	prep := prepared[t.Check]
	if prep == nil {
		prep = prepare(t.Check)
		prepared[t.Check] = prep
	}
	same := known && b.check.Equal(t.Check)
	var ways []*probed
	for _, w := range t.Ways {
		at := slices.IndexFunc(b.ways, func(p *probed) bool { return p.way == w })
		if same && at >= 0 {
			ways = append(ways, b.ways[at])
			continue
		}
		p := &probed{of: b, way: w, judge: judge{state: b.state, since: b.since}}
		if !known && t.Doubted && b.state != Down {
			p.streak = 1 - t.Check.Fall
		}
		if p.probe, err = prep.probe(c.tools, t.Key, w); err != nil {
			continue
		}
		ways = append(ways, p)
		fresh = append(fresh, p)
	}
	b.stop(slices.DeleteFunc(b.ways, func(p *probed) bool { return slices.Contains(ways, p) }))
	b.ways, b.check = ways, t.Check
	c.conclude(b, now)
	return fresh, true, err
}

// stop ends the checks of ways.
func (b *backend) stop(ways []*probed) {
	for _, p := range ways {
		p.removed = true
	}
}

// conclude works out what a backend is from what its ways are: Down when one
// is, Up when all are. The reason is that of the first of the worst.
func (c *Checker) conclude(b *backend, now time.Time) {
	state, reason, own := Up, "", true
	b.unable = ""
	if len(b.ways) == 0 {
		state, reason, own, b.unable = b.state, b.reason, b.own, "it cannot be checked"
	}
	for _, p := range b.ways {
		if p.failed >= b.check.Fall {
			b.unable = p.err
		}
		if p.state == Down && state != Down || p.state == Unknown && state == Up {
			state, reason, own = p.state, p.err, p.own
		} else if p.state == state {
			// One way that was found down is enough; all have to be found up.
			own = own && p.own || state == Down && (own || p.own)
		}
	}
	if state != b.state {
		b.since = now
	}
	b.state, b.reason, b.own = state, reason, own && state != Unknown
	if !c.news(b) || b.listed {
		return
	}
	b.listed = true
	c.changed = append(c.changed, b)
	select {
	case c.report <- struct{}{}:
	default:
	}
}

// news reports whether there is something about a backend to report.
func (c *Checker) news(b *backend) bool {
	return b.state != b.reported || c.cfg.Confirm && b.told != told{b.own, b.unable != ""}
}

// reporter passes changes of verdicts on.
func (c *Checker) reporter() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.report:
		}
		c.mu.Lock()
		verdicts := make([]Verdict, 0, len(c.changed))
		for _, b := range c.changed {
			b.listed = false
			if !c.news(b) {
				continue // and back again
			}
			b.reported, b.told = b.state, told{b.own, b.unable != ""}
			verdicts = append(verdicts, b.verdict())
		}
		c.changed = nil
		c.mu.Unlock()
		if len(verdicts) > 0 {
			c.cfg.Report(verdicts)
		}
	}
}

func (b *backend) verdict() Verdict {
	return Verdict{Key: b.key, State: b.state, Since: b.since, Reason: b.reason, Own: b.own, Unable: b.unable}
}

// State is what is known of one backend; Unknown for one that is not checked.
func (c *Checker) State(key model.BackendKey) State {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.backends[key]; b != nil {
		return b.state
	}
	return Unknown
}

// Results are what is known of all backends, in the order of their keys.
func (c *Checker) Results() []Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]Result, 0, len(c.backends))
	for _, b := range c.backends {
		all = append(all, b.result())
	}
	slices.SortFunc(all, func(a, b Result) int { return compareKeys(a.Key, b.Key) })
	return all
}

// Result is what is known of one backend; false when it is not checked.
func (c *Checker) Result(key model.BackendKey) (Result, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.backends[key]
	if b == nil {
		return Result{}, false
	}
	return b.result(), true
}

func (b *backend) result() Result {
	r := Result{Verdict: b.verdict(), Type: b.check.Type, Ways: make([]WayResult, len(b.ways))}
	for i, p := range b.ways {
		r.Ways[i] = WayResult{Way: p.way, State: p.state, Since: p.since, Error: p.err, Latency: p.latency, Last: p.last,
			Streak: p.streak, Checks: p.checks, Failures: p.failures}
	}
	return r
}

// Stats are numbers of the checker as a whole.
func (c *Checker) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Targets = len(c.backends)
	s.Running = c.network.used + c.programs.used
	s.Waiting = len(c.network.waiting) + len(c.programs.waiting)
	return s
}

func compareKeys(a, b model.BackendKey) int {
	switch {
	case a.Pool < b.Pool:
		return -1
	case a.Pool > b.Pool:
		return 1
	}
	return a.Endpoint.Compare(b.Endpoint)
}
