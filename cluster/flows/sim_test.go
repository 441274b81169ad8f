package flows

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"fairlead/cluster"
)

// The simulation: nodes with the room's own core and real Maglev tables, behind a
// router that spreads flows over them, in virtual time. What happens to nodes,
// pools, links and the router is random; what becomes of every packet of every
// flow is known, and compared with where it should have gone (sim_oracle_test.go).

// Times of the simulated world.
const (
	simStep    = 10 * time.Millisecond
	simTimeout = 2 * time.Minute // idle time of established flows
	simHalf    = time.Minute     // of half-open ones
	simDrain   = 40 * time.Second
	simDelay   = 50 * time.Millisecond // a message takes at most

	// simTold is how long after a flow was established peers know of it: it
	// waits in the ring, to be told with others, on the way, and to be taken in.
	simResync = 500 * time.Millisecond // until all that a peer tells is taken in

	simTold = simStep + tellEvery + simDelay + 2*simStep
)

var simEpoch = time.Unix(1_700_000_000, 0)

// simRun is what a run is made of.
type simRun struct {
	seed     uint64
	duration time.Duration
	nodes    int
	backends int
	rate     int // new flows in a step
	udp      float64

	// What is done to the world: the mean time between two of a kind, 0: never.
	changes, flaps, deaths, restarts, moves, cuts time.Duration

	everything bool // peers are told of every flow, as other balancers do

	// What is left out, to see that the oracle finds it.
	mute    bool // nobody is told of anything
	hasty   bool // bases are replaced without having been prepared
	forgets bool // a base is replaced however lately a node was lost
}

type sim struct {
	simRun
	*rand.Rand
	now    time.Duration
	queue  simQueue
	serial uint64
	nodes  []*simNode
	truth  []simBackend
	tables map[string]*simTable
	router []*simNode
	rehash uint64
	flows  []simFlow
	active []int32
	free   []int32
	before simRecord // of the packet in hand's flow, as its node knew it before
	oracle
}

// simEvent is something that happens at a time.
type simEvent struct {
	at     time.Duration
	serial uint64
	do     func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].serial < q[j].serial
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	e := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return e
}

func (s *sim) after(d time.Duration, do func()) {
	s.serial++
	heap.Push(&s.queue, simEvent{s.now + d, s.serial, do})
}

func (s *sim) upTo(most time.Duration) time.Duration { return time.Duration(s.Int64N(int64(most))) }

// each has do called again and again, at random times of which the mean is mean.
func (s *sim) each(mean time.Duration, do func()) {
	if mean == 0 {
		return
	}
	s.after(s.upTo(2*mean), func() { do(); s.each(mean, do) })
}

func newSim(run simRun) *sim {
	s := &sim{simRun: run, Rand: rand.New(rand.NewPCG(run.seed, 1)), tables: map[string]*simTable{}, oracle: newOracle()}
	for range run.backends {
		s.truth = append(s.truth, simBackend{weight: 1, present: true})
	}
	for i := range run.nodes {
		n := &simNode{s: s, name: fmt.Sprintf("n%d", i), index: i, store: map[string]cluster.Entry{}}
		s.nodes = append(s.nodes, n)
	}
	for _, n := range s.nodes {
		n.boot()
	}
	s.membership(0)
	s.after(5*time.Second, func() { // there are bases by then
		for _, n := range s.nodes {
			n.announced = true
		}
		s.route()
	})
	s.chaos()
	return s
}

func (s *sim) run() {
	for s.now < s.duration {
		for len(s.queue) > 0 && s.queue[0].at <= s.now {
			heap.Pop(&s.queue).(simEvent).do()
		}
		for _, n := range s.nodes {
			n.tick()
		}
		if s.now > 6*time.Second {
			s.traffic()
		}
		s.now += simStep
	}
}

// route has the router spread over those that announce and have not been found
// to be dead.
func (s *sim) route() {
	s.router = s.router[:0]
	for _, n := range s.nodes {
		if n.announced {
			s.router = append(s.router, n)
		}
	}
}

// membership has every node learn who is alive, each in its own time.
func (s *sim) membership(within time.Duration) {
	for _, n := range s.nodes {
		learn := func() {
			if n.core == nil {
				return
			}
			var all []cluster.Node
			for _, o := range s.nodes {
				state := cluster.Alive
				if o.core == nil {
					state = cluster.Dead
				}
				all = append(all, cluster.Node{Name: o.name, State: state, Started: simEpoch.Add(o.started)})
			}
			n.core.membership(all)
		}
		if within == 0 {
			learn()
		} else {
			s.after(within/3+s.upTo(within), learn)
		}
	}
}

// chaos plans what is done to the world.
func (s *sim) chaos() {
	s.each(s.changes, s.changePool)
	s.each(s.flaps, func() {
		b := s.IntN(len(s.truth))
		for range 2 {
			s.learn(3*time.Second, func(n *simNode) { n.see(b).down = true })
		}
		s.after(5*time.Second+s.upTo(time.Minute), func() {
			s.learn(3*time.Second, func(n *simNode) { n.see(b).down = false })
		})
	})
	s.each(s.deaths, func() {
		n := s.nodes[s.IntN(len(s.nodes))]
		alive := 0
		for _, o := range s.nodes {
			if o.alive && o.core != nil {
				alive++
			}
		}
		if alive < 2 || !n.alive {
			return
		}
		n.die()
		s.after(20*time.Second+s.upTo(2*time.Minute), n.boot)
	})
	s.each(s.restarts, func() {
		if n := s.nodes[s.IntN(len(s.nodes))]; n.alive && n.core != nil {
			n.stopControl()
			s.after(100*time.Millisecond+s.upTo(10*time.Second), n.startControl)
		}
	})
	s.each(s.moves, func() { s.rehash = s.Uint64() })
	s.each(s.cuts, func() {
		a, b := s.nodes[s.IntN(len(s.nodes))], s.nodes[s.IntN(len(s.nodes))]
		if a != b {
			a.cut(b, true)
			s.after(simStep+s.upTo(2*time.Second), func() { a.cut(b, false) })
		}
	})
}

// changePool adds, removes, drains or weighs a backend.
func (s *sim) changePool() {
	b := s.IntN(len(s.truth))
	t := &s.truth[b]
	switch s.IntN(5) {
	case 0:
		if len(s.truth) < 3*s.backends {
			s.truth = append(s.truth, simBackend{})
			b, t = len(s.truth)-1, &s.truth[len(s.truth)-1]
		}
		fallthrough
	case 1:
		t.present, t.drained, t.weight = true, false, 1
	case 2:
		present := 0
		for _, o := range s.truth {
			if o.present && !o.drained {
				present++
			}
		}
		if present <= 2 {
			return
		}
		t.present = false
	case 3:
		t.drained = !t.drained
	case 4:
		t.weight = 1 + s.IntN(4)
	}
	now := *t
	s.learn(2*time.Second, func(n *simNode) {
		v := n.see(b)
		if v.present && !now.present {
			v.leaves = s.now + simDrain
		}
		v.present, v.drained, v.weight = now.present, now.drained, now.weight
	})
}

// learn has every node learn of something, each in its own time.
func (s *sim) learn(within time.Duration, what func(*simNode)) {
	for _, n := range s.nodes {
		s.after(s.upTo(within), func() {
			what(n)
			n.rebuild()
		})
	}
}

// simFlow is a flow as the oracle knows it.
type simFlow struct {
	serial  uint32 // its port: no two flows share a tuple
	backend int16
	owner   int8  // node that had its last packet
	state   uint8 // simNew ...
	udp     bool
	seen    int32 // packets that the owner had of it
	born    time.Duration
	opened  time.Duration // when it was established
	took    time.Duration // when owner had its first packet of it
	last    time.Duration // packet
	sleeps  time.Duration // sends nothing before
	hash    uint64
}

const (
	simFree = iota
	simOpening
	simOpen
)

// traffic is the flows of a step: some begin, some send, some end.
func (s *sim) traffic() {
	if len(s.router) == 0 {
		return
	}
	for range s.rate {
		s.begin()
	}
	if len(s.active) == 0 {
		return
	}
	for range 3 * s.rate {
		at := s.IntN(len(s.active))
		slot := s.active[at]
		f := &s.flows[slot]
		switch {
		case f.state == simFree:
			s.active[at] = s.active[len(s.active)-1]
			s.active = s.active[:len(s.active)-1]
			s.free = append(s.free, slot)
			if len(s.active) == 0 {
				return
			}
		case f.state == simOpening || s.now < f.sleeps:
		case s.IntN(4) == 0:
			s.finish(slot)
		default:
			s.send(slot, false)
			if s.IntN(50) == 0 {
				f.sleeps = s.now + s.upTo(simTimeout+10*time.Second)
			}
		}
	}
}

// begin begins a flow: its SYN now, its first acknowledgement after a while.
func (s *sim) begin() {
	var slot int32
	if k := len(s.free); k > 0 {
		slot, s.free = s.free[k-1], s.free[:k-1]
	} else {
		slot = int32(len(s.flows))
		s.flows = append(s.flows, simFlow{})
		for _, n := range s.nodes {
			n.records = append(n.records, simRecord{})
		}
	}
	f := &s.flows[slot]
	*f = simFlow{serial: f.serial + 1, backend: -1, owner: -1, state: simOpening, born: s.now, hash: s.Uint64(), udp: s.Float64() < s.udp}
	s.active = append(s.active, slot)
	s.count++
	if !s.send(slot, true) {
		return
	}
	serial := f.serial
	s.after(simStep+s.upTo(100*time.Millisecond), func() {
		if f := &s.flows[slot]; f.serial == serial && f.state == simOpening && s.send(slot, false) {
			f.state, f.opened = simOpen, s.now
		}
	})
}

// send sends a packet of a flow to the node that the router has for it, and has
// the oracle look at where it goes. It is false when it did not get through.
func (s *sim) send(slot int32, opens bool) bool {
	f := &s.flows[slot]
	n := s.router[(f.hash^s.rehash)*0x9e3779b97f4a7c15>>33%uint64(len(s.router))]
	if !n.alive {
		if opens {
			f.state = simFree // it tries again as another
		}
		return false
	}
	s.packets++
	s.before = n.records[slot]
	b, gone := n.packet(slot, opens)
	if opens {
		f.backend = b
	} else if gone || b != f.backend {
		s.broken(f, n, b, gone)
		f.state = simFree
		return false
	}
	known := s.before.serial == f.serial && s.before.state != simFree && s.now < s.before.deadline
	if f.owner != int8(n.index) || !known {
		f.owner, f.seen, f.took = int8(n.index), 0, s.now
	}
	f.seen++
	f.last = s.now
	return true
}

// finish ends a flow.
func (s *sim) finish(slot int32) {
	f := &s.flows[slot]
	if s.send(slot, false) && !f.udp {
		n := s.nodes[f.owner]
		r := &n.records[slot]
		if n.exception(slot, r) {
			n.events = append(n.events, s.flow(n, slot, r, Ended))
		}
		r.state = simFree
	}
	if f.state != simFree {
		s.ended++
	}
	f.state = simFree
}

// flow is what a node tells of a flow, and slotOf which flow it is about.
func (s *sim) flow(n *simNode, slot int32, r *simRecord, kind Kind) Flow {
	f := Flow{
		Kind: kind, Proto: 6, VIP: simVIP, Timeout: simTimeout, Pool: "web", Told: r.told,
		Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(slot >> 16), byte(slot >> 8), byte(slot)}), uint16(s.flows[slot].serial)),
	}
	if s.flows[slot].udp {
		f.Proto = 17
	}
	if kind != Ended {
		f.Backend, f.Life = simEndpoint(int(r.backend)), r.deadline-s.now
	}
	return f
}

var simVIP = netip.MustParseAddrPort("203.0.113.1:80")

func simEndpoint(b int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 0, byte(b)}), 80)
}

func simBackendOf(e netip.AddrPort) int16 { return int16(e.Addr().As4()[3]) }
