package selftest

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"fairlead/configs"
	"fairlead/dataplane/nic"
	"fairlead/xdp"
	"fairlead/xdp/handover"
)

// line is one queue of the interface with a socket and memory of its own, as a
// worker has it.
type line struct {
	index, queue int // the interface's number, and the queue's
	umem         *xdp.UMEM
	socket       *xdp.Socket
	rings        *xdp.Queue
	pool         *nic.Pool
}

type lines []*line

// openLines opens a socket on each of the queues. What is open when one cannot
// be opened is returned with the error.
func openLines(index int, name string, queues int, d *configs.Dataplane) (lines, error) {
	var all lines
	for queue := range queues {
		l := &line{index: index, queue: queue}
		all = append(all, l)
		if err := l.open(name, d); err != nil {
			return all, err
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("interface %s has no receive queue", name)
	}
	return all, nil
}

func (all lines) close() error {
	var errs []error
	for _, l := range all {
		errs = append(errs, l.close())
	}
	return errors.Join(errs...)
}

func (l *line) open(name string, d *configs.Dataplane) (err error) {
	l.umem, err = xdp.NewUMEM(xdp.UMEMConfig{Chunks: d.Frames, ChunkSize: d.FrameSize, Headroom: xdp.KernelHeadroom + d.Headroom})
	if err != nil {
		return err
	}
	l.socket, err = xdp.Open(xdp.SocketConfig{
		IfIndex: l.index, IfName: name, Queue: l.queue, UMEM: l.umem, NeedWakeup: true,
		RXSize: d.RingSize, TXSize: d.RingSize, FillSize: d.RingSize, CompletionSize: d.RingSize,
	})
	if err != nil {
		return err
	}
	// The rings have a descriptor of their own, as in a data process.
	fd, err := unix.FcntlInt(uintptr(l.socket.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("duplicate the socket of %s queue %d: %w", name, l.queue, err)
	}
	if l.rings, err = xdp.Attach(fd, l.umem, l.socket.Geometry()); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	l.pool, _, err = handover.Adopt(l.umem, l.rings)
	return err
}

func (l *line) close() error {
	var errs []error
	if l.rings != nil {
		errs = append(errs, l.rings.Close())
	}
	if l.socket != nil {
		errs = append(errs, l.socket.Close())
	}
	if l.umem != nil {
		errs = append(errs, l.umem.Close())
	}
	return errors.Join(errs...)
}
