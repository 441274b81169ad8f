package dataplane_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"fairlead/dataplane"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/ledger"
	"fairlead/dataplane/memo"
	"fairlead/dataplane/nic"
	"fairlead/dataplane/nic/nictest"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/perf/cacheline"
)

// mate is one of two workers over queues in memory, with the packets of flows
// of its own.
type mate struct {
	t       *testing.T
	pool    *nic.Pool
	queues  [2]*nictest.Queue
	worker  *dataplane.Worker
	packets [2][][]byte // by port: from clients, and from the backends of NAT flows
	look    func()      // called in the middle of the worker's rounds
}

// watched is a queue that has its worker's memory looked at whenever it is used:
// what a round leaves as it was, it has changed in between.
type watched struct {
	*nictest.Queue
	m *mate
}

func (q watched) Receive(frames []nic.Frame) int  { defer q.m.look(); return q.Queue.Receive(frames) }
func (q watched) Transmit(frames []nic.Frame) int { defer q.m.look(); return q.Queue.Transmit(frames) }
func (q watched) Complete(addrs []uint64) int     { defer q.m.look(); return q.Queue.Complete(addrs) }
func (q watched) Refill(addrs []uint64) int       { defer q.m.look(); return q.Queue.Refill(addrs) }

func newMate(t *testing.T, c *crew, index int) *mate {
	t.Helper()
	m := &mate{t: t, look: func() {}}
	var err error
	if m.pool, err = nic.NewPool(make([]byte, 512*2048), 2048, 256); err != nil {
		t.Fatal(err)
	}
	var queues []dataplane.PortQueue
	for port := range m.queues {
		m.queues[port] = nictest.New(m.pool, nictest.Config{Port: uint16(port), FillSize: 256})
		queues = append(queues, dataplane.PortQueue{Port: uint16(port), Queue: watched{m.queues[port], m}})
	}
	m.worker = c.worker(index, m.pool, queues...)
	m.worker.Step()
	return m
}

// carry has the worker carry frames that come in by a port, and returns what it
// sent by both.
func (m *mate) carry(port int, frames ...[]byte) (sent [2][][]byte) {
	m.t.Helper()
	for part := range slices.Chunk(frames, nic.BatchSize) {
		for _, f := range part {
			if !m.queues[port].Inject(f) {
				m.t.Fatal("the fill ring is empty")
			}
		}
		for m.worker.Step() > 0 {
		}
	}
	for i := range sent {
		sent[i] = m.queues[i].Sent()
	}
	if len(sent[0])+len(sent[1]) != len(frames) {
		m.t.Fatalf("%d of %d frames were carried: %v", len(sent[0])+len(sent[1]), len(frames), m.worker.Counters.Ledger.Ended)
	}
	return sent
}

// open opens a few flows of every service from a network of the worker's own,
// and keeps a packet of each in each direction.
func (m *mate) open(index int, services []testService) {
	m.t.Helper()
	for _, s := range services {
		for i := range 5 {
			client, vip := fmt.Sprintf("203.0.113.%d:%d", 10+index, 2000+i), s.vip+":80"
			if packettest.Addr(s.vip).Is6() {
				client, vip = fmt.Sprintf("[2001:db8:20::%d]:%d", 10+index, 2000+i), "["+vip[:len(s.vip)]+"]:80"
			}
			src, dst := packettest.AddrPort(client), packettest.AddrPort(vip)
			macs, more := packettest.MACs(ourMAC0, clientMAC), packettest.MACs(ourMAC1, backendMAC)
			first, next := packettest.SCTP(src, dst, macs), packettest.SCTP(src, dst, macs)
			switch s.proto {
			case packet.ProtoTCP:
				first, next = packettest.TCP(src, dst, macs, packettest.Flags(syn)), packettest.TCP(src, dst, macs, packettest.Flags(ack))
			case packet.ProtoUDP:
				first, next = packettest.UDP(src, dst, macs), packettest.UDP(src, dst, macs)
			}
			m.carry(0, first)
			sent := m.carry(0, next)
			m.packets[0] = append(m.packets[0], next)
			if s.method.String() != "nat" {
				continue
			}
			answer := reverse(sent[1][0])
			if s.proto == packet.ProtoTCP {
				var info packet.Info
				packet.Parse(answer, &info)
				answer = packettest.TCP(packettest.AddrPort(endpoint(info.Src, info.SrcPort)), packettest.AddrPort(endpoint(info.Dst, info.DstPort)), more, packettest.Flags(ack))
			}
			m.carry(1, answer)
			m.packets[1] = append(m.packets[1], answer)
		}
	}
}

// round has the worker carry one packet of each flow in each direction; replies
// are those of another worker's flows, if one is given.
func (m *mate) round(repliesOf *mate) {
	m.carry(0, m.packets[0]...)
	m.carry(1, repliesOf.packets[1]...)
}

// pair is two workers of a crew with established flows by every method and over
// both families, and all memory that either can reach.
type pair struct {
	*crew
	t      *testing.T
	mates  [2]*mate
	memory cacheline.Memory
}

func newPair(t *testing.T, kind memoKind) *pair {
	t.Helper()
	services := everyService()
	p := &pair{t: t, crew: newCrew(t, 2, 4096, kind, testFIB(services))}
	for i := range p.mates {
		p.mates[i] = newMate(t, p.crew, i)
		p.mates[i].open(i, services)
	}
	p.now += 2000
	for range 20 {
		p.now += 100
		for _, m := range p.mates {
			m.round(m)
		}
	}
	for i, m := range p.mates {
		p.memory.Reach(fmt.Sprintf("worker %d", i), m.worker)
	}
	return p
}

// mostLooks is how often memory is looked at while a worker is in a round: more
// than it has calls of its queues in one.
const mostLooks = 60

// watch returns the lines that are written while a worker does something,
// looked at in the middle of its first rounds and at the end. It fails for
// objects that share a line with a neighbour wherever they have one.
func (p *pair) watch(m *mate, rounds int, f func()) cacheline.Lines {
	p.t.Helper()
	p.memory.Look()
	looks := 0
	m.look = func() {
		if looks++; looks <= mostLooks {
			p.memory.See()
		}
	}
	for range rounds {
		f()
	}
	m.look = func() {}
	p.memory.See()
	if crowded := own(p.memory.Crowded(p.mapped...)); len(crowded) > 0 {
		p.t.Errorf("objects that were written may share lines with others:\n%s", strings.Join(crowded, "\n"))
	}
	return p.memory.Written()
}

// own leaves out what the queues in memory are made of.
func own(ways []string) []string {
	return slices.DeleteFunc(ways, func(way string) bool { return strings.Contains(way, ".Queue.") })
}

// TestNoLineIsWrittenByTwoWorkers has two workers carry packets of established
// flows, and compares the cache lines that each has written: there is none that
// both have.
func TestNoLineIsWrittenByTwoWorkers(t *testing.T) {
	for _, kind := range []memoKind{memoOff, memoPrivate, memoShared} {
		t.Run(string(kind), func(t *testing.T) {
			p := newPair(t, kind)
			for _, phase := range []struct {
				name   string
				step   flow.Time // from one round to the next
				other  bool      // replies come by the other worker
				noted  bool      // routes are noted to be in use: once a second, for all workers
				locked bool      // every lock that workers share is held by somebody else
			}{
				{name: "within a moment"},
				{name: "while others hold all locks", locked: true},
				{name: "replies by the other worker", other: true},
				{name: "while time goes on", step: 100, noted: true},
			} {
				release := func() bool { return true }
				if phase.locked {
					release = hold(p.flows, p.memos)
				}
				var written [2]cacheline.Lines
				for i, m := range p.mates {
					from := m
					if phase.other {
						from = p.mates[1-i]
					}
					written[i] = p.watch(m, 100, func() {
						m.round(from)
						p.now += phase.step
					})
				}
				if !release() {
					t.Errorf("%s: a worker has waited for one", phase.name)
				}
				both := cacheline.Both(written[0], written[1])
				if phase.noted {
					both = slices.DeleteFunc(both, func(way string) bool { return strings.Contains(way, ".ways.users+") })
				}
				t.Logf("%s: %d and %d lines", phase.name, len(written[0]), len(written[1]))
				if len(both) > 0 {
					t.Errorf("%s: both workers have written:\n%s", phase.name, strings.Join(both, "\n"))
				}
			}
		})
	}
}

// TestASharedLineIsFound asserts that the test above can fail: by one counter
// that workers share, and by two that lie side by side.
func TestASharedLineIsFound(t *testing.T) {
	for _, c := range []struct {
		name  string
		share func(p *pair)
		want  string
	}{
		{"one ledger", func(p *pair) { p.mates[1].worker.Counters.Ledger = p.mates[0].worker.Counters.Ledger }, "Counters.Ledger+"},
		{"tallies of one array", func(p *pair) {
			all := make([]ledger.Tally, 2*256)
			last := len(everyService())
			p.mates[0].worker.Counters.Services = all[:256]
			p.mates[1].worker.Counters.Services = all[last:][:256] // its first is the other's last's neighbour
		}, "Counters.Services+"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, memoPrivate)
			c.share(p)
			p.memory = cacheline.Memory{}
			var written [2]cacheline.Lines
			for i, m := range p.mates {
				p.memory.Reach(fmt.Sprintf("worker %d", i), m.worker)
			}
			for i, m := range p.mates {
				written[i] = p.watch(m, 3, func() { m.round(m) })
			}
			both := cacheline.Both(written[0], written[1])
			if len(both) == 0 || !strings.Contains(strings.Join(both, "\n"), c.want) {
				t.Errorf("found are %q, want %s", both, c.want)
			}
		})
	}
}

// patience is how long a worker may wait for a lock before the test has failed.
const patience = 20 * time.Second

// hold takes every lock of a flow table and of memos, as if others had them: a
// worker that wants one waits until patience is over. The function it returns
// lets them go, and is false when that was so.
func hold(flows *flow.Table, memos *memo.Table) (release func() bool) {
	var undo []func()
	locks := reflect.ValueOf(flows).Elem().FieldByName("locks")
	for i := range locks.Len() {
		lock := (*atomic.Uint32)(unsafe.Pointer(locks.Index(i).UnsafeAddr()))
		lock.Store(1)
		undo = append(undo, func() { lock.Store(0) })
	}
	if memos != nil {
		mu := (*sync.Mutex)(unsafe.Pointer(reflect.ValueOf(memos).Elem().FieldByName("mu").UnsafeAddr()))
		mu.Lock()
		undo = append(undo, mu.Unlock)
	}
	all := sync.OnceFunc(func() {
		for _, f := range undo {
			f()
		}
	})
	late := time.AfterFunc(patience, all)
	return func() bool {
		inTime := late.Stop()
		all()
		return inTime
	}
}
