package node

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/tell"
)

// Tells is how workers tell of flows that peers of the node have to know of, and
// are given those that peers tell of. It may be used at any time: what is given
// while there are no workers is refused, and they tell of nothing.
type Tells struct {
	mu      sync.Mutex
	fd      int // -1: there is no memory
	mem     []byte
	control *tell.Control
	past    tell.Stats // of memory that was given up
}

// Tells is how peers are told of flows.
func (n *Node) Tells() *Tells { return n.tells }

// Hear calls f with what workers have told since the last time, those of one
// worker in order; f is not to keep the record, nor to block.
func (t *Tells) Hear(f func(*tell.Record)) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.control == nil {
		return 0
	}
	return t.control.Hear(f)
}

// Give gives a flow to the workers, in the order of calls for each client. It is
// not ok when they are too far behind, or there are none.
func (t *Tells) Give(r *tell.Record) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.control != nil && t.control.Give(r)
}

// Stats are what has passed since the node began.
func (t *Tells) Stats() tell.Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stats()
}

// Progress is how many flows were given to workers since the node began, and how
// many of these they have taken; what was given to workers that are no more counts
// as taken.
func (t *Tells) Progress() (given, taken uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	given = t.past.Given
	if t.control == nil {
		return given, given
	}
	c := t.control.Stats()
	return given + c.Given, given + c.Taken
}

func (t *Tells) stats() tell.Stats {
	s := t.past
	if t.control != nil {
		c := t.control.Stats()
		s.Told, s.Lost, s.Given, s.Taken, s.Refused = s.Told+c.Told, s.Lost+c.Lost, s.Given+c.Given, s.Taken+c.Taken, s.Refused+c.Refused
	}
	return s
}

// make makes memory for so many workers. What those before have told and nobody
// has heard is lost, which is counted.
func (t *Tells) make(workers int) error {
	fd, err := memfd("fairlead-tells", tell.Size(workers))
	if err != nil {
		return err
	}
	return t.use(fd, workers)
}

// adopt goes on with memory of the control process before; that of another
// version's is left to the data process that has it, and the next one gets memory
// of ours.
func (t *Tells) adopt(fd, workers int) error {
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	if info.Size < int64(tell.Size(workers)) {
		return errors.Join(unix.Close(fd), t.make(workers))
	}
	if err := t.use(fd, workers); errors.Is(err, tell.ErrLayout) {
		return t.make(workers)
	} else if err != nil {
		return err
	}
	return nil
}

// use maps memory, which is its own from then on whatever it returns.
func (t *Tells) use(fd, workers int) error {
	mem, err := mapMemfd(fd, tell.Size(workers))
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	control, err := tell.NewControl(mem, workers)
	if err != nil {
		return errors.Join(err, unix.Munmap(mem), unix.Close(fd))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.past = t.stats()
	if t.control != nil {
		t.past.Lost++
	}
	err = t.unmap()
	t.fd, t.mem, t.control = fd, mem, control
	return err
}

func (t *Tells) unmap() error {
	if t.fd < 0 {
		return nil
	}
	err := errors.Join(unix.Munmap(t.mem), unix.Close(t.fd))
	t.fd, t.mem, t.control = -1, nil, nil
	return err
}

func (t *Tells) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.past = t.stats()
	return t.unmap()
}
