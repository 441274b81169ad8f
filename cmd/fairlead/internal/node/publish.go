package node

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/fib"
	"fairlead/xdp/steer"
)

// image is what is in force: a FIB image, in a memfd, that takes turns with
// another.
type image struct {
	generation uint64
	images     *fib.Images
	snapshot   *fib.Snapshot // of the one in force, for status
	locals     []steer.Local
	viewed     *[2]sync.RWMutex // held by those who look at each of the two
	turn       int              // which is in force
	left       *leftImage       // instead of images: what the control process before has left
}

// leftImage is an image that another process has made. It can only be read.
type leftImage struct {
	mapped   *fib.Mapped
	fd, size int
}

func (i *image) close() error {
	if i.images == nil && i.left == nil {
		return nil
	}
	i.unviewed()
	if i.left != nil {
		return errors.Join(i.left.mapped.Close(), unix.Close(i.left.fd))
	}
	return i.images.Close()
}

// descriptor is that of the image in force, and how many bytes it has.
func (i *image) descriptor() (fd, size int) {
	if i.left != nil {
		return i.left.fd, i.left.size
	}
	return i.images.FD(), i.images.Size()
}

func newImage(generation uint64, b *fib.Builder) (image, error) {
	images, err := fib.NewImages(b, generation)
	if err != nil {
		return image{}, err
	}
	return image{generation: generation, images: images, snapshot: images.Snapshot(), locals: localsOf(b), viewed: new([2]sync.RWMutex)}, nil
}

// Publish implements controlplane.Publisher. Addresses that are no longer ours
// are given back to the host before the data process forgets them, and new
// ones are taken from it only when the data process knows them.
func (n *Node) Publish(generation uint64, b *fib.Builder) error {
	begin := time.Now()
	if s, k := len(b.Services), len(b.Backends); s > maxServices || k > maxBackends {
		return fmt.Errorf("%d service and %d backend slots, %d and %d are possible", s, k, maxServices, maxBackends)
	}
	next, err := newImage(generation, b)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.settleSpare()
	n.newOwners(next.snapshot)
	if err := n.keepLocals(next.locals); err != nil {
		return errors.Join(err, next.close())
	}
	if n.data != nil {
		err = n.data.publish(generation, next.images, next.images.FD())
		if err != nil && !errors.Is(err, errGone) {
			_, _, back := n.steer.SetLocals(n.owned(n.image.locals))
			return errors.Join(err, back, next.close())
		}
	}
	n.voidOrphans(err)
	old := n.image
	n.image = next
	if n.data != nil { // otherwise steering begins when it is started
		if _, _, err := n.steer.SetLocals(n.owned(next.locals)); err != nil {
			n.log.Error("steering does not follow generation", "generation", generation, "error", err)
		}
	}
	n.announceOwned()
	n.tellVIPs()
	n.log.Debug("image in force", "generation", generation, "bytes", next.snapshot.Used(), "took", time.Since(begin))
	n.pair()
	n.tellSpare(nil, false)
	if n.data != nil {
		if err := n.keepImages(); err != nil {
			n.log.Warn("the service manager does not keep the image", "error", err)
		}
	}
	return old.close()
}

// newOwners has the counters of slots begin at zero that have no owner now and
// get one.
func (n *Node) newOwners(next *fib.Snapshot) {
	if n.image.snapshot == nil || n.counters == nil {
		return
	}
	now := n.image.snapshot.Services()
	for slot, svc := range next.Services() {
		if svc.ID != 0 && (slot >= len(now) || now[slot].ID == 0) {
			n.counters.NewService(uint32(slot))
		}
	}
	for slot := range next.Backends() {
		n.newBackend(uint32(slot), next)
	}
}

func (n *Node) newBackend(slot uint32, next *fib.Snapshot) {
	now, then := n.image.snapshot.Backends(), next.Backends()
	if n.counters != nil && int(slot) < len(then) && then[slot].ID != 0 && (int(slot) >= len(now) || now[slot].ID == 0) {
		n.counters.NewBackend(slot)
	}
}

// pair sees to it that there are two images and that the data process has both.
// Without that a change costs a full image, and nothing else is lost.
func (n *Node) pair() {
	if n.image.images == nil {
		return // the image is another process's
	}
	err := n.image.images.Double()
	if err == nil && n.data != nil {
		err = n.data.rest(n.image.generation, n.image.images)
	}
	if err != nil && !errors.Is(err, errGone) {
		n.log.Warn("small changes cost as much as large ones until the next", "error", err)
	}
}

// Patch implements controlplane.Publisher: the image that rests is patched and
// takes its turn.
func (n *Node) Patch(generation uint64, p *fib.Patch) error {
	begin := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.settleSpare() // it may be reading what is written now
	images := n.image.images
	if images == nil {
		return fmt.Errorf("%w: nothing is published yet", fib.ErrNoRoom)
	}
	resting := &n.image.viewed[1-n.image.turn]
	resting.Lock() // until the last look at it is over
	defer resting.Unlock()
	written, err := images.Patch(p, generation)
	if err != nil {
		return err
	}
	if k := len(images.Candidate().Backends()); k > maxBackends {
		images.Abandon()
		return fmt.Errorf("%w: %d backend slots, %d are possible", fib.ErrNoRoom, k, maxBackends)
	}
	for slot := range p.Backends {
		n.newBackend(slot, images.Candidate())
	}
	unpaired := n.data != nil && !n.data.rests
	switch {
	case n.data == nil:
	case unpaired:
		err = n.data.publish(generation, images, images.RestingFD())
	default:
		err = n.data.patch(generation, written)
	}
	if err != nil && !errors.Is(err, errGone) {
		images.Abandon()
		return err
	}
	n.voidOrphans(err)
	images.Commit()
	n.image.generation, n.image.snapshot, n.image.turn = generation, images.Snapshot(), 1-n.image.turn
	n.log.Debug("patch in force", "generation", generation, "bytes", p.Size(), "runs", len(written), "took", time.Since(begin))
	if unpaired {
		n.pair()
	}
	n.tellSpare(written, true)
	return nil
}

// keepLocals takes out of the steering map what next does not have.
func (n *Node) keepLocals(next []steer.Local) error {
	if n.data == nil {
		return nil
	}
	known := make(map[steer.Local]bool, len(next))
	for _, l := range next {
		known[steer.Local{Addr: l.Addr, Kind: l.Kind}] = true
	}
	var keep []steer.Local
	for _, l := range n.image.locals {
		if known[steer.Local{Addr: l.Addr, Kind: l.Kind}] {
			keep = append(keep, l)
		}
	}
	_, _, err := n.steer.SetLocals(n.owned(keep))
	return err
}

func localsOf(b *fib.Builder) []steer.Local {
	locals := make([]steer.Local, 0, len(b.Locals))
	for i := range b.Locals {
		locals = append(locals, steerLocal(&b.Locals[i]))
	}
	return locals
}

// steerLocal is an address as the XDP program is told of it.
func steerLocal(l *fib.Local) steer.Local {
	s := steer.Local{Addr: l.Addr.Netip(), AnswerARP: l.Flags&fib.LocalAnswerARP != 0, FailPass: l.Flags&fib.LocalFailPass != 0, ID: l.ID}
	switch l.Kind {
	case fib.LocalVIP:
		s.Kind = steer.VIP
	case fib.LocalSNAT:
		s.Kind = steer.SNAT
	case fib.LocalTunnel:
		s.Kind = steer.Tunnel
	}
	return s
}
