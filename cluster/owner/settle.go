package owner

import "time"

// settling says when a node that was not well, or away, may take VIPs from those
// that serve them: when it has been well, and not away, for the hold-down time; at
// once when nobody else has settled, for then there is nobody to take them from.
type settling struct {
	hold    time.Duration
	well    bool
	since   time.Time // well, and not away; meaningless unless well
	settled bool
}

// look takes over how the node is now.
func (s *settling) look(well, others bool, now time.Time) {
	switch {
	case !well:
		s.well, s.settled = false, false
		return
	case !s.well:
		s.well, s.since = true, now
	}
	if !others || now.Sub(s.since) >= s.hold {
		s.settled = true
	}
}

// away has the node begin anew: others have gone on without it.
func (s *settling) away(now time.Time) { s.since, s.settled = now, false }

// due is when look would find the node settled; the zero time: it has nothing to
// wait for.
func (s *settling) due() time.Time {
	if !s.well || s.settled {
		return time.Time{}
	}
	return s.since.Add(s.hold)
}

// minority reports whether the nodes that have stayed are to yield to those that
// have come back to them: they are fewer, or as many and none has a name before
// all of the others'. Of two halves that find each other again, one yields.
func minority(stayed, returned []string) bool {
	if len(stayed) != len(returned) {
		return len(stayed) < len(returned)
	}
	first := func(names []string) string {
		least := names[0]
		for _, n := range names {
			least = min(least, n)
		}
		return least
	}
	return len(stayed) > 0 && first(returned) < first(stayed)
}
