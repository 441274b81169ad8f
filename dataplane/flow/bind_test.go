package flow

import (
	"sync"
	"testing"
)

type outside struct {
	snat, port uint16
}

// TestWholePortRange fills every port towards one backend, in both orders of
// the world: nothing is given twice, nothing is left out.
func TestWholePortRange(t *testing.T) {
	const all = 65535 - 1024 + 1
	tab := newTable(t, 100_000, 1)
	w := tab.Worker(0)
	ports := []PortRange{{Local: 5, First: 1024, Last: 65535}}
	bind := func(i int, now Time) (Flow, Ref, BindResult) {
		f := natFlow(i, StateEstablished)
		f.Backend = addr4(10, 0, 0, 1)
		ref, res := w.Bind(&f, ports, now, 1_000_000)
		return f, ref, res
	}
	flows := make([]Flow, all)
	refs := make([]Ref, all)
	seen := map[outside]bool{}
	for i := range flows {
		var res BindResult
		if flows[i], refs[i], res = bind(i, 0); res != Bound {
			t.Fatalf("flow %d: %v", i, res)
		}
		o := outside{flows[i].SNAT, flows[i].SNATPort}
		if o.snat != 5 || o.port < 1024 || seen[o] {
			t.Fatalf("flow %d has %+v (given before: %v)", i, o, seen[o])
		}
		seen[o] = true
	}
	f, _, res := bind(all, 0)
	if res != Exhausted || f.SNAT != 0 || f.SNATPort != 0 {
		t.Fatalf("flow %d: %v %+v", all, res, f)
	}
	// Another backend, another protocol and another SNAT address are not
	// affected.
	other := natFlow(all, StateEstablished)
	other.Backend = addr4(10, 0, 0, 2)
	if _, res := w.Bind(&other, ports, 0, 1000); res != Bound {
		t.Fatalf("another backend: %v", res)
	}
	w.Forget(mustFind(t, tab, &other, 0), &other)
	udp := natFlow(all, StateUnreplied)
	udp.Backend, udp.Proto = addr4(10, 0, 0, 1), 17
	if _, res := w.Bind(&udp, ports, 0, 1000); res != Bound {
		t.Fatalf("another protocol: %v", res)
	}
	more := natFlow(all, StateEstablished)
	more.Backend = addr4(10, 0, 0, 1)
	ref, res := w.Bind(&more, append(ports, PortRange{Local: 6, First: 7, Last: 7}), 0, 1000)
	if res != Bound || more.SNAT != 6 || more.SNATPort != 7 {
		t.Fatalf("another address: %v %+v", res, more)
	}
	w.Forget(ref, &more)

	// Existing flows are found although nothing is free.
	f = flows[77]
	f.BackendID = 0
	f.SNAT, f.SNATPort = 0, 0
	if ref, res := w.Bind(&f, ports, 0, 1000); res != Existing || ref != refs[77] || f != flows[77] {
		t.Fatalf("existing flow: %v %v %+v", ref, res, f)
	}

	w.Forget(refs[12345], &flows[12345])
	if _, _, res = bind(all, 49); res != Exhausted {
		t.Fatalf("within the pause: %v", res)
	}
	if f, _, res = bind(all, 50); res != Bound || f.SNATPort != flows[12345].SNATPort {
		t.Fatalf("after the pause: %v %+v, want port %d", res, f, flows[12345].SNATPort)
	}
	if _, _, res = bind(all+1, 100); res != Exhausted {
		t.Fatalf("full again: %v", res)
	}
	if err := checkTable(tab, 100, 0); err != nil {
		t.Fatal(err)
	}
	// All time out at once; none is swept.
	if _, _, res = bind(all+1, 1_000_000); res != Bound {
		t.Fatalf("after all have timed out: %v", res)
	}
	sweepAll(tab, 1_000_000)
	if err := checkTable(tab, 1_000_000, 0); err != nil {
		t.Fatal(err)
	}
	if s := tab.Stats(); s.Exhausted != 3 || s.Full != 0 || s.NoRoom != 0 {
		t.Errorf("stats %+v", s)
	}
}

func mustFind(t *testing.T, tab *Table, f *Flow, now Time) Ref {
	t.Helper()
	ref, _, ok := lookup(tab, f.ForwardKey(), now, f)
	if !ok {
		t.Fatalf("flow %+v is not found", f)
	}
	return ref
}

func TestBindUsesEveryAddress(t *testing.T) {
	tab := newTable(t, 1000, 1)
	w := tab.Worker(0)
	ports := []PortRange{{Local: 5, First: 0, Last: 9}, {Local: 6, First: 5, Last: 4}, {Local: 7, First: 65530, Last: 65535}, {Local: 8, First: 3, Last: 3}}
	want := 9 + 0 + 6 + 1 // port 0 is never used
	count := map[uint16]int{}
	for i := range want {
		f := natFlow(i, StateHalfOpen)
		f.Backend = addr4(10, 0, 0, 1)
		if _, res := w.Bind(&f, ports, 0, 1000); res != Bound || f.SNATPort == 0 {
			t.Fatalf("flow %d: %v %+v", i, res, f)
		}
		count[f.SNAT]++
	}
	if count[5] != 9 || count[7] != 6 || count[8] != 1 {
		t.Errorf("ports by address: %v", count)
	}
	f := natFlow(100, StateHalfOpen)
	f.Backend = addr4(10, 0, 0, 1)
	if _, res := w.Bind(&f, ports, 0, 1000); res != Exhausted {
		t.Errorf("one more: %v", res)
	}
	for _, none := range [][]PortRange{nil, {{Local: 1, First: 0, Last: 0}}, {{Local: 1, First: 9, Last: 8}}} {
		if _, res := w.Bind(&f, none, 0, 1000); res != Exhausted {
			t.Errorf("%v: %v", none, res)
		}
	}
}

// TestTuplesRest checks how long an outside tuple stays with a flow that is
// over.
func TestTuplesRest(t *testing.T) {
	const guard = 3000
	tab, err := New(memory(10), Config{Flows: 10, Workers: 2, SNATGuard: guard})
	if err != nil {
		t.Fatal(err)
	}
	w := tab.Worker(0)
	one := []PortRange{{Local: 5, First: 7, Last: 7}}
	bind := func(i int, now Time) (Flow, Ref, BindResult) {
		f := natFlow(i, StateHalfOpen)
		f.Backend = addr4(10, 0, 0, 1)
		ref, res := w.Bind(&f, one, now, 1000)
		return f, ref, res
	}
	f, ref, res := bind(1, 0)
	if res != Bound {
		t.Fatal(res)
	}
	// Closed by FINs: until the Closed deadline, or the guard when longer.
	short := testTimeouts
	short.Closed = 100
	tab.Advance(ref, &f, Forward, tcpFIN|tcpACK, 10, &short)
	tab.Advance(ref, &f, Reply, tcpFIN|tcpACK, 10, &short)
	if f.State != StateClosed || f.Deadline != 10+guard {
		t.Fatalf("closed: %+v", f)
	}
	if _, _, res = bind(2, 10+guard-1); res != Exhausted {
		t.Fatalf("before the deadline: %v", res)
	}
	f, _, res = bind(2, 10+guard-1+pauseMS)
	if res != Bound {
		t.Fatalf("after the deadline: %v", res)
	}
	// Forgotten, by a worker that does not own it: nobody finds it, the client
	// may come again at once, but not with the same tuple.
	now := Time(10_000)
	ref = mustFind(t, tab, &f, 3100)
	tab.Worker(1).Sweep(now, 0)
	if !tab.Refresh(ref, &f, now, 1000) {
		t.Fatal("not refreshed")
	}
	tab.Worker(1).Forget(ref, &f)
	for _, k := range []Key{f.ForwardKey(), f.ReplyKey()} {
		if _, _, ok := lookup(tab, k, now, new(Flow)); ok {
			t.Fatalf("a forgotten flow is found by %+v", k)
		}
	}
	tab.Advance(ref, &f, Forward, tcpACK, now, &testTimeouts)
	tab.Worker(1).Forget(ref, &f)
	if _, _, res = bind(2, now); res != Exhausted {
		t.Fatalf("right after it was forgotten: %v", res)
	}
	two := append(one, PortRange{Local: 6, First: 7, Last: 7})
	again := natFlow(2, StateHalfOpen)
	again.Backend = addr4(10, 0, 0, 1)
	if _, res := w.Bind(&again, two, now, 100); res != Bound || again.SNAT != 6 {
		t.Fatalf("the same client: %v %+v", res, again)
	}
	sweepAll(tab, now+guard-1)
	if _, _, res = bind(3, now+guard-1); res != Exhausted {
		t.Fatalf("before the guard has passed: %v", res)
	}
	if _, _, res = bind(3, now+guard-1+pauseMS); res != Bound {
		t.Fatalf("after the guard has passed: %v", res)
	}
	if err := checkTable(tab, now+guard-1+pauseMS, 0); err != nil {
		t.Fatal(err)
	}
	if s := tab.Stats(); s.Forgotten != 1 {
		t.Errorf("stats %+v", s)
	}
}

// TestInsertWithTuple is a NAT flow whose tuple was chosen elsewhere.
func TestInsertWithTuple(t *testing.T) {
	tab := newTable(t, 10, 1)
	w := tab.Worker(0)
	f := natFlow(1, StateEstablished)
	f.SNAT, f.SNATPort = 5, 77
	ref, ok := w.Insert(&f, 0, 1000)
	if !ok {
		t.Fatal("refused")
	}
	if got, dir, ok := lookup(tab, f.ReplyKey(), 1, new(Flow)); !ok || got != ref || dir != Reply {
		t.Fatalf("reply key: %v %v %v", got, dir, ok)
	}
	same := f
	if got, ok := w.Insert(&same, 0, 1000); !ok || got != ref || same != f {
		t.Errorf("the same again: %v %v %+v", got, ok, same)
	}
	taken := natFlow(2, StateEstablished)
	taken.Backend, taken.SNAT, taken.SNATPort = f.Backend, 5, 77
	if _, ok := w.Insert(&taken, 0, 1000); ok {
		t.Error("two flows have one tuple")
	}
	if err := checkTable(tab, 0, 0); err != nil {
		t.Error(err)
	}
}

// TestBindInParallel has several workers bind to one backend until nothing is
// left, some of the clients being the same.
func TestBindInParallel(t *testing.T) {
	const workers, all = 4, 8000
	tab := newTable(t, 100_000, workers)
	ports := []PortRange{{Local: 5, First: 1000, Last: 4999}, {Local: 6, First: 30000, Last: 33999}}
	got := make([][]Flow, workers)
	existing := make([]int, workers)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			w := tab.Worker(i)
			for n := 0; ; n++ {
				client := n
				if n%2 == 0 {
					client = n*workers + i + 1_000_000
				}
				f := natFlow(client, StateEstablished)
				f.Backend = addr4(10, 0, 0, 1)
				switch _, res := w.Bind(&f, ports, 0, 1_000_000); res {
				case Bound:
					got[i] = append(got[i], f)
				case Existing:
					existing[i]++
				case Exhausted:
					if n > 20 { // one that came late has met others' flows by then
						return
					}
				default:
					t.Errorf("worker %d: %v", i, res)
					return
				}
			}
		})
	}
	wg.Wait()
	seen := map[outside]bool{}
	for i := range got {
		for _, f := range got[i] {
			o := outside{f.SNAT, f.SNATPort}
			if seen[o] {
				t.Fatalf("%+v was given twice", o)
			}
			seen[o] = true
			var now Flow
			if _, _, ok := lookup(tab, f.ReplyKey(), 0, &now); !ok || now != f {
				t.Fatalf("the table has %+v, worker %d was given %+v", now, i, f)
			}
		}
	}
	// A worker that gives up a tuple because another one had added the flow
	// may leave it free after the last search has passed it.
	if len(seen) < all-workers*4 {
		t.Errorf("%d tuples of %d were given", len(seen), all)
	}
	total := 0
	for _, n := range existing {
		total += n
	}
	if total == 0 {
		t.Error("no two workers met at one flow")
	}
	if err := checkTable(tab, 0, 0); err != nil {
		t.Error(err)
	}
}
