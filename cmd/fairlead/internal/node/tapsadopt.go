package node

import (
	"errors"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/tap"
)

// adopt goes on with memory that the control process before has made. Who looked
// through that one no longer does. The descriptor is the taps' own from then on.
func (t *taps) adopt(fd, workers int) error {
	mem, err := mapMemfd(fd, tap.Size(workers))
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	reader, err := tap.NewReader(mem, workers)
	if err != nil {
		return errors.Join(err, unix.Munmap(mem), unix.Close(fd))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fd, t.mem, t.reader = fd, mem, reader
	return nil
}
