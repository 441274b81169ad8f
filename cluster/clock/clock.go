// Package clock is the hybrid logical clock (Kulkarni et al., "Logical Physical
// Clocks", 2014) that versions of shared things are taken from.
//
// A version is never less than one that was given or seen before, whatever the
// clock of the machine does. What nodes say about the time is compared, so that
// a node whose clock is wrong neither wins for ever nor forgets what is newer.
package clock

import (
	"fmt"
	"math"
	"sync"
	"time"

	"fairlead/cluster"
)

// DefaultLimit is how far the clocks of two nodes may be apart.
const DefaultLimit = 5 * time.Minute

// Config is what a clock is made of.
type Config struct {
	Writer string               // the name of this node
	Limit  time.Duration        // how far clocks may be apart; 0: DefaultLimit
	Wall   func() time.Time     // the machine's clock; nil: time.Now
	Mono   func() time.Duration // time that never jumps; nil: since the clock was made
}

// Clock gives versions. It may be used by several goroutines.
type Clock struct {
	writer string
	limit  time.Duration
	wall   func() time.Time
	mono   func() time.Duration

	mu     sync.Mutex
	last   cluster.Version // the greatest that was given or seen; its writer is not looked at
	others map[string]time.Duration
}

// New makes a clock. What has been stored is to be shown to it by Observe before
// it gives versions: the greatest version on disk is what carries it over a
// restart.
func New(c Config) *Clock {
	if c.Limit <= 0 {
		c.Limit = DefaultLimit
	}
	if c.Wall == nil {
		c.Wall = time.Now
	}
	if c.Mono == nil {
		start := time.Now()
		c.Mono = func() time.Duration { return time.Since(start) }
	}
	return &Clock{
		writer: c.Writer, limit: c.Limit, wall: c.Wall, mono: c.Mono,
		last: cluster.Version{Wall: math.MinInt64}, others: map[string]time.Duration{},
	}
}

// Limit is how far clocks may be apart.
func (c *Clock) Limit() time.Duration { return c.limit }

// Stamp gives the version of what is written now: greater than all that were
// given or seen. It fails with a *SkewError while this node's clock is not that
// of most nodes.
func (c *Clock) Stamp() (cluster.Version, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.skew()
	if s.differ >= s.agree {
		return cluster.Version{}, s.err(c.limit)
	}
	c.last = c.next(c.last, s)
	return c.last, nil
}

// StampAfter gives the version of what this node alone writes: greater than the
// one that it replaces. There is nobody to win against, so that a wrong clock
// does not matter.
func (c *Clock) StampAfter(before cluster.Version) cluster.Version {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next(before, c.skew())
}

func (c *Clock) next(before cluster.Version, s skew) cluster.Version {
	now := c.now(s).UnixMilli()
	switch {
	case now > before.Wall:
		return cluster.Version{Wall: now, Writer: c.writer}
	case before.Counter == math.MaxUint32:
		return cluster.Version{Wall: before.Wall + 1, Writer: c.writer}
	default:
		return cluster.Version{Wall: before.Wall, Counter: before.Counter + 1, Writer: c.writer}
	}
}

// FutureError says that a version is from a time that has not come.
type FutureError struct {
	Ahead, Limit time.Duration
}

func (e *FutureError) Error() string {
	return fmt.Sprintf("its version is %s ahead of this node's clock: at most %s are accepted",
		e.Ahead.Round(time.Millisecond), e.Limit)
}

// Check fails with a *FutureError if a version is further ahead than the limit,
// and than all that has been accepted before.
func (c *Clock) Check(v cluster.Version) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ahead := span(v.Wall - c.now(c.skew()).UnixMilli())
	if ahead <= c.limit || v.Wall <= c.last.Wall {
		return nil
	}
	return &FutureError{ahead, c.limit}
}

// span is a time in milliseconds, as far as a Duration goes.
func span(ms int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond)
	return time.Duration(min(max(ms, -most), most)) * time.Millisecond
}

// Observe is told of each version that is accepted: those that follow are greater.
func (c *Clock) Observe(v cluster.Version) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if after(v, c.last) {
		c.last = v
	}
}

// after leaves the writers aside: two versions of one time by two writers are both
// followed by the next count.
func after(v, w cluster.Version) bool {
	return v.Wall > w.Wall || v.Wall == w.Wall && v.Counter > w.Counter
}

// Last is the greatest version that was given or seen.
func (c *Clock) Last() cluster.Version {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// Now is the time by which versions are judged: the machine's, or that of most
// nodes where they are of another opinion.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now(c.skew())
}

func (c *Clock) now(s skew) time.Time {
	if s.differ > s.agree {
		return c.wall().Add(s.median)
	}
	return c.wall()
}
