package health

import (
	"time"

	"fairlead/controlplane/model"
)

// judge is the state machine of the checks of one way to one backend.
//
//	Unknown --1 success--> Up      Unknown --Fall failures--> Down
//	Up --Fall failures--> Down     Down --Rise successes--> Up
//
// Successes and failures count only in a row.
type judge struct {
	state  State
	since  time.Time
	streak int // successes in a row, or failures as a negative number
}

// judge takes one result and reports whether the state is another one now.
func (j *judge) judge(c *model.Check, ok bool, now time.Time) (changed bool) {
	switch {
	case ok && j.streak > 0:
		j.streak++
	case ok:
		j.streak = 1
	case j.streak < 0:
		j.streak--
	default:
		j.streak = -1
	}
	next := j.state
	switch {
	case ok && (j.state == Unknown || j.streak >= c.Rise):
		next = Up
	case !ok && -j.streak >= c.Fall:
		next = Down
	}
	if next == j.state {
		return false
	}
	j.state, j.since = next, now
	return true
}
