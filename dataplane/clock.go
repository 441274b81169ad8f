package dataplane

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/flow"
)

// MonotonicClock reads the machine's monotonic clock, which all processes
// share, so that a flow's deadline means the same to the next data process. It
// takes the machine's time once and then follows Go's own monotonic clock,
// which needs no system call.
func MonotonicClock() (func() flow.Time, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return nil, fmt.Errorf("read the monotonic clock: %w", err)
	}
	start, base := time.Now(), time.Duration(ts.Nano())
	return func() flow.Time {
		return flow.Time((base + time.Since(start)) / time.Millisecond)
	}, nil
}
