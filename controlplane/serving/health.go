// Package serving works out how each backend serves: out of what sources
// declare, what operators set, and what health checks say. It decides nothing
// about packets; what it works out goes into the pools that are compiled
// (model.Backend.Serving).
package serving

import "time"

// Health is what checks say of a backend.
type Health uint8

// The states of health.
const (
	Unknown Health = iota // not judged yet
	Up
	Down
)

var healthNames = [...]string{"unknown", "up", "down"}

// String names the state as API, metrics and logs do.
func (h Health) String() string { return healthNames[h] }

// Verdict is what checks have found.
type Verdict struct {
	Health Health
	Since  time.Time // when it became that
}

// Backend is how one backend serves and why.
type Backend struct {
	Verdict         // Up since the zero time in a pool without checks
	Weight   int    // in force: declared, or as an operator set it
	Withheld int    // per mille of its share that others get
	Used     bool   // it gets new flows
	Ended    bool   // its flows are ended: it is dead or disabled
	Why      string // why it does not get its full share, "" when it does
}

// Pool sums a pool up.
type Pool struct {
	Backends int  // declared
	Enabled  int  // of these, with weight and neither drained nor disabled
	Healthy  int  // of those enabled, up
	Unknown  int  // of those enabled, not judged yet
	Used     int  // get new flows
	Panic    bool // too few are up, so that all are used
}
