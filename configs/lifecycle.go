package configs

import "time"

// Lifecycle is how the two processes outlive each other.
type Lifecycle struct {
	Standby     bool          // a second data process stands by, to take over when the first one ends
	StuckAfter  time.Duration // how long a worker may go without finishing a round before its process is replaced
	OrphanLimit time.Duration // how long a data process goes on without a control process; 0: for ever
}

// Bounds of [lifecycle].
const (
	minStuck, maxStuck = 500 * time.Millisecond, time.Minute
	maxOrphan          = 30 * 24 * time.Hour
)

func defaultLifecycle() Lifecycle {
	return Lifecycle{Standby: true, StuckAfter: time.Second}
}

func (r *reader) lifecycle(t *table, l *Lifecycle) {
	l.Standby = t.flag("standby", l.Standby)
	l.StuckAfter = t.duration("stuck_after", l.StuckAfter, minStuck, maxStuck, time.Millisecond)
	l.OrphanLimit = t.duration("orphan_limit", l.OrphanLimit, 0, maxOrphan, time.Millisecond)
	t.finish()
}
