package xdp

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// AdoptSocket is an open, bound socket that another process has made and
// described. On success the Socket owns fd; on failure fd is closed.
func AdoptSocket(fd int, g Geometry) (*Socket, error) {
	zeroCopy, err := isZeroCopy(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("xdp: adopt the socket of interface index %d queue %d: %w", g.IfIndex, g.Queue, err)
	}
	return &Socket{fd: fd, geometry: g, facts: Facts{ZeroCopy: zeroCopy, Notes: []string{"taken over from another process"}}}, nil
}
