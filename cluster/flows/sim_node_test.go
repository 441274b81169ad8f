package flows

import (
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"time"

	"fairlead/cluster"
	"fairlead/dataplane/maglev"
)

// simBackend is a backend as it is configured.
type simBackend struct {
	present, drained bool
	weight           int
}

// simView is a backend as a node sees it.
type simView struct {
	simBackend
	down   bool
	leaves time.Duration // when its flows are given up, after it was removed
}

// simTable is a Maglev table of backends.
type simTable struct{ entries []int16 }

func (t *simTable) pick(hash uint64) int16 {
	if t == nil || len(t.entries) == 0 {
		return -1
	}
	at, _ := bits.Mul64(hash, uint64(len(t.entries)))
	return t.entries[at]
}

// table is the table of these shares.
func (s *sim) table(shares []Share) *simTable {
	key := fmt.Sprint(shares)
	if t, ok := s.tables[key]; ok {
		return t
	}
	var members []maglev.Member
	for _, sh := range shares {
		members = append(members, maglev.Member{Name: sh.Endpoint.String(), Weight: sh.Weight, Withheld: sh.Withheld})
	}
	built, err := maglev.Build(members, [2]uint64{1, 2})
	if err != nil {
		panic(err)
	}
	t := &simTable{}
	if built != nil {
		for _, m := range built.Entries() {
			t.entries = append(t.entries, simBackendOf(shares[m].Endpoint))
		}
	}
	s.tables[key] = t
	return t
}

// simLater is by how much another node has to have seen a flow later than this one
// for this one to leave the flow to it.
const simLater = 2 * time.Second

// simRecord is a node's record of a flow.
type simRecord struct {
	serial   uint32
	backend  int16
	state    uint8
	told     bool
	deadline time.Duration
}

// simNode is a node: its data path, and its core while it has a control process.
type simNode struct {
	s         *sim
	name      string
	index     int
	alive     bool // it forwards
	announced bool // the router sends to it
	core      *core
	started   time.Duration // its control process
	deaths    []time.Duration

	views   []simView
	gen     uint64
	current *simTable
	base    *simTable
	also    *simTable
	records []simRecord
	events  []Flow
	lost    bool
	given   uint64
	store   map[string]cluster.Entry
	links   map[string]*simLink
	ended   []*counters           // of control processes before
	bad     map[int]time.Duration // when a node was last out of step with this one
}

// simLink is a node's connection to another.
type simLink struct {
	*rand.Rand
	down  bool
	epoch int           // connections before
	last  time.Duration // when what was sent last arrives
}

// boot starts a node that knows nothing, but what a store keeps.
func (n *simNode) boot() {
	s := n.s
	n.alive, n.records = true, make([]simRecord, len(s.flows))
	n.base, n.also, n.events, n.views = nil, nil, nil, nil
	for b := range s.truth {
		v := n.see(b)
		v.simBackend = s.truth[b]
	}
	n.links = map[string]*simLink{}
	n.bad = map[int]time.Duration{}
	for _, o := range s.nodes {
		n.links[o.name] = &simLink{Rand: rand.New(rand.NewPCG(s.seed, s.Uint64()))}
	}
	n.rebuild()
	n.startControl()
}

func (n *simNode) startControl() {
	if !n.alive || n.core != nil {
		return
	}
	s := n.s
	n.started = s.now
	n.core = newCore(n.name, (*simEnv)(n), settings{window: 10 * time.Second, hold: 30 * time.Second, refresh: defaultRefresh, coordinate: defaultCoordinate})
	if s.forgets {
		n.core.settings.hold = 0
	}
	for key, e := range n.store { // what others wrote meanwhile comes with the comparison of stores
		n.core.follower.entries([]cluster.Entry{{Key: key, Value: e.Value, Version: e.Version, Writer: e.Writer}})
	}
	for _, o := range s.nodes {
		if o != n && o.core != nil {
			s.after(s.upTo(500*time.Millisecond), func() { n.take(o.store) })
		}
	}
	began := n.core
	s.after(600*time.Millisecond, func() { began.coordinator.synced = true })
	if s.now > 0 {
		s.membership(300 * time.Millisecond)
		for _, o := range s.nodes {
			if o != n && o.core != nil {
				s.after(s.upTo(300*time.Millisecond), func() { n.up(o) })
			}
		}
	}
}

// up has a connection stand, both ways.
func (n *simNode) up(o *simNode) {
	if n.core == nil || o.core == nil {
		return
	}
	for _, l := range []*simLink{n.links[o.name], o.links[n.name]} {
		l.down = false
		l.epoch++
	}
	n.core.teller.up(o.name)
	o.core.teller.up(n.name)
}

// cut breaks the connection to another node: what is on its way is lost.
func (n *simNode) cut(o *simNode, down bool) {
	if !down {
		n.up(o)
		return
	}
	for _, pair := range [][2]*simNode{{n, o}, {o, n}} {
		l := pair[0].links[pair[1].name]
		l.down = true
		l.epoch++
	}
}

// past is what control processes before this one have counted.
func (n *simNode) past(f func(*counters) uint64) (total uint64) {
	for _, c := range n.ended {
		total += f(c)
	}
	return total
}

func (n *simNode) stopControl() {
	if n.core != nil {
		n.ended = append(n.ended, n.core.stats)
	}
	n.core = nil
	for _, o := range n.s.nodes {
		if o != n {
			n.cut(o, true)
		}
	}
	n.s.membership(700 * time.Millisecond)
}

// die ends both of the node's processes; the router notices after a while.
func (n *simNode) die() {
	n.stopControl()
	n.alive, n.deaths = false, append(n.deaths, n.s.now)
	n.s.after(n.s.upTo(time.Second), func() {
		if !n.alive {
			n.announced = false
			n.s.route()
		}
	})
}

// take takes over what another's store has newer.
func (n *simNode) take(store map[string]cluster.Entry) {
	for key, e := range store {
		if have, ok := n.store[key]; ok && have.Version.Compare(e.Version) >= 0 {
			continue
		}
		n.store[key] = e
		if n.core != nil {
			n.core.follower.entries([]cluster.Entry{e})
		}
	}
}

func (n *simNode) tick() {
	if n.core == nil {
		return
	}
	flows, lost := n.events, n.lost
	n.events, n.lost = nil, false
	if n.s.mute {
		flows = nil
	}
	n.core.teller.observed(flows, lost)
	n.core.tick()
	for _, o := range n.s.nodes {
		if p := n.core.teller.peers[o.name]; p == nil || !p.inStep || n.links[o.name].down {
			n.bad[o.index] = n.s.now
		}
	}
	if n.alive && !n.announced && n.s.now > 5*time.Second && n.s.now-n.started > time.Second &&
		len(n.core.members) > 0 && n.core.receiver.told() && n.base != nil {
		n.announced = true
		n.s.route()
	}
}

// see is a backend as the node sees it.
func (n *simNode) see(b int) *simView {
	for len(n.views) <= b {
		n.views = append(n.views, simView{})
	}
	return &n.views[b]
}

// shares are what backends are due when all is well, and what they are due now.
func (n *simNode) shares() (declared, current []Share) {
	for b, v := range n.views {
		if !v.present {
			continue
		}
		share := Share{Endpoint: simEndpoint(b), Weight: v.weight}
		if v.drained {
			share.Withheld = 1000
		}
		declared = append(declared, share)
		if v.down {
			share.Withheld = 1000
		}
		current = append(current, share)
	}
	return sortShares(declared), sortShares(current)
}

func (n *simNode) rebuild() {
	_, current := n.shares()
	n.current = n.s.table(current)
	n.gen++
	if n.core != nil {
		n.core.receiver.generation()
	}
}

// usable reports whether a backend still serves the flows that it has.
func (n *simNode) usable(b int16) bool {
	if b < 0 {
		return false
	}
	v := n.see(int(b))
	return !v.down && (v.present || n.s.now < v.leaves)
}

// packet is the data path: where a packet of a flow goes; gone says that the
// flow's backend is dead, as this node sees it.
func (n *simNode) packet(slot int32, opens bool) (backend int16, gone bool) {
	s := n.s
	f, r := &s.flows[slot], &n.records[slot]
	if r.serial == f.serial && r.state != simFree && s.now < r.deadline {
		if !n.usable(r.backend) {
			r.state = simFree
			return r.backend, true
		}
		before := r.state
		if r.told {
			before = simOpening
		}
		r.told, r.deadline = false, s.now+simTimeout
		if !opens {
			r.state = simOpen
		}
		if before == simOpening && r.state == simOpen && !f.udp && n.exception(slot, r) {
			n.tell(s.flow(n, slot, r, Established))
		}
		return r.backend, false
	}
	b := int16(-1)
	if !opens && !f.udp {
		if b = n.base.pick(f.hash); !n.usable(b) {
			b = -1
		}
	}
	if b < 0 {
		b = n.current.pick(f.hash)
	}
	*r = simRecord{serial: f.serial, backend: b, state: simOpening, deadline: s.now + simTimeout}
	if opens && !f.udp {
		r.deadline = s.now + simHalf
	}
	return b, !n.usable(b)
}

// tell puts an event into the ring.
func (n *simNode) tell(f Flow) {
	if len(n.events) >= 8192 {
		n.lost = true
		return
	}
	n.events = append(n.events, f)
}

// exception reports whether peers have to be told of a flow.
func (n *simNode) exception(slot int32, r *simRecord) bool {
	f := &n.s.flows[slot]
	if r.serial != f.serial || r.state != simOpen || n.s.now >= r.deadline {
		return false
	}
	if n.s.everything {
		return !f.udp
	}
	if f.udp {
		return n.current.pick(f.hash) != r.backend
	}
	return n.base != nil && n.base.pick(f.hash) != r.backend || n.also != nil && n.also.pick(f.hash) != r.backend
}

// simEnv is a node as its core sees it.
type simEnv simNode

func (e *simEnv) now() time.Time { return simEpoch.Add(e.s.now) }

func (e *simEnv) node(name string) *simNode {
	for _, o := range e.s.nodes {
		if o.name == name {
			return o
		}
	}
	return nil
}

func (e *simEnv) send(node string, message []byte) error {
	l, o := e.links[node], e.node(node)
	if l.down || o.core == nil {
		return cluster.ErrUnreachable
	}
	if l.IntN(20000) == 0 {
		return cluster.ErrBacklog
	}
	l.last = max(l.last, e.s.now+time.Duration(l.Int64N(int64(simDelay))))
	epoch, bytes := l.epoch, uint64(len(message))
	e.s.bytes += bytes
	e.s.messages++
	e.s.after(l.last-e.s.now, func() {
		if l.epoch == epoch && !l.down && o.core != nil {
			o.core.message(e.name, message)
		}
	})
	return nil
}

func (e *simEnv) put(key string, value []byte) {
	s := e.s
	v := cluster.Version{Wall: int64(s.now / time.Millisecond), Writer: e.name}
	if have, ok := e.store[key]; ok && have.Version.Compare(v) >= 0 {
		v = have.Version
		v.Counter++
		v.Writer = e.name
	}
	entry := cluster.Entry{Key: key, Value: value, Writer: e.name, Version: v}
	s.after(simStep, func() {
		for _, o := range s.nodes {
			take := func() {
				if o.core != nil {
					o.take(map[string]cluster.Entry{key: entry})
				}
			}
			if o == (*simNode)(e) {
				take()
			} else {
				s.after(s.upTo(time.Second), take)
			}
		}
	})
}

func (e *simEnv) remove(string) {}

func (e *simEnv) ask(node string, request []byte) {
	n, s, o := (*simNode)(e), e.s, e.node(node)
	asks := e.core
	s.after(s.upTo(simDelay), func() {
		answer, err := []byte(nil), error(cluster.ErrUnreachable)
		if o.core != nil && !n.links[node].down {
			answer, err = o.core.follower.asked(request)
		}
		if s.hasty {
			answer, err = []byte(`{}`), nil
		}
		s.after(s.upTo(simDelay), func() {
			if n.core == asks && asks != nil {
				n.core.coordinator.answered(node, answer, err)
			}
		})
	})
}

func (e *simEnv) adopt(bases []PoolBase) {
	n, s := (*simNode)(e), e.s
	asks := e.core
	s.after(simStep+s.upTo(300*time.Millisecond), func() {
		if !n.alive || n.core != nil && n.core != asks && asks != nil {
			return
		}
		if n.core == nil {
			return
		}
		if s.IntN(50) == 0 {
			n.core.follower.adoptedAll(errors.New("not now"))
			return
		}
		for _, b := range bases {
			n.base, n.also = nil, nil
			if len(b.Shares) > 0 {
				n.base = s.table(b.Shares)
			}
			if len(b.Also) > 0 && !s.hasty {
				n.also = s.table(b.Also)
			}
		}
		n.core.follower.adoptedAll(nil)
	})
}

// scan looks through a part of the table at a time.
func (e *simEnv) scan() {
	n, s := (*simNode)(e), e.s
	asks := e.core
	var part func(slot int)
	part = func(slot int) {
		if n.core == nil || n.core != asks && asks != nil {
			return
		}
		if slot == len(n.records) {
			n.core.teller.scanned(nil)
			return
		}
		var found []Flow
		for last := min(slot+1<<13, len(n.records)); slot < last; slot++ {
			if s.mute {
				continue
			}
			if r := &n.records[slot]; r.state == simOpen && n.exception(int32(slot), r) {
				found = append(found, s.flow(n, int32(slot), r, Established))
			}
		}
		n.core.teller.found(found)
		s.after(simStep, func() { part(slot) })
	}
	s.after(simStep+s.upTo(50*time.Millisecond), func() { part(0) })
}

func (e *simEnv) imports(f *Flow) Outcome {
	n, s := (*simNode)(e), e.s
	a := f.Client.Addr().As4()
	slot := int(a[1])<<16 | int(a[2])<<8 | int(a[3])
	r, now := &n.records[slot], &s.flows[slot]
	if uint16(now.serial) != f.Client.Port() {
		e.given++ // of a flow that is no more
		return Taken
	}
	known := r.serial == now.serial && r.state != simFree && s.now < r.deadline
	if f.Kind == Ended {
		if known && r.told {
			r.state = simFree
		}
		e.given++
		return Taken
	}
	b := simBackendOf(f.Backend)
	if v := n.see(int(b)); !v.present && s.now >= v.leaves {
		return Unresolved
	}
	if s.IntN(1000) == 0 {
		return Full
	}
	e.given++
	switch {
	case !known:
		*r = simRecord{serial: now.serial, backend: b, state: simOpen, told: true, deadline: s.now + f.Life + f.Slack}
	case r.told, r.deadline < s.now+f.Life-simLater:
		// The teller has seen a packet of it later than this node.
		r.backend, r.told, r.deadline = b, true, max(r.deadline, s.now+f.Life+f.Slack)
	case r.backend != b && n.base.pick(now.hash) == r.backend && !now.udp:
		r.backend = b
	}
	return Taken
}

func (e *simEnv) progress() (given, taken uint64) { return e.given, e.given }

func (e *simEnv) pools() ([]Pool, uint64) {
	declared, current := (*simNode)(e).shares()
	return []Pool{{Name: "web", Declared: declared, Current: current}}, e.gen
}

func (e *simEnv) warn(string, ...any) {}
