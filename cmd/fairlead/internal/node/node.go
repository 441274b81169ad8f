// Package node wires the control process of `fairlead run`: it opens what
// needs privileges, keeps every descriptor, and sees to it that a data process
// forwards by the latest image.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/configs"
	"fairlead/controlplane"
	"fairlead/controlplane/health"
	"fairlead/controlplane/model"
	"fairlead/controlplane/serving"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/ipc"
	"fairlead/dataplane/ledger"
	"fairlead/xdp/steer"
)

// Slots that there are counters for. The memory is sparse: what no service or
// backend uses costs nothing.
const (
	maxServices = 1 << 17
	maxBackends = 1 << 21
)

// Node is the control process.
type Node struct {
	cfg        *configs.Config
	log        *slog.Logger
	reconciler *controlplane.Reconciler
	serving    *serving.Keeper
	desired    *Desired // nil when the node has only what it was made with
	served     listeners
	observer   *observer                           // nil before Start
	checks     *checks                             // nil before Start
	recalled   map[model.BackendKey]health.Verdict // of the process before this one, until the first targets are set
	announce   *announcer
	cluster    *clustered // nil when the node is alone
	divided    *divided   // health checks, in a cluster; nil when the node is alone
	facts      facts
	flowing    *flowing    // what nodes tell each other of flows; nil when the node is alone
	kubernetes *kubernetes // nil when the node serves no Kubernetes cluster
	steer      *steer.Steer
	memoSeed   [2]uint64 // of the flow memos in the kernel
	user       account
	started    time.Time

	listener            *ipc.Listener // by which the next control process finds the data process; nil: there is none
	keeper              Keeper
	kept                bool // the keeper has the present sockets; guarded by mu
	working             func()
	background          sync.WaitGroup
	owner               bool // of the interfaces: it has, or has had, their sockets
	adopted             bool // it has taken over a data process that was there before
	flowsFD, countersFD int
	multicastFD         int
	restartDelay        time.Duration // before the next data process is started; Run's own
	reviveNext          time.Time     // when it is started; Run's own
	look                chan struct{} // tells Run to look at the interfaces
	ownership           ownership
	lookedAt            lookedAt

	profiling sync.Mutex // held while a profile is recorded
	flowGauge flowGauge
	taps      *taps      // who looks at packets
	tells     *Tells     // of flows, to peers and by them
	flowTable *flowTable // for those who look at flows
	upgrading sync.Mutex // held while the data process is replaced on purpose

	mu       sync.Mutex // guards what follows
	ports    []port
	workers  []*workerSockets
	counters *ipc.Counters
	mapping  []byte        // of the counters
	past     ledger.Ledger // of workers of earlier layouts
	image    image
	data     *dataProcess // nil when none forwards: before the start, after a death, while interfaces are bound anew
	used     bool         // a data process has used the sockets
	diedAt   time.Time
	died     bool // the last data process ended by itself
	suspect  bool // no data process could be started with the sockets
	restarts int
	watch    *watchdog // Run's; nil before
	upgrades int       // times that the data process was replaced by another on purpose

	spare      *dataProcess // stands by; nil when there is none
	sparing    bool         // one is being started
	spareDelay time.Duration
	spareNext  time.Time // the next one is not started before
	sparesUsed time.Time // a second ahead for each that was used
	closed     bool

	portsMissing bool // an interface was not there when last looked
}

// Options are what the command line says of a node.
type Options struct {
	// Rest is the path of the socket by which a data process is found whose
	// control process is gone; "": it ends with its control process.
	Rest string
	// Keeper keeps descriptors in case both processes die; nil: nobody does. Kept
	// is what it had kept when this process began, by name.
	Keeper Keeper
	Kept   map[string]int
	// Working is called again and again while the node does what it is for; it
	// may be nil.
	Working func()
	// Left is what Leave has returned in the process before; nil: there was none.
	Left []byte
}

// New opens interfaces, sockets and memory, or goes on with those of a data
// process that forwards without a control process. It does not forward before
// Start, unless that process does.
func New(cfg *configs.Config, opts Options, log *slog.Logger) (n *Node, err error) {
	n = &Node{cfg: cfg, log: log, started: time.Now(), flowsFD: -1, countersFD: -1, multicastFD: -1, look: make(chan struct{}, 1), taps: newTaps(log), tells: &Tells{fd: -1}, keeper: opts.Keeper, working: opts.Working}
	n.reconciler = controlplane.New(n)
	n.serving = serving.New(n.reconciler, time.Now, n.served.tell)
	n.kubernetes = newKubernetes(&cfg.Kubernetes)
	if n.user, err = lookAccount(cfg.Dataplane.User); err != nil {
		return n, err
	}
	in, err := n.findInherited(opts)
	if err != nil {
		return n, err
	}
	if in != nil {
		pid := in.pid()
		if err := n.adopt(in, opts.Left); err != nil {
			in.release()
			return n, errors.Join(fmt.Errorf("the data process that runs (pid %d) cannot be taken over, and goes on: %w", pid, err), n.leave())
		}
		n.adopted, n.owner = true, true
		if n.announce, err = newAnnouncer(n); err != nil {
			return n, errors.Join(err, n.leave())
		}
		if err := n.openCluster(); err != nil {
			return n, errors.Join(err, n.leave())
		}
		n.log.Info("the running data process is taken over", "pid", pid, "generation", n.image.generation, "workers", len(n.workers))
		if n.listener == nil && opts.Rest != "" { // there was none to keep
			if n.listener, err = ipc.Listen(opts.Rest); err != nil {
				return n, errors.Join(err, n.leave())
			}
		}
		return n, nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if opts.Rest != "" {
		if n.listener, err = ipc.Listen(opts.Rest); err != nil {
			return n, err
		}
	}
	if n.steer, n.memoSeed, err = openSteer(cfg, nil, log); err != nil {
		return n, err
	}
	if n.flowsFD, err = memfd("fairlead-flows", flow.Size(cfg.Dataplane.FlowTableSize)); err != nil {
		return n, err
	}
	if n.flowTable, err = openFlowTable(n.flowsFD, cfg.Dataplane.FlowTableSize); err != nil {
		return n, err
	}
	if n.ports, err = lookPorts(cfg); err != nil {
		return n, err
	}
	if n.announce, err = newAnnouncer(n); err != nil {
		return n, err
	}
	if err := n.openCluster(); err != nil {
		return n, err
	}
	return n, n.open()
}

// findInherited finds what a control process before has left and this one can go
// on with. What it cannot go on with is ended, so that the node starts anew.
func (n *Node) findInherited(opts Options) (*inherited, error) {
	if opts.Rest == "" {
		return nil, nil
	}
	in, err := inherit(opts.Rest, n.log)
	if err != nil {
		return nil, err
	}
	if in != nil {
		closeKept(opts.Kept) // the same, once more
	} else if in, err = inheritKept(opts.Kept); err != nil {
		n.log.Error("nothing is gone on with", "error", err)
	}
	if in == nil {
		return nil, nil
	}
	ports, err := lookPorts(n.cfg)
	if err == nil {
		err = in.fits(n.cfg, ports)
	}
	if err == nil {
		n.ports = ports
		return in, nil
	}
	n.log.Warn("the running data process does not fit the configuration; it is ended and all connections are lost", "pid", in.pid(), "reason", err)
	if in.data != nil {
		in.data.stop()
	}
	in.release()
	return nil, nil
}

// lookPorts looks at all interfaces. What the error tells of is in the list
// without a number and without queues.
func lookPorts(cfg *configs.Config) ([]port, error) {
	if len(cfg.Interfaces) == 0 {
		return nil, errors.New("no interface is configured: name at least one in [[interface]]")
	}
	ports := make([]port, len(cfg.Interfaces))
	var errs []error
	for i, want := range cfg.Interfaces {
		var err error
		if ports[i], err = lookPort(want, &cfg.Dataplane); err != nil {
			ports[i] = port{Interface: want}
			errs = append(errs, err)
		}
	}
	return ports, errors.Join(errs...)
}

// open opens the sockets of every worker, makes counters for them, and
// attaches the steering program.
func (n *Node) open() error {
	n.used = false
	count := workersFor(n.ports)
	if count == 0 {
		return errors.New("none of the interfaces is there")
	}
	for w := range count {
		sockets, err := openWorker(&n.cfg.Dataplane, n.ports, queuesOf(n.ports, w, count), n.log)
		if err != nil {
			return fmt.Errorf("worker %d: %w", w, err)
		}
		n.workers = append(n.workers, sockets)
	}
	n.owner = true
	if err := n.makeCounters(count); err != nil {
		return err
	}
	if err := errors.Join(n.taps.make(count), n.tells.make(count)); err != nil {
		return err
	}
	if n.multicastFD >= 0 {
		unix.Close(n.multicastFD)
	}
	var err error
	if n.multicastFD, err = hearMulticast(n.ports); err != nil {
		return err
	}
	return n.steerTo()
}

// steerTo attaches the steering program to the interfaces and gives it the
// sockets. What is there already is replaced without a gap.
func (n *Node) steerTo() error {
	for i := range n.ports {
		p := &n.ports[i]
		if p.index == 0 {
			continue
		}
		n.steer.SetMemoOptions(p.index, n.memoOptions(i))
		a, err := n.steer.Attach(p.index, p.Name, steer.Mode(p.XDPMode))
		if err != nil {
			return err
		}
		n.log.Info("XDP program attached", "interface", p.Name, "mode", a.Mode, "frags", a.Frags, "adopted", a.Adopted, "reason", a.Reason)
	}
	stale, err := n.steer.DetachStale()
	if err != nil {
		n.log.Warn("stale XDP programs were not all detached", "error", err)
	} else if len(stale) > 0 {
		n.log.Info("stale XDP programs detached", "interfaces", stale)
	}
	for _, w := range n.workers {
		for i, s := range w.sockets {
			if err := n.steer.SetSocket(n.ports[w.queues[i].port].index, w.queues[i].queue, s.FD()); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeCounters makes counters for so many workers. What workers of another
// layout have counted is kept: their ledgers in past, the tallies of services
// and backends with the first of the new workers.
func (n *Node) makeCounters(workers int) error {
	if n.counters != nil && len(n.counters.Workers) == workers {
		return nil
	}
	size := ipc.CountersSize(workers, maxServices, maxBackends)
	fd, err := memfd("fairlead-counters", size)
	if err != nil {
		return err
	}
	mapping, err := mapMemfd(fd, size)
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	counters, err := ipc.MapCounters(mapping, workers, maxServices, maxBackends)
	if err != nil {
		return errors.Join(err, unix.Munmap(mapping), unix.Close(fd))
	}
	if old := n.counters; old != nil {
		for i := range old.Workers {
			old.Workers[i].Ledger.Close()
		}
		total := old.Total()
		n.past.Add(&total)
		heir := &counters.Workers[0]
		for slot := range n.image.snapshot.Services() {
			heir.Services[slot] = old.Service(uint32(slot))
		}
		for slot := range n.image.snapshot.Backends() {
			heir.Backends[slot] = old.Backend(uint32(slot))
		}
		n.image.unviewed()
		if err := errors.Join(unix.Munmap(n.mapping), unix.Close(n.countersFD)); err != nil {
			n.log.Warn("counters of earlier workers", "error", err)
		}
	}
	n.counters, n.mapping, n.countersFD = counters, mapping, fd
	return nil
}

// Run serves until ctx ends. The first image is already published by Start.
func (n *Node) Run(ctx context.Context) error {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	watch := n.newWatchdog()
	for {
		var exited <-chan struct{}
		var revive <-chan time.Time
		data := n.forwarding()
		if data != nil {
			exited = data.exited
		} else {
			revive = n.reviveAt()
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-n.clusterFailed():
			return err
		case <-exited:
			n.bury(data)
		case <-revive:
			n.revive()
		case <-n.look:
			n.checkPorts()
		case <-ticker.C:
			n.tick(watch)
		}
	}
}

// Start publishes the first image, when the ways to the backends are known, and
// starts forwarding. Where a data process forwards already, it goes on by the
// image it has until then, and is replaced if it ends.
func (n *Node) Start(ctx context.Context) error {
	n.mu.Lock()
	if n.image.snapshot != nil && n.data == nil {
		// Both processes have died, and this one was left everything. What it
		// does not know yet can wait.
		n.died, n.diedAt = true, time.Now()
		if err := n.startData(); err != nil {
			n.log.Error("data process does not start", "error", err)
		}
	}
	n.mu.Unlock()
	observed := make(chan error, 1)
	go func() { observed <- n.observe(ctx) }()
	for {
		var exited <-chan struct{}
		data := n.forwarding()
		if data != nil {
			exited = data.exited
		}
		select {
		case err := <-observed:
			if err != nil {
				return err
			}
			if err := n.startUnlessForwarding(); err != nil {
				return err
			}
			if err := n.startAnnouncing(ctx); err != nil {
				return err
			}
			return n.joinCluster(ctx)
		case <-exited:
			n.bury(data)
			n.revive()
		}
	}
}

func (n *Node) startUnlessForwarding() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.data != nil {
		return nil
	}
	return n.startData()
}

// Apply makes another configuration's services, pools, VIPs, SNAT addresses and
// static neighbours the desired state, with what operators have set of backends,
// and its [bgp] the one to go by. What else belongs to the node itself stays as
// it was started. On an error nothing has changed.
func (n *Node) Apply(cfg *configs.Config, settings []model.BackendSetting) (changed bool, err error) {
	spoken, undo, err := n.announce.configure(cfg.BGP)
	if err != nil {
		return false, err
	}
	if changed, err = n.observer.apply(cfg, settings); err != nil {
		undo()
		return false, err
	}
	return changed || spoken, nil
}

// Reconciler takes changes of the desired state and of observations.
func (n *Node) Reconciler() *controlplane.Reconciler { return n.reconciler }

// startData starts a data process with the current image and begins to steer
// packets to it. When an earlier one has used the same sockets, it goes on where
// that one stopped.
func (n *Node) startData() error {
	n.suspect = true
	e, err := n.estate()
	if err != nil {
		return err
	}
	d, err := spawn(thisBinary, n.user, n.log)
	if err != nil {
		return err
	}
	if err = d.hand(e); err == nil {
		err = d.awaitWarm()
	}
	if err == nil {
		err = d.take()
	}
	if err != nil {
		return errors.Join(err, d.kill())
	}
	n.data = d
	return n.begun()
}

// begun notes that a data process has begun to forward.
func (n *Node) begun() error {
	d := n.data
	n.used, n.suspect = true, false
	pause := time.Duration(0)
	if n.died {
		n.died = false
		n.restarts++
		pause = time.Since(n.diedAt)
	}
	n.log.Info("data process forwards", "pid", d.ready.PID, "uid", d.ready.UID, "generation", d.ready.Generation,
		"workers", len(n.workers), "recovered_frames", d.ready.Recovered, "lost_frames", d.ready.Lost,
		"took", time.Duration(d.ready.TookUS)*time.Microsecond, "pause", pause)
	if _, _, err := n.steer.SetLocals(n.owned(n.image.locals)); err != nil {
		return err
	}
	if !d.rests {
		n.pair()
	}
	if !n.kept {
		n.kept = true
		n.keepAll()
	}
	return nil
}

// describe is what the data process must know of worker w.
func (n *Node) describe(w int) ipc.WorkerSetup {
	cfg := n.workers[w].umem.Config()
	s := ipc.WorkerSetup{Index: w, CPU: -1, Chunks: cfg.Chunks, ChunkSize: cfg.ChunkSize, Headroom: cfg.Headroom, HugePages: cfg.HugePages}
	if cpus := n.cfg.Dataplane.CPUs; len(cpus) > 0 {
		s.CPU = cpus[w%len(cpus)]
	}
	for i, socket := range n.workers[w].sockets {
		q, g := n.workers[w].queues[i], socket.Geometry()
		account, ok := n.steer.Admission(g.IfIndex, g.Queue)
		if !ok {
			account = -1
		}
		s.Queues = append(s.Queues, ipc.Queue{
			Port: uint16(q.port), Name: queueName(&n.ports[q.port], q.queue), IfIndex: g.IfIndex, Queue: g.Queue,
			FillSize: g.FillSize, CompSize: g.CompletionSize, RXSize: g.RXSize, TXSize: g.TXSize,
			Account: account,
		})
	}
	return s
}

// Close stops the data process and gives everything back: from then on the
// host's own stack gets all packets again.
func (n *Node) Close() error {
	errs := []error{n.closeCluster(true)}
	if n.announce != nil {
		errs = append(errs, n.announce.close())
	}
	if n.checks != nil {
		errs = append(errs, n.checks.checker.Close()) // not under the lock, which its last words may need
	}
	if n.observer != nil {
		errs = append(errs, n.observer.watcher.Close()) // neither
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
	n.forgetAll()
	switch {
	case n.steer == nil:
	case n.owner:
		errs = append(errs, n.steer.Remove())
	default: // what is attached and pinned belongs to somebody else
		errs = append(errs, n.steer.Close())
	}
	if n.data != nil {
		n.data.stop()
		n.data = nil
	}
	return errors.Join(append(errs, n.closeShared())...)
}

// closeShared closes this process's descriptors and mappings of what it shares
// with the data process. The lock is held.
func (n *Node) closeShared() error {
	var errs []error
	for _, w := range n.workers {
		errs = append(errs, w.close())
	}
	n.workers = nil
	n.image.unviewed()
	if n.mapping != nil {
		errs = append(errs, unix.Munmap(n.mapping))
		n.mapping = nil
	}
	for _, fd := range []int{n.flowsFD, n.countersFD, n.multicastFD} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	n.flowsFD, n.countersFD, n.multicastFD = -1, -1, -1
	if n.listener != nil {
		errs = append(errs, n.listener.Close())
		n.listener = nil
	}
	errs = append(errs, n.taps.close(), n.tells.close(), n.flowTable.close(), n.image.close())
	n.image = image{}
	return errors.Join(errs...)
}
