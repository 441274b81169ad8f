package node

import (
	"sync/atomic"
	"time"

	"fairlead/controlplane/metrics"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/ledger"
	"fairlead/dataplane/reason"
)

var (
	_ metrics.Source        = (*Node)(nil)
	_ metrics.ControlSource = (*Node)(nil)
)

// DataProcess implements metrics.Source.
func (n *Node) DataProcess() int {
	if data := n.forwarding(); data != nil {
		return data.ready.PID
	}
	return 0
}

// Metrics implements metrics.Source.
func (n *Node) Metrics() *metrics.Node {
	r := n.reconciler.Status()
	m := &metrics.Node{
		Name: n.cfg.Node.Name, Version: Version, Published: r.Generation, LastBuild: r.Took, Draining: r.Draining,
		Builds: []metrics.Builds{
			{Kind: "full", Count: r.Full.Count, Time: r.Full.Time}, {Kind: "patch", Count: r.Patches.Count, Time: r.Patches.Time},
		},
		FlowCapacity: n.cfg.Dataplane.FlowTableSize,
	}
	m.NextHops, m.Unresolved = n.nextHops()
	if c := n.recentFlows(); c != nil {
		m.Flows = make(map[string]uint64, len(c.States))
		for state, flows := range c.States {
			m.Flows[state.String()] = flows
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	m.DataRunning, m.DataRestarts = n.data != nil, n.restarts
	if n.image.snapshot != nil {
		m.ImageBytes = n.image.snapshot.Used()
	}
	m.Interfaces = n.interfaceMetrics()
	for w := range n.workers {
		m.Queues = append(m.Queues, n.queueMetrics(w)...)
	}
	if n.counters != nil {
		n.ledgerMetrics(m)
	}
	return m
}

// nextHops counts the ways in the image in force.
func (n *Node) nextHops() (all, unresolved int) {
	v := n.view()
	if v == nil {
		return 0, 0
	}
	defer v.close()
	hops := v.snapshot.NextHops()
	for i := range hops {
		if hops[i].Resolved == 0 {
			unresolved++
		}
	}
	return len(hops), unresolved
}

// ledgerMetrics takes the ledger and what is known of the workers.
func (n *Node) ledgerMetrics(m *metrics.Node) {
	var total ledger.Ledger
	m.Acknowledged = ^uint64(0)
	for i := range n.counters.Workers {
		one := settledLedger(n.counters.Workers[i].Ledger)
		total.Add(&one)
		m.Acknowledged = min(m.Acknowledged, one.Generation)
		m.Workers = append(m.Workers, n.workerMetrics(i, &one))
	}
	m.Ledger.MemoUser = total.ByMemo
	kernel := settledLedger(n.counters.Kernel.Ledger)
	m.Ledger.MemoKernel = kernel.Received
	total.Add(&kernel)
	m.Ledger.MemoUser += n.past.ByMemo
	total.Add(&n.past)

	l := &m.Ledger
	l.Received, l.Created, l.InFlight = total.Received, total.Created, total.InFlight
	l.BytesReceived, l.BytesSent, l.Stateless = total.Bytes, total.BytesSent, total.Stateless
	l.Ended = make([]metrics.Ended, 0, reason.Count)
	for _, r := range reason.All() {
		l.Ended = append(l.Ended, metrics.Ended{Action: r.Action().String(), Reason: r.String(), Frames: total.Ended[r]})
	}
	l.Difference = imbalance(&total)
}

// imbalance is how many frames a ledger misses.
func imbalance(l *ledger.Ledger) int64 {
	return int64(l.Received + l.Created - l.Sum(reason.Transmit) - l.Sum(reason.Pass) - l.Sum(reason.Drop) - l.InFlight)
}

// ledgerLooks is how often a ledger that does not balance is looked at again: its
// worker may be in the middle of a batch, which takes microseconds.
const ledgerLooks = 64

// settledLedger copies a worker's ledger at a moment when it balances, or, when
// there is none, as it is.
func settledLedger(shared *ledger.Ledger) ledger.Ledger {
	var l ledger.Ledger
	for look := range ledgerLooks {
		before := atomic.LoadUint64(&shared.Beat)
		l = *shared
		if atomic.LoadUint64(&shared.Beat) == before && imbalance(&l) == 0 {
			break
		}
		if look >= ledgerLooks*3/4 {
			time.Sleep(20 * time.Microsecond)
		}
	}
	return l
}

func (n *Node) workerMetrics(i int, l *ledger.Ledger) metrics.Worker {
	w := metrics.Worker{
		Received: l.Received, Transmitted: l.Sum(reason.Transmit), Passed: l.Sum(reason.Pass), Dropped: l.Sum(reason.Drop),
		Rounds: l.Beat, BeatAge: -1,
	}
	if n.watch != nil && i < len(n.watch.still) && n.data != nil {
		w.BeatAge = n.watch.still[i]
	}
	if i < len(n.workers) {
		h := n.workers[i].umem.Holding()
		w.Own, w.Receive, w.Send = h.Worker, h.Receive, h.Send
	}
	return w
}

// interfaceMetrics are the interfaces with the counters of their XDP programs.
func (n *Node) interfaceMetrics() []metrics.Interface {
	counted, err := n.steer.Counters()
	if err != nil {
		n.log.Warn("counters of the XDP program", "error", err)
	}
	list := make([]metrics.Interface, len(n.ports))
	for i := range n.ports {
		list[i] = metrics.Interface{Name: n.ports[i].Name, Up: n.ports[i].index != 0 && n.ports[i].up}
		for _, c := range counted {
			if c.IfIndex == n.ports[i].index {
				list[i].Outcomes = []metrics.Outcome{
					{Name: "passed", Frames: c.Passed}, {Name: "redirected", Frames: c.Redirected},
					{Name: "fail_dropped", Frames: c.FailDropped}, {Name: "fail_passed", Frames: c.FailPassed},
					{Name: "denied", Frames: c.Denied}, {Name: "oversize", Frames: c.Oversize},
					{Name: "memo", Frames: c.Memo}, {Name: "shed", Frames: c.Shed},
				}
			}
		}
	}
	return list
}

// queueMetrics are the sockets of one worker.
func (n *Node) queueMetrics(w int) []metrics.Queue {
	var list []metrics.Queue
	for i, s := range n.workers[w].sockets {
		if s == nil {
			continue
		}
		at := n.workers[w].queues[i]
		q := metrics.Queue{Interface: n.ports[at.port].Name, Queue: at.queue, Worker: w, ZeroCopy: s.Facts().ZeroCopy}
		used, err := s.Occupancy()
		if err == nil {
			g := s.Geometry()
			q.Rings = [4]metrics.Ring{{Used: used.RX, Size: g.RXSize}, {Used: used.TX, Size: g.TXSize},
				{Used: used.Fill, Size: g.FillSize}, {Used: used.Completion, Size: g.CompletionSize}}
		}
		k, err2 := s.Statistics()
		q.RXDropped, q.RXRingFull, q.RXInvalid, q.TXInvalid, q.FillRingEmpty = k.RXDropped, k.RXRingFull, k.RXInvalid, k.TXInvalid, k.FillRingEmpty
		if q.Known = err == nil && err2 == nil; !q.Known {
			n.log.Debug("a socket cannot be looked at", "interface", q.Interface, "queue", q.Queue, "error", err, "statistics_error", err2)
		}
		list = append(list, q)
	}
	return list
}

// MetricServices implements metrics.Source.
func (n *Node) MetricServices(f func(*metrics.Service)) {
	flows := n.recentFlows()
	seen := map[string]bool{} // slots may change their owners between two looks
	for first, more := 0, true; more; first += servicesAtOnce {
		more = n.lookAt(first, func(v *view, svc *fib.Service) {
			s := v.metricService(svc, flows)
			if !seen[s.Name] {
				seen[s.Name] = true
				f(&s)
			}
		})
	}
}

func (v *view) metricService(svc *fib.Service, flows *FlowCounts) metrics.Service {
	snap := v.snapshot
	return metrics.Service{
		Name: snap.Name(svc.Name), VIP: snap.LocalByID(svc.Local).Addr.String(), Protocol: protocolName(svc.Proto), Ports: portsText(svc),
		Pool: snap.Name(snap.Pool(svc.Pool).Name), Method: svc.Method.String(), Tally: metricTally(v.counters.Service(svc.ID.Slot())),
		ActiveFlows: flows.ofService(svc.ID),
	}
}

func metricTally(t ledger.Tally) metrics.Tally {
	return metrics.Tally{Packets: t.Packets, Bytes: t.Bytes, NewFlows: t.Flows, Drops: t.Drops}
}

// MetricPools implements metrics.Source.
func (n *Node) MetricPools(backends bool, f func(*metrics.Pool)) {
	seen := map[string]bool{} // pools may change their places between two looks
	var p metrics.Pool
	var flows *FlowCounts
	if backends {
		flows = n.recentFlows()
	}
	for i := 0; n.lookAtPool(i, backends, flows, &p); i++ {
		if p.Name != "" && !seen[p.Name] {
			seen[p.Name] = true
			f(&p)
		}
	}
}

// lookAtPool fills p with a pool, whose name is empty when its place is not
// used; it reports whether there is such a place.
func (n *Node) lookAtPool(i int, backends bool, flows *FlowCounts, p *metrics.Pool) bool {
	v := n.view()
	if v == nil {
		return false
	}
	defer v.close()
	snap := v.snapshot
	if i >= len(snap.Pools()) {
		return false
	}
	pool := snap.Pool(uint32(i))
	*p = metrics.Pool{Name: snap.Name(pool.Name), Backends: p.Backends[:0]}
	draining := false
	for _, slot := range snap.Members(pool) {
		b := snap.Backend(slot)
		state := metricStates[v.state(b)]
		p.States[state]++
		if !backends {
			continue
		}
		draining = draining || state == metrics.StateDraining
		one := metrics.Backend{
			Name: snap.BackendName(b), State: state, Weight: b.Weight, Tally: metricTally(v.counters.Backend(slot)),
			ActiveFlows: flows.ofBackend(b.ID), Check: n.checks.metricCheck(p.Name, b),
		}
		p.Backends = append(p.Backends, one)
	}
	if draining {
		p.Backends = oncePerName(p.Backends)
	}
	return true
}

// oncePerName adds up backends of one name: one that drains may have left it to
// its successor, which comes before it.
func oncePerName(list []metrics.Backend) []metrics.Backend {
	at := make(map[string]int, len(list))
	out := list[:0]
	for _, b := range list {
		i, there := at[b.Name]
		if !there {
			at[b.Name] = len(out)
			out = append(out, b)
			continue
		}
		o := &out[i]
		o.Packets, o.Bytes, o.NewFlows, o.Drops = o.Packets+b.Packets, o.Bytes+b.Bytes, o.NewFlows+b.NewFlows, o.Drops+b.Drops
		if o.ActiveFlows != nil && b.ActiveFlows != nil {
			*o.ActiveFlows += *b.ActiveFlows
		}
	}
	return out
}

// metricStates are the states of backends as the status names them.
var metricStates = map[string]metrics.State{
	"up": metrics.StateUp, "down": metrics.StateDown, "draining": metrics.StateDraining, "unresolved": metrics.StateUnresolved,
}
