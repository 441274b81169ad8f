package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/controlplane"
	"fairlead/controlplane/compile"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/ipc"
	"fairlead/dataplane/tap"
	"fairlead/dataplane/tell"
	"fairlead/xdp"
	"fairlead/xdp/steer"
)

// heldMulticast is the name of the descriptor of hearMulticast.
const heldMulticast = "multicast"

// estate is everything that a data process of this node works with. The lock is
// held.
func (n *Node) estate() (*estate, error) {
	accounts, ok := n.steer.Admissions()
	if !ok || accounts.Size != xdp.AdmissionSize {
		return nil, fmt.Errorf("the XDP program's accounts of new connections have another layout: %+v", accounts)
	}
	note := note{Past: n.past, Restarts: n.restarts, Started: n.started}
	for i := range n.ports {
		note.Ports = append(note.Ports, notedPort{n.ports[i].Name, n.ports[i].index, n.ports[i].queues})
	}
	text, err := json.Marshal(note)
	if err != nil {
		return nil, err
	}
	e := &estate{generation: n.image.generation, setup: ipc.Setup{
		Layout: ipc.Layout, Workers: len(n.workers), Flows: n.cfg.Dataplane.FlowTableSize, Services: maxServices, Backends: maxBackends,
		HoldMost: int(n.image.snapshot.Settings().FragHold), SpinUS: int(n.cfg.Dataplane.Spin.Microseconds()), Resume: n.used,
		Accounts: accounts.Bytes(), Taps: tap.Size(len(n.workers)), Tells: tell.Size(len(n.workers)), Memos: n.cfg.Dataplane.Memos(), Memo: n.memoSetup(), Owner: uint32(os.Getuid()),
		Orphan: n.cfg.Lifecycle.OrphanLimit.Milliseconds(), Estate: text,
	}}
	e.shared = []int{n.flowsFD, n.countersFD, accounts.FD, n.taps.fd, n.tells.fd}
	if e.setup.Memo != nil {
		m, _ := n.steer.Memo()
		e.shared = append(e.shared, m.Entries.FD, m.Routes.FD, m.Counts.FD)
	}
	if n.listener != nil {
		e.setup.Listens = true
		e.shared = append(e.shared, n.listener.FD())
	}
	e.setup.Held = []string{heldMulticast}
	e.shared = append(e.shared, n.multicastFD)
	for i, w := range n.workers {
		fds := []int{w.umem.FD()}
		for _, s := range w.sockets {
			fds = append(fds, s.FD())
		}
		e.workers, e.sockets = append(e.workers, n.describe(i)), append(e.sockets, fds)
	}
	e.image, e.imageSize = n.image.descriptor()
	return e, nil
}

// adopt goes on with what is inherited. On an error everything that this
// process holds of it is to be released, and the data process goes on alone.
func (n *Node) adopt(in *inherited, left []byte) error {
	n.past, n.restarts, n.started, n.used = in.note.Past, in.note.Restarts, in.note.Started, true
	rest := in.shared
	next := func() int {
		fd := rest[0]
		rest = rest[1:]
		return fd
	}
	adopted := steer.AdoptedMaps{Places: make(map[int]int)}
	n.flowsFD, n.countersFD, adopted.Admissions = next(), next(), next()
	tapsFD, tellsFD := next(), next()
	if in.setup.Memo != nil {
		adopted.MemoEntries, adopted.MemoRoutes, adopted.MemoCounts = next(), next(), next()
		adopted.MemoSeed = in.setup.Memo.Seed
	}
	var err error
	if in.setup.Listens {
		if n.listener, err = ipc.InheritListener(next()); err != nil {
			return err
		}
	}
	for _, name := range in.setup.Held {
		if fd := next(); name == heldMulticast {
			n.multicastFD = fd
		} else {
			unix.Close(fd)
		}
	}
	in.shared = nil
	if n.flowTable, err = openFlowTable(n.flowsFD, n.cfg.Dataplane.FlowTableSize); err != nil {
		return err
	}
	if err := errors.Join(n.taps.adopt(tapsFD, in.setup.Workers), n.tells.adopt(tellsFD, in.setup.Workers)); err != nil {
		return err
	}
	for i := range in.workers {
		for _, q := range in.workers[i].Queues {
			if q.Account >= 0 {
				adopted.Places[q.IfIndex] = q.Account / steer.MaxQueues
			}
		}
	}
	if n.steer, n.memoSeed, err = openSteer(n.cfg, &adopted, n.log); err != nil {
		return err
	}
	if (n.memoSetup() == nil) != (in.setup.Memo == nil) {
		return errors.New("the flow memos of the running data process are not those of the configuration")
	}
	if err := n.adoptCounters(in.setup.Workers); err != nil {
		return err
	}
	if err := n.adoptWorkers(in); err != nil {
		return err
	}
	if err := n.adoptImage(in, left); err != nil {
		return err
	}
	n.data, in.data = in.data, nil
	if err := n.steerTo(); err != nil {
		return err
	}
	if n.data != nil {
		n.kept = true
		n.keepAll()
	}
	return nil
}

func (n *Node) adoptCounters(workers int) error {
	size := ipc.CountersSize(workers, maxServices, maxBackends)
	mapping, err := mapMemfd(n.countersFD, size)
	if err != nil {
		return err
	}
	counters, err := ipc.MapCounters(mapping, workers, maxServices, maxBackends)
	if err != nil {
		return errors.Join(err, unix.Munmap(mapping))
	}
	n.counters, n.mapping = counters, mapping
	return nil
}

func (n *Node) adoptWorkers(in *inherited) error {
	for i := range in.workers {
		setup, fds := &in.workers[i], in.sockets[i]
		w := &workerSockets{sockets: make([]*xdp.Socket, len(setup.Queues))}
		n.workers, in.sockets[i] = append(n.workers, w), nil
		var err error
		w.umem, err = xdp.MapUMEM(fds[0], xdp.UMEMConfig{Chunks: setup.Chunks, ChunkSize: setup.ChunkSize, Headroom: setup.Headroom, HugePages: setup.HugePages})
		if err != nil {
			return err
		}
		for k, q := range setup.Queues {
			w.queues = append(w.queues, queueOf{int(q.Port), q.Queue})
			w.sockets[k], err = xdp.AdoptSocket(fds[1+k], xdp.Geometry{
				Port: uint16(k), IfIndex: q.IfIndex, Queue: q.Queue,
				RXSize: q.RXSize, TXSize: q.TXSize, FillSize: q.FillSize, CompletionSize: q.CompSize,
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// adoptImage takes the image in force, and has the reconciler go on from it.
func (n *Node) adoptImage(in *inherited, left []byte) error {
	mapped, err := fib.MapImage(in.image)
	if err != nil {
		return err
	}
	snapshot, err := mapped.Open()
	if err != nil {
		return errors.Join(err, mapped.Close())
	}
	n.image = image{
		generation: in.generation, snapshot: snapshot, locals: localsIn(snapshot), viewed: new([2]sync.RWMutex),
		left: &leftImage{mapped: mapped, fd: in.image, size: in.imageSize},
	}
	in.image = 0
	if have := snapshot.Generation(); have != in.generation {
		return fmt.Errorf("the image of generation %d has generation %d", in.generation, have)
	}
	resumed := controlplane.Resumed{Generation: in.generation, Found: compile.Recover(snapshot)}
	if left != nil {
		n.ownership.continued = true
		var knew knowledge
		if err := json.Unmarshal(left, &knew); err != nil {
			return fmt.Errorf("what the control process before knew: %w", err)
		}
		resumed.Deadlines = knew.Draining
	}
	n.reconciler.Resume(resumed)
	n.recallHealth(verdictsIn(snapshot, time.Now()))
	return nil
}

// localsIn are the addresses of an image, as the XDP program is told of them.
func localsIn(s *fib.Snapshot) (list []steer.Local) {
	s.Locals(func(l *fib.Local) bool {
		list = append(list, steerLocal(l))
		return true
	})
	return list
}

// Adopted reports whether the node goes on with a data process that was there
// before it.
func (n *Node) Adopted() bool { return n.adopted }

// knowledge is what a control process that leaves knows, and nobody finds out by
// looking at the data process.
type knowledge struct {
	Draining []controlplane.Deadline `json:"draining,omitempty"`
}

// Leave closes everything that this process holds and leaves the data process
// as it is: it goes on, and the next control process finds it. What it returns
// is for that one's Options.
func (n *Node) Leave() (left []byte, err error) {
	left, err = json.Marshal(knowledge{n.reconciler.Deadlines()})
	return left, errors.Join(err, n.leave())
}

func (n *Node) leave() error {
	errs := []error{n.closeCluster(false)}
	if n.announce != nil {
		errs = append(errs, n.LeaveBGP())
	}
	if n.checks != nil {
		errs = append(errs, n.checks.checker.Close())
	}
	if n.observer != nil {
		errs = append(errs, n.observer.watcher.Close())
	}
	if n.ownership.announcer != nil {
		errs = append(errs, n.ownership.announcer.Close())
	}
	n.mu.Lock()
	n.closed = true
	n.dropSpare()
	n.mu.Unlock()
	n.background.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dropSpare()
	if n.data != nil {
		n.data.leave()
		n.data = nil
	}
	if n.steer != nil {
		errs = append(errs, n.steer.Close())
	}
	return errors.Join(append(errs, n.closeShared())...)
}
