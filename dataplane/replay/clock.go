package replay

import (
	"time"

	"fairlead/dataplane/flow"
)

// clockStart is what the clock shows at the first frame. It is far from 0 in
// both directions, so that the budget for answers is full, as it is on a node
// that has run for a while.
const clockStart = flow.Time(1 << 30)

// longestGap bounds how far the clock moves at once. It is longer than any
// timeout, so that a longer gap makes no difference, and shorter than half the
// clock's range.
const longestGap = 24*24*time.Hour + time.Hour

// clock follows the capture's time. It never runs backwards: a frame with an
// earlier time than the one before happens at the same time as that one.
type clock struct {
	now  flow.Time
	time time.Time // of the latest frame, the zero Time before the first
	rest time.Duration
}

func newClock() clock { return clock{now: clockStart} }

// advance takes the time of the next frame and returns by how many whole
// milliseconds, as a duration, the clock is to move. What is left of a
// millisecond counts for the next frame.
func (c *clock) advance(t time.Time) time.Duration {
	switch {
	case t.IsZero():
		if c.time.IsZero() {
			c.time = time.Unix(0, 0).UTC()
		}
		return 0
	case c.time.IsZero():
		c.time = t
		return 0
	case !t.After(c.time):
		return 0
	}
	gap := min(t.Sub(c.time), longestGap) + c.rest
	c.time = t
	c.rest = gap % time.Millisecond
	return gap - c.rest
}
