package dataprocess

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/ipc"
)

// images are the mapped FIB images: the one that workers decide by, and the
// other of the two that take turns.
type images struct {
	force    *held
	snapshot *fib.Snapshot // of force
	resting  *held         // nil when there is none; no worker uses it
}

// held is a mapped image with its descriptor, which the next control process is
// handed.
type held struct {
	*fib.Mapped
	fd   int
	size int
}

// close gives an image up; nil is none.
func (h *held) close() error {
	if h == nil {
		return nil
	}
	return errors.Join(h.Mapped.Close(), unix.Close(h.fd))
}

// begin takes the first image.
func (p *process) begin(m *ipc.Message) error {
	var body ipc.FIB
	if err := m.Decode(ipc.KindFIB, &body, 1); err != nil {
		return err
	}
	mapped, snapshot, err := p.open(m.FDs[0], body.Size)
	if err == nil {
		err = p.check(body.Generation, snapshot)
	}
	if err != nil {
		return fmt.Errorf("generation %d: %w", body.Generation, err)
	}
	p.images = images{force: mapped, snapshot: snapshot}
	return nil
}

// update takes an image or a patch and acknowledges it when every worker
// decides by it. One that cannot be used is refused and changes nothing.
func (p *process) update(m *ipc.Message) error {
	var generation uint64
	var refused, fatal error
	if m.Kind == ipc.KindPatch {
		var body ipc.Patch
		if err := m.Decode(ipc.KindPatch, &body, 0); err != nil {
			return err
		}
		generation = body.Generation
		refused = p.patch(&body)
	} else {
		var body ipc.FIB
		if err := m.Decode(ipc.KindFIB, &body, 1); err != nil {
			return err
		}
		generation = body.Generation
		refused, fatal = p.replace(&body, m.FDs[0])
	}
	switch {
	case fatal != nil:
		return fatal
	case refused != nil:
		return p.conn.Send(ipc.KindRefused, ipc.Refused{Generation: generation, Error: fmt.Sprintf("generation %d: %v", generation, refused)})
	}
	return p.conn.Send(ipc.KindAck, ipc.Ack{Generation: generation})
}

// replace puts an image in force and gives up those before, or keeps one that
// rests.
func (p *process) replace(body *ipc.FIB, fd int) (refused, fatal error) {
	mapped, snapshot, err := p.open(fd, body.Size)
	if err != nil {
		return err, nil
	}
	if body.Resting {
		before := p.images.resting
		p.images.resting = mapped
		return nil, before.close()
	}
	if err := p.check(body.Generation, snapshot); err != nil {
		return errors.Join(err, mapped.close()), nil
	}
	before := p.images
	p.images = images{force: mapped, snapshot: snapshot}
	p.put(snapshot)
	if err := errors.Join(before.force.close(), before.resting.close()); err != nil {
		return nil, fmt.Errorf("unmap images before generation %d: %w", body.Generation, err)
	}
	return nil, nil
}

// patch puts the image that rested in force.
func (p *process) patch(body *ipc.Patch) error {
	i := &p.images
	if i.resting == nil {
		return errors.New("a patch came and no image rests")
	}
	var snapshot *fib.Snapshot
	var err error
	if body.All {
		snapshot, err = i.resting.Open()
	} else {
		snapshot, err = i.resting.Patched(i.snapshot, body.Ranges())
	}
	if err == nil {
		err = p.check(body.Generation, snapshot)
	}
	if err != nil {
		return err
	}
	p.images = images{force: i.resting, snapshot: snapshot, resting: i.force}
	p.put(snapshot)
	return nil
}

// open maps and verifies the image in a memfd. On an error the descriptor is
// closed.
func (p *process) open(fd, size int) (*held, *fib.Snapshot, error) {
	mapped, err := fib.MapImage(fd)
	if err != nil {
		return nil, nil, errors.Join(err, unix.Close(fd))
	}
	h := &held{mapped, fd, size}
	snapshot, err := mapped.Open()
	if err != nil {
		return nil, nil, errors.Join(err, h.close())
	}
	return h, snapshot, nil
}

// check refuses a snapshot that is not what was announced, or that there are
// no counters for.
func (p *process) check(generation uint64, s *fib.Snapshot) error {
	if have := s.Generation(); have != generation {
		return fmt.Errorf("the image has generation %d", have)
	}
	if services, backends := len(s.Services()), len(s.Backends()); services > p.setup.Services || backends > p.setup.Backends {
		return fmt.Errorf("%d service and %d backend slots, there are counters for %d and %d", services, backends, p.setup.Services, p.setup.Backends)
	}
	return nil
}

// put has the workers decide by a snapshot, and returns when all of them do: no
// other is in use then.
func (p *process) put(s *fib.Snapshot) {
	if !p.forwards {
		return // it is looked at when it does
	}
	p.snapshots.Publish(s)
	p.awaitWorkers(s.Generation())
}

// awaitWorkers returns when no worker decides by an older generation. A worker
// that is stuck keeps it waiting: the control process sees that the generation
// is not acknowledged and the beat stands still.
func (p *process) awaitWorkers(generation uint64) {
	for i, w := range p.workers {
		w.Waiter.Wake()
		for atomic.LoadUint64(&p.counters.Workers[i].Ledger.Generation) != generation {
			time.Sleep(50 * time.Microsecond)
		}
	}
}
