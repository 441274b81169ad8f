package flow

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// The oracle is the table as one would write it without any thought of speed:
// a list of entries that is searched from end to end. It knows nothing of
// records, slots and life words. Where the table may choose (a port, a flow to
// evict), the oracle checks that the choice was allowed and follows it.
type oracle struct {
	flows  []*entry
	guard  uint32
	paused map[pauseKey]Time
	barren [modelWorkers]barren // searches for a record that found nothing
}

type barren struct {
	is bool
	at Time
}

type entry struct {
	Flow
	ref     Ref
	fin     [2]bool
	resetBy int // direction of the RST that closed it, or -1
	resting bool
	born    Time
}

type pauseKey struct {
	worker  int
	backend byte
	proto   uint8
	shape   int
}

func (e *entry) over(now Time) bool { return int32(now-e.Deadline) >= 0 }

func (o *oracle) live(k Key, now Time) (*entry, Direction) {
	for _, e := range o.flows {
		if e.resting || e.over(now) {
			continue
		}
		if e.ForwardKey() == k {
			return e, Forward
		}
		if e.SNAT != 0 && e.ReplyKey() == k {
			return e, Reply
		}
	}
	return nil, Forward
}

// taken reports whether an outside tuple is in use or rests.
func (o *oracle) taken(k Key, now Time) bool {
	for _, e := range o.flows {
		if e.SNAT != 0 && !e.over(now) && e.ReplyKey() == k {
			return true
		}
	}
	return false
}

func (o *oracle) remove(e *entry) {
	for i := range o.flows {
		if o.flows[i] == e {
			o.flows = append(o.flows[:i], o.flows[i+1:]...)
			return
		}
	}
}

// packet is the state machine as Advance's comment tells it.
func (o *oracle) packet(e *entry, dir Direction, flags uint8, now Time, to *Timeouts) {
	state, timeout := e.State, uint32(0)
	fin, resetBy := e.fin, e.resetBy
	nat := e.SNAT != 0
	closed := to.Closed
	if nat && o.guard > closed {
		closed = o.guard
	}
	is := func(flag uint8) bool { return flags&flag != 0 }
	switch e.State {
	case StateUnreplied:
		switch {
		case dir == Reply:
			state, timeout = StateStream, to.Stream
		case nat:
			timeout = to.Unreplied
		case int32(now-e.born) >= 1000:
			state, timeout = StateStream, to.Stream
		default:
			return
		}
	case StateStream:
		timeout = to.Stream
	case StateHalfOpen, StateEstablished, StateFinWait, StateClosed:
		switch {
		case is(tcpRST):
			if e.State == StateClosed {
				return
			}
			e.resetBy = int(dir)
			state, timeout = StateClosed, closed
		case is(tcpSYN):
			reuse := dir == Forward && (e.State == StateClosed || e.State == StateFinWait && !nat)
			if e.State != StateHalfOpen && !reuse {
				return
			}
			e.fin, e.resetBy = [2]bool{}, -1
			state, timeout = StateHalfOpen, to.HalfOpen
		default:
			if e.State == StateClosed {
				if e.resetBy != int(dir) {
					return
				}
				e.resetBy = -1
			}
			if is(tcpFIN) {
				e.fin[dir] = true
			}
			switch {
			case e.fin[0] && e.fin[1]:
				state, timeout = StateClosed, closed
			case e.fin[0] || e.fin[1]:
				state, timeout = StateFinWait, to.FinWait
			case e.State == StateHalfOpen && dir == Reply:
				timeout = to.HalfOpen
			default:
				state, timeout = StateEstablished, to.Established
			}
		}
	default:
		return
	}
	moved := int64(int32(now + Time(timeout) - e.Deadline))
	step, back := min(256, int64(timeout)/4), min(256, int64(timeout)/4)
	if state == StateEstablished || state == StateStream || state == StateUnreplied {
		back += MaxExtension // a memo's lease may be part of the deadline
	}
	if state == e.State && fin == e.fin && resetBy == e.resetBy && moved < step && -moved < back {
		return
	}
	e.State, e.Deadline = state, now+Time(timeout)
}

func rankOf(s State) int {
	switch s {
	case StateHalfOpen:
		return 0
	case StateUnreplied, StateClosed:
		return 1
	case StateAffinity:
		return 2
	case StateFinWait:
		return 3
	}
	return 4
}

// script turns bytes into choices; when they are used up, it ends.
type script struct {
	data []byte
	done bool
}

func (s *script) pick(n int) int {
	if len(s.data) == 0 {
		s.done = true
		return 0
	}
	v := int(s.data[0])
	s.data = s.data[1:]
	return v % n
}

const (
	modelFlows   = 20
	modelWorkers = 2
	modelClients = 60
)

var modelShapes = [][]PortRange{
	{{Local: 5, First: 100, Last: 103}},
	{{Local: 5, First: 102, Last: 105}, {Local: 6, First: 0, Last: 2}},
}

// model is one run of a script on a table and on the oracle.
type model struct {
	*testing.T
	tab *Table
	o   oracle
	now Time
	to  Timeouts
	op  string

	hurry  int // how many of the time steps are used
	forget int // one change in so many is a Forget
}

func runModel(t *testing.T, data []byte) Stats {
	s := &script{data: data}
	m := &model{T: t, to: Timeouts{HalfOpen: 2000, Established: 20_000, FinWait: 5000, Closed: 700, Unreplied: 3000, Stream: 9000}}
	m.o.guard = []uint32{0, 1500}[s.pick(2)]
	m.hurry = 4 + s.pick(7)
	m.forget = 1 << s.pick(6)
	m.o.paused = map[pauseKey]Time{}
	m.now = ^Time(0) - Time(s.pick(256))*100
	var err error
	m.tab, err = New(memory(modelFlows), Config{Flows: modelFlows, Workers: modelWorkers, SNATGuard: m.o.guard, Seed: [2]uint64{uint64(s.pick(256)), 1}})
	if err != nil {
		t.Fatal(err)
	}
	for step := 0; !s.done; step++ {
		m.op = ""
		m.step(s)
		m.compare(step)
	}
	m.now += Time(MaxTimeout / 2)
	sweepAll(m.tab, m.now)
	if err := checkEmpty(m.tab, 0); err != nil {
		t.Error(err)
	}
	return m.tab.Stats()
}

func (m *model) flow(s *script) Flow {
	i := s.pick(modelClients)
	f := Flow{Client: client(i << 8), ClientPort: uint16(i), VIP: 1, VIPPort: 80, Proto: protoTCP, ServiceID: uint32(i), BackendID: uint32(s.pick(256)), Via: uint16(i)}
	switch {
	case i%7 == 0:
		f.Proto, f.State = ProtoAffinityTCP, StateAffinity
	case i%3 == 0:
		f.Proto = 17
	case s.pick(2) == 0:
		f.State = StateEstablished
	}
	return f
}

func (m *model) step(s *script) {
	wi := s.pick(modelWorkers)
	w := m.tab.Worker(wi)
	switch s.pick(10) {
	case 0, 1, 2, 3:
		f := m.flow(s)
		m.insert(w, f, f.isNAT(), wi, s)
	case 4:
		steps := []Time{0, 1, 3, 10, 30, 50, 300, 700, 2000, 6000}
		m.now += steps[s.pick(m.hurry)]
		m.op = "time passes"
	case 5:
		n := s.pick(2 * modelFlows)
		m.op = fmt.Sprintf("worker %d sweeps %d", wi, n)
		w.Sweep(m.now, n)
	default:
		m.change(w, s)
	}
}

// isNAT splits the clients by port, so that a client is always of one kind.
func (f *Flow) isNAT() bool { return f.ClientPort%2 == 1 && f.State != StateAffinity }

// change does something to one live flow.
func (m *model) change(w *Worker, s *script) {
	var live []*entry
	for _, e := range m.o.flows {
		if !e.resting && !e.over(m.now) {
			live = append(live, e)
		}
	}
	if len(live) == 0 {
		return
	}
	e := live[s.pick(len(live))]
	f := e.Flow
	if s.pick(m.forget) == 0 {
		m.forgetOne(w, e)
		return
	}
	switch s.pick(7) {
	case 0:
		id := uint32(s.pick(256))
		m.op = fmt.Sprintf("move %+v to %d", f, id)
		moved := m.tab.Move(e.ref, &f, id)
		if moved == (e.SNAT != 0) {
			m.Fatalf("%s: moved is %v", m.op, moved)
		}
		if moved {
			e.BackendID = id
		}
	case 1:
		via := uint16(s.pick(256))
		m.op = fmt.Sprintf("via of %+v is %d", f, via)
		m.tab.SetVia(e.ref, &f, via)
		e.Via = via
	case 2:
		timeout := uint32(1 + 100*s.pick(100))
		m.op = fmt.Sprintf("refresh %+v for %d", f, timeout)
		if !m.tab.Refresh(e.ref, &f, m.now, timeout) {
			m.Fatal(m.op)
		}
		e.Deadline = m.now + Time(timeout)
		e.born = e.Deadline - Time(m.to.Unreplied) // what Advance can know
	default:
		dir := Forward
		if e.SNAT != 0 {
			dir = Direction(s.pick(2))
		}
		flags := []uint8{tcpACK, tcpACK, tcpSYN, tcpSYN | tcpACK, tcpFIN | tcpACK, tcpFIN, tcpRST, tcpRST | tcpACK}[s.pick(8)]
		m.op = fmt.Sprintf("packet (direction %d, flags %#x) of %+v", dir, flags, f)
		m.tab.Advance(e.ref, &f, dir, flags, m.now, &m.to)
		m.o.packet(e, dir, flags, m.now, &m.to)
	}
	if f != e.Flow {
		m.Fatalf("%s: the copy became %+v, want %+v", m.op, f, e.Flow)
	}
}

func (m *model) forgetOne(w *Worker, e *entry) {
	f := e.Flow
	m.op = fmt.Sprintf("forget %+v", f)
	w.Sweep(m.now, 0) // tells the time
	w.Forget(e.ref, &f)
	if e.SNAT != 0 && m.o.guard != 0 {
		e.resting, e.State, e.Deadline = true, StateClosed, m.now+Time(m.o.guard)
	} else {
		m.o.remove(e)
	}
}

// insert adds a flow through Insert or Bind.
func (m *model) insert(w *Worker, f Flow, nat bool, wi int, s *script) {
	o := &m.o
	timeout := m.to.Unreplied
	if f.State == StateEstablished {
		timeout = m.to.Established
	}
	shape := 0
	if nat {
		b := s.pick(2)
		shape = s.pick(len(modelShapes))
		f.Backend, f.BackendPort = addr4(10, 0, 0, byte(b)), 8080
	}
	m.op = fmt.Sprintf("worker %d adds %+v (nat %v, shape %d)", wi, f, nat, shape)

	// What must happen.
	before, _ := o.live(f.ForwardKey(), m.now)
	inPartition, lowest := 0, 5
	for _, e := range o.flows {
		if w.owns(uint32(e.ref)) && !e.over(m.now) {
			inPartition++
			lowest = min(lowest, rankOf(e.State))
		}
	}
	full := inPartition == int(w.last-w.first)
	// Shortly after it has found nothing, the table does not look everywhere.
	hasty := o.barren[wi].is && m.now-o.barren[wi].at < barrenMS
	key := pauseKey{wi, byte(f.Backend.Lo), f.Proto, shape}
	want := Bound
	switch {
	case before != nil:
		want = Existing
	case nat && m.isPaused(key):
		want = Exhausted
	case nat && !m.hasFreeTuple(f, modelShapes[shape]):
		want = Exhausted
		o.paused[key] = m.now + pauseMS
	case full && lowest == 4:
		want = Full
	}
	if nat && want == Bound {
		delete(o.paused, key)
	}

	// What happens.
	given := f
	var ref Ref
	got := Bound
	if nat {
		ref, got = w.Bind(&f, modelShapes[shape], m.now, timeout)
	} else {
		var ok bool
		inserted := w.count.inserted.Load()
		if ref, ok = w.Insert(&f, m.now, timeout); !ok {
			got = Full
		} else if w.count.inserted.Load() == inserted {
			got = Existing
		}
	}
	if got == Full {
		o.barren[wi] = barren{true, m.now}
	}
	if got != want && (!hasty || got != Full || want != Bound) {
		m.Fatalf("%s: %v, want %v (partition full: %v, lowest rank %d)", m.op, got, want, full, lowest)
	}
	switch got {
	case Existing:
		if before.State == StateAffinity {
			before.Deadline = m.now + Time(timeout)
		}
		if ref != before.ref || f != before.Flow {
			m.Fatalf("%s: existing flow %d %+v, want %d %+v", m.op, ref, f, before.ref, before.Flow)
		}
		return
	case Exhausted, Full:
		return
	}
	if !w.owns(uint32(ref)) {
		m.Fatalf("%s: got record %d of another worker", m.op, ref)
	}
	for _, e := range o.flows {
		if e.ref != ref {
			continue
		}
		if !e.over(m.now) {
			m.checkVictim(e, w, full, hasty, lowest)
			o.barren[wi].is = false
		}
		o.remove(e)
		break
	}
	if nat {
		if !modelTuple(modelShapes[shape], f.SNAT, f.SNATPort) || o.taken(f.ReplyKey(), m.now) {
			m.Fatalf("%s: got tuple %d:%d, which is not free", m.op, f.SNAT, f.SNATPort)
		}
		given.SNAT, given.SNATPort = f.SNAT, f.SNATPort
	}
	given.Deadline = m.now + Time(timeout)
	if given.State == StateFree {
		given.State = map[bool]State{true: StateHalfOpen, false: StateUnreplied}[f.Proto == protoTCP]
	}
	given.seq = f.seq
	if f != given {
		m.Fatalf("%s: the copy became %+v, want %+v", m.op, f, given)
	}
	o.flows = append(o.flows, &entry{Flow: f, ref: ref, resetBy: -1, born: m.now})
}

// checkVictim checks that a flow that was evicted was one that may be, and,
// unless the search was hasty, the right one.
func (m *model) checkVictim(e *entry, w *Worker, full, hasty bool, lowest int) {
	if hasty && rankOf(e.State) != 4 {
		return
	}
	if !full {
		m.Fatalf("%s: evicted %+v with records to spare", m.op, e.Flow)
	}
	if rank := rankOf(e.State); rank != lowest || rank == 4 {
		m.Fatalf("%s: evicted %+v of rank %d while there is one of rank %d", m.op, e.Flow, rank, lowest)
	}
	if lowest == 0 {
		return // the first few half-open flows stand for all
	}
	for _, other := range m.o.flows {
		if w.owns(uint32(other.ref)) && rankOf(other.State) == lowest && !other.over(m.now) && other.Deadline.Before(e.Deadline) {
			m.Fatalf("%s: evicted %+v, but %+v ends earlier", m.op, e.Flow, other.Flow)
		}
	}
}

func (m *model) isPaused(k pauseKey) bool {
	until, ok := m.o.paused[k]
	return ok && int32(m.now-until) < 0
}

func (m *model) hasFreeTuple(f Flow, ports []PortRange) bool {
	for local := uint16(5); local <= 6; local++ {
		for port := uint16(1); port < 200; port++ {
			f.SNAT, f.SNATPort = local, port
			if modelTuple(ports, local, port) && !m.o.taken(f.ReplyKey(), m.now) {
				return true
			}
		}
	}
	return false
}

func modelTuple(ports []PortRange, local, port uint16) bool {
	for _, p := range ports {
		if p.Local == local && port != 0 && port >= p.First && port <= p.Last {
			return true
		}
	}
	return false
}

// compare looks up every key there can be, and checks the table's insides.
func (m *model) compare(step int) {
	m.Helper()
	check := func(k Key) {
		var f Flow
		ref, dir, ok := lookup(m.tab, k, m.now, &f)
		e, wantDir := m.o.live(k, m.now)
		switch {
		case e == nil && ok:
			m.Fatalf("step %d, %s: %+v finds %+v, which should not be there", step, m.op, k, f)
		case e != nil && (!ok || ref != e.ref || dir != wantDir || f != e.Flow):
			m.Fatalf("step %d, %s: %+v finds %v %d %+v, want %d %+v", step, m.op, k, ok, ref, f, e.ref, e.Flow)
		}
	}
	for i := range modelClients {
		f := m.flow(&script{data: []byte{byte(i), 0, 0}})
		check(f.ForwardKey())
	}
	for _, e := range m.o.flows {
		if e.SNAT != 0 {
			check(e.ReplyKey())
		}
	}
	if err := checkTable(m.tab, m.now, 0); err != nil {
		m.Fatalf("step %d, %s: %v", step, m.op, err)
	}
	ranged := 0
	m.tab.Range(func(f *Flow) bool {
		if f.Deadline.Before(m.now) || f.Deadline == m.now {
			return true
		}
		ranged++
		if e, _ := m.o.live(f.ForwardKey(), m.now); e == nil || e.Flow != *f {
			m.Fatalf("step %d, %s: Range shows %+v", step, m.op, *f)
		}
		return true
	})
	for _, e := range m.o.flows {
		if !e.resting && !e.over(m.now) {
			ranged--
		}
	}
	if ranged != 0 {
		m.Fatalf("step %d, %s: Range shows %d flows too many", step, m.op, ranged)
	}
}

func TestModel(t *testing.T) {
	var sum Stats
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			data := make([]byte, 3000)
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
			got := runModel(t, data)
			sum.add(&got)
		})
	}
	// A run in which something never happened has shown nothing about it.
	if sum.Inserted == 0 || sum.Existing == 0 || sum.Expired == 0 || sum.Forgotten == 0 || sum.Full == 0 || sum.Exhausted == 0 ||
		sum.EvictedHalfOpen == 0 || sum.EvictedUnreplied == 0 || sum.EvictedAffinity == 0 || sum.EvictedFinWait == 0 {
		t.Errorf("something never happened: %+v", sum)
	}
	if sum.NoRoom != 0 || sum.Repaired != 0 {
		t.Errorf("something happened that must not: %+v", sum)
	}
	t.Logf("%+v", sum)
}

func FuzzModel(f *testing.F) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 2))
		data := make([]byte, 400)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		runModel(t, data[:min(len(data), 4000)])
	})
}
