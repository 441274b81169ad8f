package quorum

import (
	"fmt"
	"time"
)

// fitness is whether this node can reach what it would send connections to.
type fitness struct {
	why    string    // it is unfit; "": it is fit
	turned time.Time // since when it seems to be otherwise; zero: it does not
	next   time.Time

	revision        uint64 // of the core, of which the next two are
	reached, missed int
}

// reach is how many of the backends that this node checks and that are up it finds
// up, and how many down.
func (c *core) reach() (reached, missed int) {
	for _, r := range c.keys {
		if r.state != Up || !r.mine {
			continue
		}
		switch v := r.vote(c.self); {
		case v == nil:
		case v.state == Up:
			reached++
		case v.state == Down:
			missed++
		}
	}
	return reached, missed
}

// look works out how it is, at most every half second. A change counts when it has
// lasted.
func (f *fitness) look(c *core, lasts time.Duration, now time.Time) (why string, changed bool) {
	if now.Before(f.next) {
		return f.why, false
	}
	f.next = now.Add(look)
	if f.revision != c.revision {
		f.revision = c.revision
		f.reached, f.missed = c.reach()
	}
	reached, missed := f.reached, f.missed
	if unfit := missed > reached; unfit == (f.why != "") {
		f.turned = time.Time{}
		return f.why, false
	}
	if f.turned.IsZero() {
		f.turned = now
	}
	if now.Sub(f.turned) < lasts {
		return f.why, false
	}
	f.turned = time.Time{}
	if f.why != "" {
		f.why = ""
	} else {
		f.why = fmt.Sprintf("of %d backends that are up by the other nodes' checks, this node cannot reach %d", reached+missed, missed)
	}
	return f.why, true
}
