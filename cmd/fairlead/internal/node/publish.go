package node

import (
	"errors"
	"fmt"

	"fairlead/dataplane/fib"
	"fairlead/xdp/steer"
)

// image is a FIB image in a sealed memfd.
type image struct {
	generation uint64
	images     *fib.Images
	fd, size   int           // of the one in force
	snapshot   *fib.Snapshot // of the one in force
	locals     []steer.Local
}

func (i *image) close() error {
	if i.images == nil {
		return nil
	}
	return i.images.Close()
}

func newImage(generation uint64, b *fib.Builder) (image, error) {
	images, err := fib.NewImages(b, generation)
	if err != nil {
		return image{}, err
	}
	return image{generation: generation, images: images, fd: images.FD(), size: images.Size(), snapshot: images.Snapshot(), locals: localsOf(b)}, nil
}

// Publish implements controlplane.Publisher. Addresses that are no longer ours
// are given back to the host before the data process forgets them, and new
// ones are taken from it only when the data process knows them.
func (n *Node) Publish(generation uint64, b *fib.Builder) error {
	if s, k := len(b.Services), len(b.Backends); s > maxServices || k > maxBackends {
		return fmt.Errorf("%d service and %d backend slots, %d and %d are possible", s, k, maxServices, maxBackends)
	}
	next, err := newImage(generation, b)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.keepLocals(next.locals); err != nil {
		return errors.Join(err, next.close())
	}
	if n.data != nil {
		err := n.data.publish(next)
		if err != nil && !errors.Is(err, errGone) {
			_, _, back := n.steer.SetLocals(n.image.locals)
			return errors.Join(err, back, next.close())
		}
	}
	old := n.image
	n.image = next
	if n.data == nil {
		return old.close() // not started yet; steering begins when it is
	}
	if _, _, err := n.steer.SetLocals(next.locals); err != nil {
		n.log.Error("steering does not follow generation", "generation", generation, "error", err)
	}
	return old.close()
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
	_, _, err := n.steer.SetLocals(keep)
	return err
}

func localsOf(b *fib.Builder) []steer.Local {
	locals := make([]steer.Local, 0, len(b.Locals))
	for i := range b.Locals {
		l := &b.Locals[i]
		s := steer.Local{Addr: l.Addr.Netip(), AnswerARP: l.Flags&fib.LocalAnswerARP != 0, FailPass: l.Flags&fib.LocalFailPass != 0, ID: l.ID}
		switch l.Kind {
		case fib.LocalVIP:
			s.Kind = steer.VIP
		case fib.LocalSNAT:
			s.Kind = steer.SNAT
		case fib.LocalTunnel:
			s.Kind = steer.Tunnel
		}
		locals = append(locals, s)
	}
	return locals
}
