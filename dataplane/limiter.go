package dataplane

import "fairlead/dataplane/flow"

// limiter is a token bucket for the answers a worker makes (RFC 1812 section
// 4.3.2.8, RFC 4443 section 2.4f ask for one), so that nobody can use us to
// amplify a flood.
type limiter struct {
	millitokens uint64
	last        flow.Time
}

// allow takes one token. rate is in answers per second, burst the most that
// may be saved up; a rate of 0 allows none.
func (l *limiter) allow(now flow.Time, rate, burst uint32) bool {
	full := uint64(burst) * 1000
	elapsed := uint64(uint32(now - l.last))
	l.last = now
	l.millitokens = min(full, l.millitokens+elapsed*uint64(rate))
	if l.millitokens < 1000 {
		return false
	}
	l.millitokens -= 1000
	return true
}
