package dataplane

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/ledger"
	"fairlead/dataplane/memo"
	"fairlead/dataplane/nic"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
	"fairlead/dataplane/rewrite"
	"fairlead/dataplane/tap"
	"fairlead/dataplane/tell"
)

// Config is what a worker works with. All of it is required unless it says
// otherwise.
type Config struct {
	Pool      *nic.Pool
	Queues    []PortQueue // at least one for each port it is to send on
	Waiter    nic.Waiter  // optional: how an idle worker sleeps; without it Run spins
	Flows     *flow.Table
	Index     int // which of the flow table's workers this is
	Snapshots *Publisher
	Memos     *memo.Table // optional: verdicts remembered for the plain packets of established flows
	Counters  ledger.Counters
	Clock     func() flow.Time
	HoldMost  int // fragments it may ever hold; the snapshot's setting applies below that

	// Spin is how long an idle worker goes on polling before it sleeps.
	Spin time.Duration

	// PassToHost says that a verdict to pass can be carried out by leaving the
	// frame alone, as in replay. On a live queue the XDP program has passed
	// the host's packets already; what still comes up is StaleSteering.
	PassToHost bool

	// Trace, if not nil, is told how each frame's journey ended, by the
	// address of its chunk, before the frame is sent or freed.
	Trace func(chunk uint64, v Verdict)

	// Tells, if not nil, is how peers of the node are told of flows, and tell.
	Tells *tell.Worker

	// Taps, if not nil, is shown the packets that somebody wants to see.
	Taps *tap.Writer
}

// PortQueue is one queue of one port. A worker has the same queue number of
// every interface, and further ones where an interface has more queues than
// there are workers.
type PortQueue struct {
	Port  uint16
	Queue nic.Queue
}

// Worker forwards the frames of one queue of every interface. It belongs to
// one goroutine.
type Worker struct {
	Config
	flows *flow.Worker
	frags *fragments

	snapshot *fib.Snapshot
	snat4    []flow.PortRange // of the snapshot, for Bind
	snat6    []flow.PortRange
	timeouts []flowTimeouts // by fib.Service.Timeouts

	now     flow.Time
	answers limiter
	tapped  bool      // somebody wants to see packets
	watched bool      // tapped, or there is a Trace
	queue   uint16    // the queue that the batch came from
	at      int       // the place in its batch of the packet in hand
	memo    memo.Memo // of the packet in hand
	ways    wayCache
	ifIndex [nic.MaxPorts]uint32 // of the snapshot's interfaces

	renewed  flow.Time // when memos were last looked at
	renewAt  int       // and which come next
	renewOne func(*memo.Key, uint32)

	entropy uint32 // counts tunnel packets that may be fragmented on the way: their IP identification
	nat     rewrite.NATArgs
	via     [6]byte   // where the packet in hand goes back to
	hash    uint64    // of the packet in hand: the flow table's, and the entropy of its tunnel
	found   flow.Flow // the flow the packet in hand belongs to
	sticky  flow.Flow // its client's session affinity record
	created flow.Flow // the flow it opens
	told    flow.Flow // the flow that a peer has told of
	main    batch
	out     [nic.MaxPorts]outgoing
	tx      [nic.MaxPorts]nic.Queue // the queue a port is sent on by, nil when it has none
	missing [nic.MaxQueues]int      // chunks to put into the fill ring, by queue
	addrs   [nic.BatchSize]uint64
	stop    atomic.Bool
}

// flowTimeouts are one fib.Timeouts as the flow table wants them.
type flowTimeouts struct {
	tcp, udp, sctp flow.Timeouts
}

func (t *flowTimeouts) of(proto uint8) *flow.Timeouts {
	switch proto {
	case packet.ProtoTCP:
		return &t.tcp
	case packet.ProtoSCTP:
		return &t.sctp
	}
	return &t.udp
}

// NewWorker makes a worker that is ready to Step or Run.
func NewWorker(cfg Config) (*Worker, error) {
	switch {
	case cfg.Pool == nil || cfg.Flows == nil || cfg.Snapshots == nil || cfg.Clock == nil || cfg.Counters.Ledger == nil:
		return nil, errors.New("worker: a pool, a flow table, a publisher, a clock and counters are required")
	case len(cfg.Queues) == 0 || len(cfg.Queues) > nic.MaxQueues:
		return nil, fmt.Errorf("worker: %d queues, 1 to %d are possible", len(cfg.Queues), nic.MaxQueues)
	}
	w := &Worker{Config: cfg, flows: cfg.Flows.Worker(cfg.Index), frags: newFragments(cfg.HoldMost)}
	for i, q := range cfg.Queues {
		if q.Queue == nil || q.Port >= nic.MaxPorts {
			return nil, fmt.Errorf("worker: queue %d has no queue or port %d, which is beyond %d", i, q.Port, nic.MaxPorts-1)
		}
		if w.tx[q.Port] == nil {
			w.tx[q.Port] = q.Queue
		}
		w.missing[i] = (cfg.Pool.Chunks() - spare(cfg.Pool)) / len(cfg.Queues) // its share, or as much of it as the fill ring takes
	}
	if cfg.Memos != nil {
		cfg.Flows.OnEvict(w.dropMemos)
		w.renewOne = w.renew
	}
	return w, nil
}

// spare is how many chunks no fill ring gets, so that there are some for the
// fragments that packets are cut into.
func spare(p *nic.Pool) int { return min(p.Chunks()/8, 2*nic.BatchSize) }

// How long an idle worker may sleep while nothing wakes it, for held fragments
// and idle flows still have to expire; and how many records of the flow table
// it looks at before it sleeps and in every round.
const (
	idleSleep  = 50 * time.Millisecond
	idleSweep  = 4096
	batchSweep = 16
)

// Run works until Stop.
func (w *Worker) Run() {
	busy := time.Now()
	for !w.stop.Load() {
		if w.Step() > 0 {
			busy = time.Now()
			continue
		}
		if w.Waiter == nil || time.Since(busy) < w.Spin {
			continue
		}
		w.flows.Sweep(w.now, idleSweep)
		w.Waiter.Wait(idleSleep)
	}
}

// Stop makes Run return after its current round. It may be called from any
// goroutine.
func (w *Worker) Stop() {
	w.stop.Store(true)
	if w.Waiter != nil {
		w.Waiter.Wake()
	}
}

// Step is one round: take back what was sent, and receive, decide, rewrite and
// send one batch from each queue. It returns how many frames it moved.
func (w *Worker) Step() int {
	s := w.Snapshots.Current()
	if s == nil {
		return 0
	}
	if s != w.snapshot {
		w.adopt(s)
	}
	w.now = w.Clock()
	w.look()
	w.takeTold()
	work := w.complete()
	w.expireHeld()
	for i := range w.Queues {
		if n := w.receive(i); n > 0 {
			work += n
			w.process(&w.main)
			w.processReady()
			w.flushAll()
		}
	}
	w.flushAll()
	w.kickLeft()
	w.refill()
	w.flows.Sweep(w.now, batchSweep)
	w.renewMemos()
	l := w.Counters.Ledger
	l.InFlight = uint64(len(w.frags.held))
	atomic.AddUint64(&l.Beat, 1)
	atomic.StoreUint64(&l.Generation, s.Generation())
	return work
}

// process carries one batch through all passes: which packets have a memo; what
// the others are; and then all of them in their order. Between the first two and
// the last, tables' lines are touched in loops so short that the processor has
// many of their cache misses under way at a time.
func (w *Worker) process(b *batch) {
	w.touchFrames(b)
	if w.tapped {
		w.keep(b)
	}
	w.findShortcuts(b)
	for _, i := range b.slow[:b.slows] {
		w.classify(b, int(i))
	}
	for _, i := range b.slow[:b.slows] {
		w.Flows.Touch(b.hashes[i])
	}
	unknown := 0
	for _, i := range b.slow[:b.slows] {
		if w.Flows.TouchRecord(b.hashes[i]) == 0 && b.keyed[i] {
			unknown++
		}
	}
	if unknown > 0 {
		w.flows.TouchAhead()
		w.flows.Reserve(w.now, unknown)
	}
	byMemo := uint64(0)
	for i := range b.n {
		if b.known[i] {
			if w.shortcut(b, i) {
				byMemo++
				continue
			}
			w.classify(b, i) // an earlier packet of the batch has changed its flow
		}
		if !b.done[i] {
			w.handle(b, i)
		}
	}
	w.Counters.Ledger.ByMemo += byMemo
	b.n = 0
}

// touchFrames reads the first line of every frame of a batch. Another CPU has
// written it, so each is a cache miss; here they are under way together.
func (w *Worker) touchFrames(b *batch) (sum byte) {
	mem := w.Pool.Mem
	for i := range b.n {
		sum += mem[b.frames[i].Addr]
	}
	return sum
}

// processReady carries fragments that were held and whose first one has come.
func (w *Worker) processReady() {
	for {
		w.main.n = w.frags.ready(w.now, w.main.frames[:])
		if w.main.n == 0 {
			return
		}
		w.process(&w.main)
	}
}

// Close ends the journey of every frame the worker still holds and takes back
// what the rings return at once. The rings themselves belong to whoever made
// them.
func (w *Worker) Close() {
	for i := range w.frags.held {
		w.discard(w.frags.held[i].frame, reason.FragmentTimeout)
	}
	w.frags.held = w.frags.held[:0]
	w.complete()
	w.Counters.Ledger.InFlight = 0
}

// adopt prepares what Bind and Advance need of a new snapshot.
func (w *Worker) adopt(s *fib.Snapshot) {
	w.snapshot = s
	for port := range w.ifIndex {
		if in := s.Interface(uint16(port)); in != nil {
			w.ifIndex[port] = in.IfIndex
		}
	}
	w.snat4, w.snat6 = nil, nil
	for i := range s.SNATs() {
		n := s.SNAT(uint32(i))
		if n.Local == 0 {
			continue
		}
		r := flow.PortRange{Local: n.Local, First: n.PortFirst, Last: n.PortLast}
		if n.Addr.Is4() {
			w.snat4 = append(w.snat4, r)
		} else {
			w.snat6 = append(w.snat6, r)
		}
	}
	sets := s.TimeoutSets()
	w.timeouts = make([]flowTimeouts, len(sets))
	for i, t := range sets {
		w.timeouts[i] = flowTimeouts{
			tcp:  flow.Timeouts{HalfOpen: t.TCPSynSent, Established: t.TCPEstablished, FinWait: t.TCPFinWait, Closed: t.TCPClose, Unreplied: t.TCPSynSent, Stream: t.TCPEstablished},
			udp:  flow.Timeouts{HalfOpen: t.UDP, Established: t.UDPStream, FinWait: t.UDP, Closed: t.UDP, Unreplied: t.UDP, Stream: t.UDPStream},
			sctp: flow.Timeouts{HalfOpen: t.SCTP, Established: t.SCTP, FinWait: t.SCTP, Closed: t.SCTP, Unreplied: t.SCTP, Stream: t.SCTP},
		}
	}
}
