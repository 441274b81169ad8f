package steer

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// MaxQueues is how many queues of an interface can have a socket.
const MaxQueues = 256

// SetSocket gives a queue's frames to the AF_XDP socket fd. The socket must have
// a receive ring and be bound to the same interface and queue: the kernel does
// not check that here, it drops the frames later. A socket that was there is
// replaced. The kernel takes a socket out by itself when its last descriptor is
// closed and the last mapping of its rings is gone, so that a socket whose data
// process has died, but whose descriptor somebody keeps, still gets frames.
func (s *Steer) SetSocket(ifindex, queue, fd int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.queue(ifindex, queue)
	if err != nil {
		return fmt.Errorf("set socket: %w", err)
	}
	err = i.xsks.Put(uint32(queue), uint32(fd))
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		err = errors.New("not an AF_XDP socket")
	case errors.Is(err, unix.EBADF):
		err = errors.New("the descriptor is not open")
	}
	if err != nil {
		return fmt.Errorf("set socket of %s queue %d: %w", i.attached.Name, queue, err)
	}
	return nil
}

// ClearSocket takes a queue's socket away: its frames follow the fail action of
// the address they are for. A queue without a socket is no error.
func (s *Steer) ClearSocket(ifindex, queue int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.queue(ifindex, queue)
	if err != nil {
		return fmt.Errorf("clear socket: %w", err)
	}
	if err := i.xsks.Delete(uint32(queue)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("clear socket of %s queue %d: %w", i.attached.Name, queue, err)
	}
	return nil
}

// queue finds the interface of a queue; the caller holds s.mu.
func (s *Steer) queue(ifindex, queue int) (*iface, error) {
	if s.closed {
		return nil, ErrClosed
	}
	if queue < 0 || queue >= MaxQueues {
		return nil, fmt.Errorf("queue %d: a queue is 0 to %d", queue, MaxQueues-1)
	}
	i, ok := s.ifaces[ifindex]
	if !ok {
		return nil, fmt.Errorf("interface %d: %w", ifindex, ErrNotAttached)
	}
	return i, nil
}
