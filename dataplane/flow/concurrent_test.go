package flow

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// churn makes one worker do everything a worker does, at random, on flows that
// it shares with the others. What it reads must hang together: a flow's
// service and backend are functions of its client, so a copy put together from
// two flows gives itself away.
type churn struct {
	w     *Worker
	rng   *rand.Rand
	flows int // how many different flows there are
	clock func() Time
	fail  func(format string, args ...any)
}

var (
	churnPorts    = []PortRange{{Local: 5, First: 1, Last: 100}, {Local: 6, First: 1, Last: 50}}
	churnTimeouts = Timeouts{HalfOpen: 300, Established: 2000, FinWait: 500, Closed: 100, Unreplied: 400, Stream: 1000}
)

// flow is the i-th of the flows; three in four are NAT.
func (c *churn) flow(i int) Flow {
	f := Flow{Client: client(i << 8), ClientPort: uint16(i), VIP: 1, VIPPort: 80, Proto: protoTCP, ServiceID: uint32(i) * 7, BackendID: uint32(i) * 2}
	if i%5 == 0 {
		f.Proto = 17
	}
	if i%4 != 0 {
		f.Backend, f.BackendPort = addr4(10, 0, 0, byte(i%3)), 8080
	}
	return f
}

func (c *churn) check(f *Flow, k *Key, dir Direction) {
	i := int(f.ClientPort)
	want := c.flow(i)
	want.SNAT, want.SNATPort, want.Deadline, want.State, want.seq, want.Via = f.SNAT, f.SNATPort, f.Deadline, f.State, f.seq, f.Via
	if f.BackendID == want.BackendID+1 && f.SNAT == 0 { // moved
		want.BackendID++
	}
	key := f.ForwardKey()
	if dir == Reply {
		key = f.ReplyKey()
	}
	if *f != want || k != nil && key != *k {
		c.fail("looked for %+v, found %+v, want %+v", k, *f, want)
	}
}

func (c *churn) step() {
	t, now := c.w.t, c.clock()
	f := c.flow(c.rng.IntN(c.flows))
	k := f.ForwardKey()
	h := t.Hash(&k)
	ref, dir, ok := NoRef, Forward, false
	if c.rng.IntN(8) != 0 { // else as if another worker's insertion came between
		ref, dir, ok = t.Lookup(&k, h, now, &f)
	}
	switch {
	case !ok && f.BackendPort != 0:
		var res BindResult
		if ref, res = c.w.Bind(&f, churnPorts, now, churnTimeouts.HalfOpen); res != Bound && res != Existing {
			return
		}
	case !ok:
		if ref, ok = c.w.Insert(&f, now, churnTimeouts.HalfOpen); !ok {
			return
		}
	}
	c.check(&f, &k, dir)
	if f.SNAT != 0 && c.rng.IntN(2) == 0 {
		k := f.ReplyKey()
		var g Flow
		if r, d, ok := t.Lookup(&k, t.Hash(&k), now, &g); ok {
			c.check(&g, &k, d)
			ref, f, dir = r, g, d
		}
	}
	switch c.rng.IntN(16) {
	case 0:
		c.w.Forget(ref, &f)
	case 1:
		t.SetVia(ref, &f, uint16(c.rng.Uint32()))
	case 2:
		if f.SNAT == 0 {
			t.Move(ref, &f, uint32(f.ClientPort)*2+uint32(c.rng.IntN(2)))
		}
	default:
		flags := []uint8{tcpACK, tcpACK, tcpACK, tcpSYN, tcpFIN | tcpACK, tcpRST}[c.rng.IntN(6)]
		t.Advance(ref, &f, dir, flags, now, &churnTimeouts)
	}
	if c.rng.IntN(4) == 0 {
		c.w.Sweep(now, 16)
	}
}

// TestConcurrentWorkers is meant for the race detector as much as for its own
// checks. The table is too small for all flows, so there is eviction, and the
// ports are too few, so there is exhaustion.
func TestConcurrentWorkers(t *testing.T) {
	const workers, rounds, steps = 4, 10, 10_000
	tab, err := New(memory(1200), Config{Flows: 1200, Workers: workers, SNATGuard: 50})
	if err != nil {
		t.Fatal(err)
	}
	var ticks atomic.Uint32
	ticks.Store(^uint32(0) - 2000)
	for round := range rounds {
		var wg sync.WaitGroup
		for i := range workers {
			wg.Go(func() {
				c := &churn{w: tab.Worker(i), rng: rand.New(rand.NewPCG(uint64(round), uint64(i))), flows: 3000, fail: t.Errorf,
					clock: func() Time { return Time(ticks.Add(uint32(i % 2))) }}
				for range steps {
					c.step()
				}
			})
		}
		stop := make(chan struct{})
		var watcher sync.WaitGroup
		watcher.Go(func() {
			c := &churn{fail: t.Errorf}
			for {
				select {
				case <-stop:
					return
				default:
				}
				tab.Range(func(f *Flow) bool { c.check(f, nil, Forward); return true })
				tab.Stats()
			}
		})
		wg.Wait()
		close(stop)
		watcher.Wait()
		if err := checkTable(tab, Time(ticks.Load()), 0); err != nil {
			t.Fatalf("after round %d: %v", round, err)
		}
	}
	s := tab.Stats()
	if s.Inserted == 0 || s.Existing == 0 || s.Expired == 0 || s.Forgotten == 0 || s.Exhausted == 0 || s.NoRoom != 0 {
		t.Errorf("stats %+v", s)
	}
	now := Time(ticks.Load()) + 1<<20
	sweepAll(tab, now)
	if err := checkEmpty(tab, 0); err != nil {
		t.Error(err)
	}
	t.Logf("%+v", s)
}

// TestNoTornCopies has one worker put flow after flow with the same key into
// the only record there is, while others read it: a copy is of one of them.
func TestNoTornCopies(t *testing.T) {
	tab := newTable(t, 1, 1)
	w := tab.Worker(0)
	made := func(n uint32) Flow {
		f := dsrFlow(1, StateEstablished)
		f.ServiceID, f.BackendID, f.Via = n, n, uint16(n)
		f.Backend.Hi, f.BackendPort = uint64(n), uint16(n)
		return f
	}
	first := made(0)
	k := first.ForwardKey()
	h := tab.Hash(&k)
	var done atomic.Bool
	var found atomic.Uint64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			var f Flow
			for !done.Load() {
				if _, _, ok := tab.Lookup(&k, h, 1, &f); !ok {
					continue
				}
				want := made(f.ServiceID)
				want.Deadline, want.seq = f.Deadline, f.seq
				if f != want {
					t.Errorf("found %+v, want %+v", f, want)
					return
				}
				found.Add(1)
			}
		})
	}
	for n := uint32(0); n < 300_000 || found.Load() < 1000 && n < 1<<22; n++ {
		f := made(n)
		ref, ok := w.Insert(&f, 0, 1000)
		if !ok {
			t.Error("no room")
			break
		}
		w.Forget(ref, &f)
	}
	done.Store(true)
	wg.Wait()
}

// TestExpiredFlowStaysDead is the packet that found a flow just before its
// time, while another worker gave its keys to a new flow just after.
func TestExpiredFlowStaysDead(t *testing.T) {
	ports := []PortRange{{Local: 5, First: 7, Last: 7}}
	for _, samePort := range []bool{false, true} {
		tab := newTable(t, 10, 2)
		old := natFlow(1, StateEstablished)
		ref, _ := tab.Worker(0).Bind(&old, ports, 0, 1000)
		if mustFind(t, tab, &old, 999) != ref {
			t.Fatal("not found before its time")
		}
		next := natFlow(1, StateEstablished)
		if samePort {
			// Another client at the same backend is given the tuple.
			next = natFlow(2, StateEstablished)
			next.Backend = old.Backend
		} else {
			next.Backend = addr4(10, 9, 9, 9)
		}
		again, res := tab.Worker(1).Bind(&next, ports, 1000, 1000)
		if res != Bound || again == ref {
			t.Fatalf("the new flow: %v %d", res, again)
		}
		tab.Advance(ref, &old, Forward, tcpACK, 999, &testTimeouts)
		tab.SetVia(ref, &old, 9)
		if tab.Refresh(ref, &old, 999, 5000) {
			t.Error("a flow whose key was given away was refreshed")
		}
		for dir, k := range []Key{next.ForwardKey(), next.ReplyKey()} {
			var f Flow
			if got, d, ok := lookup(tab, k, 1001, &f); !ok || got != again || int(d) != dir || f != next {
				t.Errorf("%+v finds %d %+v, want %d %+v", k, got, f, again, next)
			}
		}
		if err := checkTable(tab, 1001, 0); err != nil {
			t.Error(err)
		}
	}
}
