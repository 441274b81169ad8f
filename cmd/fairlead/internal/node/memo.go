package node

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"golang.org/x/sys/unix"

	"fairlead/configs"
	"fairlead/dataplane/ipc"
	"fairlead/dataplane/memo"
	"fairlead/xdp/steer"
)

// Limits of the flow memos that lie in the kernel's memory. Routes are ways to a
// backend or back to a router of clients; each takes a cache line for every CPU.
const (
	memoEntriesMost = 1 << 24
	memoRoutes      = 16384
	memoCountsMost  = 64 << 20 // bytes for the counts of all routes on all CPUs
)

// openSteer opens the steering program, with memory for flow memos where they
// are wanted. It goes on with the maps that are adopted, if any.
func openSteer(cfg *configs.Config, adopted *steer.AdoptedMaps, log *slog.Logger) (*steer.Steer, [2]uint64, error) {
	var seed [16]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, [2]uint64{}, err
	}
	c := steer.Config{PinPath: cfg.XDP.PinPath, Adopted: adopted}
	if cfg.Dataplane.FlowMemo != configs.FlowMemoOff {
		c.Memo = &steer.MemoConfig{
			Entries: min(memo.EntriesFor(cfg.Dataplane.Memos()), memoEntriesMost),
			Routes:  min(memoRoutes, memoCountsMost/memo.CountSize/runtime.NumCPU()),
			Seed:    [2]uint64{binary.NativeEndian.Uint64(seed[:]), binary.NativeEndian.Uint64(seed[8:])},
		}
		if adopted != nil && adopted.MemoEntries > 0 {
			c.Memo.Seed = adopted.MemoSeed
		}
	}
	s, err := steer.Open(c)
	if errors.Is(err, steer.ErrMemoUnsupported) && cfg.Dataplane.FlowMemo == configs.FlowMemoAuto {
		log.Info("the XDP program forwards no flows by itself", "reason", err)
		c.Memo = nil
		s, err = steer.Open(c)
	}
	if err != nil {
		return nil, [2]uint64{}, err
	}
	if c.Memo == nil {
		return s, [2]uint64{}, nil
	}
	if m, ok := s.Memo(); !ok || m.Entries.Size != memo.EntrySize || m.Routes.Size != memo.RouteSize || m.Counts.Size != memo.CountSize {
		return nil, [2]uint64{}, errors.Join(fmt.Errorf("the flow memos of the XDP program have another layout: %+v", m), s.Close())
	}
	return s, c.Memo.Seed, nil
}

// voidOrphans makes the XDP program send all packets up when no data process
// lives, or published says that it has just ended: nobody else sees to it that
// what the program remembers agrees with the new image.
func (n *Node) voidOrphans(published error) {
	if n.data != nil && !errors.Is(published, errGone) {
		return
	}
	if err := n.voidMemos(); err != nil {
		n.log.Error("what the XDP program remembers of flows cannot be voided", "error", err)
	}
}

func (n *Node) voidMemos() error {
	m, ok := n.steer.Memo()
	if !ok {
		return nil
	}
	routes, err := unix.Mmap(m.Routes.FD, 0, m.Routes.Bytes(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the routes of flow memos: %w", err)
	}
	memo.Void(routes)
	return unix.Munmap(routes)
}

// memoSetup is what the data process must know of the XDP program's memory for
// flow memos, nil when there is none.
func (n *Node) memoSetup() *ipc.Memo {
	m, ok := n.steer.Memo()
	if !ok {
		return nil
	}
	return &ipc.Memo{Entries: m.Entries.Bytes(), Routes: m.Routes.Bytes(), Counts: m.Counts.Bytes(), Seed: n.memoSeed}
}

// recheckMemos lets the XDP program send by the interfaces that it can send by
// now.
func (n *Node) recheckMemos() {
	changed, err := n.steer.Recheck()
	if err != nil {
		n.log.Warn("interfaces that the XDP program can send by", "error", err)
	}
	for _, a := range changed {
		n.log.Info("flow memos and an interface", "interface", a.Name, "can_send", a.Redirectable)
	}
}

// memoOptions is how flow memos treat a port.
func (n *Node) memoOptions(port int) steer.MemoOptions {
	o := steer.MemoOptions{LeaveOut: n.cfg.Dataplane.FlowMemo == configs.FlowMemoAuto && n.zeroCopy(port)}
	switch n.ports[port].XDPTX {
	case configs.XDPTXOn:
		o.SendBack = steer.SendBackTX
	case configs.XDPTXOff:
		o.SendBack = steer.SendBackRedirect
	}
	return o
}

// zeroCopy reports whether the sockets of a port are bound with zero copy: what
// its packets need in user space is then less than what memos save.
func (n *Node) zeroCopy(port int) bool {
	for _, w := range n.workers {
		for i, s := range w.sockets {
			if s != nil && w.queues[i].port == port && s.Facts().ZeroCopy {
				return true
			}
		}
	}
	return false
}
