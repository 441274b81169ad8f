package tap

import "golang.org/x/sys/unix"

// monotonic is the machine's monotonic clock in milliseconds, as workers count
// them.
func monotonic() uint32 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return uint32(ts.Nano() / 1e6)
}
