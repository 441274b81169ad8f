package node

import (
	"errors"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/tap"
)

// adopt goes on with memory that the control process before has made. Who looked
// through that one no longer does. The descriptor is the taps' own from then on.
// Memory of another version's is left to the data process that has it, which
// shows nothing any more; the next one gets memory of ours.
func (t *taps) adopt(fd, workers int) error {
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	if info.Size < int64(tap.Size(workers)) {
		return errors.Join(unix.Close(fd), t.make(workers))
	}
	mem, err := mapMemfd(fd, tap.Size(workers))
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	reader, err := tap.NewReader(mem, workers)
	if err != nil {
		err = errors.Join(unix.Munmap(mem), unix.Close(fd))
		return errors.Join(err, t.make(workers))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fd, t.mem, t.reader = fd, mem, reader
	return nil
}
