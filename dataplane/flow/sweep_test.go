package flow

import (
	"sync/atomic"
	"testing"
)

// TestEveryCrashPoint builds by hand what a process leaves when it is killed
// between two stores, and checks that the next one's first sweep puts it right.
func TestEveryCrashPoint(t *testing.T) {
	// A live record of the second flow, bound to a tuple, is the raw material.
	build := func(t *testing.T) (*Table, []byte, uint32, Flow) {
		mem := memory(20)
		tab, err := New(mem, Config{Flows: 20, Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		w := tab.Worker(0)
		ports := []PortRange{{Local: 5, First: 1, Last: 1000}}
		other := natFlow(1, StateEstablished)
		if _, res := w.Bind(&other, ports, 0, 1<<20); res != Bound {
			t.Fatal(res)
		}
		f := natFlow(2, StateEstablished)
		ref, res := w.Bind(&f, ports, 0, 1<<20)
		if res != Bound {
			t.Fatal(res)
		}
		return tab, mem, uint32(ref), f
	}
	slotOf := func(tab *Table, rec uint32, k Key, dir Direction) *uint64 {
		h := tab.Hash(&k)
		probe, place, ok := tab.find(h, makeSlot(h, rec, dir))
		if !ok {
			panic("no slot")
		}
		return &tab.probe(h, probe)[place]
	}
	for _, c := range []struct {
		about    string
		harm     func(tab *Table, rec uint32, f Flow)
		repaired uint64
		stays    bool
		slack    uint64
	}{
		{"nothing", func(*Table, uint32, Flow) {}, 0, true, 0},
		{"adding: sequence made odd, record otherwise as it was: free", func(tab *Table, rec uint32, f Flow) {
			*slotOf(tab, rec, f.ForwardKey(), Forward) = 0
			*slotOf(tab, rec, f.ReplyKey(), Reply) = 0
			tab.records[rec][wordIdent]++
			tab.records[rec][wordLife] = 0
		}, 0, false, 0},
		{"adding: half-written", func(tab *Table, rec uint32, f Flow) {
			*slotOf(tab, rec, f.ForwardKey(), Forward) = 0
			*slotOf(tab, rec, f.ReplyKey(), Reply) = 0
			r := &tab.records[rec]
			r[wordIdent]++
			r[wordPorts] ^= 0xffff
		}, 1, false, 0},
		{"adding: written, no key published", func(tab *Table, rec uint32, f Flow) {
			*slotOf(tab, rec, f.ForwardKey(), Forward) = 0
			*slotOf(tab, rec, f.ReplyKey(), Reply) = 0
		}, 1, false, 0},
		{"adding: counted as passed, but not published", func(tab *Table, rec uint32, f Flow) {
			*slotOf(tab, rec, f.ForwardKey(), Forward) = 0
			k := f.ForwardKey()
			tab.probe(tab.Hash(&k), 0)[0]++
			tab.probe(tab.Hash(&k), 1)[0]++
		}, 1, false, 2},
		{"adding: only the reply key published", func(tab *Table, rec uint32, f Flow) {
			*slotOf(tab, rec, f.ForwardKey(), Forward) = 0
		}, 1, false, 0},
		{"removing: killed, nothing cleared", func(tab *Table, rec uint32, f Flow) {
			tab.records[rec].kill(tab.records[rec].life())
		}, 0, false, 0},
		{"removing: killed, reply key cleared", func(tab *Table, rec uint32, f Flow) {
			tab.records[rec].kill(tab.records[rec].life())
			*slotOf(tab, rec, f.ReplyKey(), Reply) = 0
		}, 0, false, 0},
		{"removing: killed, both keys cleared", func(tab *Table, rec uint32, f Flow) {
			tab.records[rec].kill(tab.records[rec].life())
			*slotOf(tab, rec, f.ReplyKey(), Reply) = 0
			*slotOf(tab, rec, f.ForwardKey(), Forward) = 0
		}, 0, false, 0},
	} {
		t.Run(c.about, func(t *testing.T) {
			tab, mem, rec, f := build(t)
			c.harm(tab, rec, f)
			next, err := New(mem, Config{Flows: 20, Workers: 1})
			if err != nil {
				t.Fatal(err)
			}
			w := next.Worker(0)
			if err := checkCrashed(next, 1); err != nil {
				t.Fatal(err)
			}
			// The client tries again before anything was swept.
			again := natFlow(2, StateEstablished)
			if _, res := w.Bind(&again, []PortRange{{Local: 5, First: 1, Last: 1000}}, 1, 1<<20); (res == Existing) != c.stays || res != Existing && res != Bound {
				t.Fatalf("the client's second attempt: %v", res)
			}
			sweepAll(next, 1)
			if err := checkTable(next, 1, c.slack); err != nil {
				t.Fatal(err)
			}
			s := next.Stats()
			if s.Repaired != c.repaired || s.Live() != 2 {
				t.Errorf("stats %+v, want %d repaired and 2 live", s, c.repaired)
			}
			if len(w.free) != 18 {
				t.Errorf("%d free records, want 18", len(w.free))
			}
			sweepAll(next, 1<<21)
			if err := checkEmpty(next, c.slack); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFloodSparesEstablished floods a table that is half full of established
// flows with SYNs, five times its capacity.
func TestFloodSparesEstablished(t *testing.T) {
	const flows, established = 20_000, 10_000
	tab := newTable(t, flows, 2)
	ports := []PortRange{{Local: 5, First: 1, Last: 65535}}
	good := make([]Flow, established)
	for i := range good {
		good[i] = natFlow(i, StateEstablished)
		if i%2 == 0 {
			good[i].Proto, good[i].State = 17, StateStream
		}
		if _, res := tab.Worker(i%2).Bind(&good[i], ports, 0, 1<<30); res != Bound {
			t.Fatal(res)
		}
	}
	failed, answered := 0, uint64(0)
	for i := range 5 * flows {
		now := Time(i / 1000)
		f := natFlow(1_000_000+i, StateHalfOpen)
		if _, res := tab.Worker(i%2).Bind(&f, ports, now, 60_000); res != Bound {
			failed++
			continue
		}
		// A client that answers at once gets through the flood.
		if i%100 == 0 {
			ref := mustFind(t, tab, &f, now)
			tab.Advance(ref, &f, Forward, tcpACK, now, &testTimeouts)
			answered++
		}
		if i%64 == 0 {
			tab.Worker(i%2).Sweep(now, 16)
		}
	}
	if failed > 5*flows/1000 {
		t.Errorf("%d flows of the flood found no room", failed)
	}
	for i := range good {
		mustFind(t, tab, &good[i], 100)
	}
	sweepAll(tab, 100)
	sweepAll(tab, 100)
	s := tab.Stats()
	if s.EvictedHalfOpen == 0 || s.EvictedUnreplied+s.EvictedAffinity+s.EvictedFinWait != 0 {
		t.Errorf("stats %+v", s)
	}
	if got := s.Flows[StateEstablished] + s.Flows[StateStream]; got != established+answered {
		t.Errorf("%d flows are established, want %d", got, established+answered)
	}
	if err := checkTable(tab, 100, 0); err != nil {
		t.Error(err)
	}
	// With nothing but established flows the newcomer is refused, after a
	// bounded search.
	full := newTable(t, 1000, 1)
	w := full.Worker(0)
	for i := range 1000 {
		f := dsrFlow(i, StateEstablished)
		w.Insert(&f, 0, 1<<30)
	}
	f := dsrFlow(5000, StateHalfOpen)
	if _, ok := w.Insert(&f, 0, 1000); ok {
		t.Error("a newcomer pushed out an established flow")
	}
}

// TestSweepFindsWhatTheSearchMisses is a table so full that a search rarely
// meets the few free records.
func TestSweepFindsWhatTheSearchMisses(t *testing.T) {
	tab := newTable(t, 10_000, 1)
	w := tab.Worker(0)
	for i := range 10_000 {
		f := dsrFlow(i, StateEstablished)
		timeout := uint32(1 << 30)
		if i == 9_999 {
			timeout = 10
		}
		w.Insert(&f, 0, timeout)
	}
	f := dsrFlow(10_000, StateHalfOpen)
	if _, ok := w.Insert(&f, 10, 1000); ok {
		t.Fatal("the search found it")
	}
	for range 10_000 / 16 {
		w.Sweep(10, 16)
	}
	if _, ok := w.Insert(&f, 10, 1000); !ok {
		t.Error("the sweep did not find it")
	}
}

// TestSequenceWraps uses one record so often that its sequence starts again.
func TestSequenceWraps(t *testing.T) {
	tab := newTable(t, 1, 1)
	w := tab.Worker(0)
	atomic.StoreUint64(&tab.records[0][wordIdent], seqMask-5)
	for i := range 8 {
		f := natFlow(i, StateEstablished)
		ref, res := w.Bind(&f, []PortRange{{Local: 5, First: 1, Last: 9}}, 0, 1000)
		if res != Bound || f.seq&seqOdd != 0 {
			t.Fatalf("flow %d: %v %+v", i, res, f)
		}
		mustFind(t, tab, &f, 1)
		w.Forget(ref, &f)
	}
	if seq := tab.records[0].load(wordIdent) & seqMask; seq > 100 {
		t.Errorf("the sequence is %d and has not wrapped", seq)
	}
}

// TestCensus checks the numbers of live flows by state.
func TestCensus(t *testing.T) {
	tab := newTable(t, 100, 3)
	for i := range 40 {
		f := dsrFlow(i, []State{StateHalfOpen, StateEstablished, StateEstablished, StateAffinity}[i%4])
		tab.Worker(i%3).Insert(&f, 0, 1000)
	}
	if s := tab.Stats(); s.Live() != 0 || s.Capacity != 100 || tab.Capacity() != 100 {
		t.Errorf("before a sweep: %+v", s)
	}
	sweepAll(tab, 1)
	s := tab.Stats()
	if s.Flows != [numStates]uint64{StateHalfOpen: 10, StateEstablished: 20, StateAffinity: 10} || s.Live() != 40 {
		t.Errorf("after a sweep: %+v", s)
	}
	if n := sweepAll(tab, 1000); n != 40 {
		t.Errorf("%d expired, want 40", n)
	}
	if s := tab.Stats(); s.Live() != 0 || s.Expired != 40 {
		t.Errorf("after all have expired: %+v", s)
	}
}
