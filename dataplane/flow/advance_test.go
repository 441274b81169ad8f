package flow

import (
	"fmt"
	"strings"
	"testing"
)

func (s State) name() string {
	return [...]string{"free", "half-open", "established", "fin-wait", "closed", "unreplied", "stream", "affinity"}[s]
}

// TestAdvanceTCP walks flows through their lives. A step is a direction (> from
// the client, < from the backend) and the packet's flags; after the colon
// stands the state it must lead to.
func TestAdvanceTCP(t *testing.T) {
	for _, c := range []struct {
		about string
		nat   bool
		steps string
	}{
		{"a whole connection", true, "<SA:half-open >A:established <A:established >A:established >F:fin-wait <A:fin-wait <F:closed >A:closed"},
		{"a whole connection, the backend closes first", true, "<SA:half-open >A:established <F:fin-wait >A:fin-wait >F:closed <A:closed"},
		{"a whole connection seen from one side", false, ">A:established >F:fin-wait >A:fin-wait >F:fin-wait >A:fin-wait"},
		{"SYN retransmitted", true, ">S:half-open <SA:half-open >S:half-open"},
		{"refused", true, "<R:closed"},
		{"refused, and tried again from the same port", true, "<R:closed >S:half-open <R:closed >S:half-open <SA:half-open >A:established"},
		{"a half-open flow's backend speaks before the ACK is seen", true, "<A:half-open >A:established"},
		{"client reuses its port after a full close", true, ">A:established >F:fin-wait <F:closed >S:half-open >A:established >A:established"},
		{"client reuses its port, one side seen", false, ">A:established >F:fin-wait >S:half-open >A:established"},
		{"a SYN in fin-wait with both sides seen is the backend's business", true, ">A:established >F:fin-wait >S:fin-wait"},
		{"a SYN in the middle changes nothing", true, ">A:established >S:established <SA:established"},
		{"client resets, what the backend had on its way does not reopen", true, ">A:established >R:closed <A:closed <A:closed"},
		{"backend resets, what the client had on its way does not reopen", true, ">A:established <R:closed >A:closed >F:closed"},
		{"a forged RST of the client does no harm", true, ">A:established >R:closed >A:established <A:established"},
		{"a forged RST of the backend does no harm", true, ">A:established <R:closed <A:established"},
		{"a forged RST of the client, one side seen", false, ">A:established >R:closed >A:established"},
		{"a forged RST while closing", true, ">A:established >F:fin-wait <R:closed <A:fin-wait <F:closed"},
		{"a RST after the last FIN", true, ">A:established >F:fin-wait <F:closed >R:closed >A:closed"},
		{"FIN as the answer to a forged RST", true, ">A:established <R:closed <F:fin-wait >F:closed"},
		{"FIN from the client before anything else", true, ">F:fin-wait <F:closed"},
		{"second RST", true, ">A:established >R:closed <R:closed >A:established"},
	} {
		t.Run(c.about, func(t *testing.T) {
			tab := newTable(t, 100, 1)
			w := tab.Worker(0)
			f := dsrFlow(1, StateFree)
			var ref Ref
			now := ^Time(0) - 50 // wraps on the way
			if c.nat {
				f = natFlow(1, StateFree)
				ref, _ = w.Bind(&f, []PortRange{{Local: 5, First: 1, Last: 1}}, now, 1000)
			} else {
				ref, _ = w.Insert(&f, now, 1000)
			}
			if f.State != StateHalfOpen {
				t.Fatalf("begins as %s", f.State.name())
			}
			for i, step := range strings.Fields(c.steps) {
				packet, want, _ := strings.Cut(step, ":")
				dir, flags := Forward, uint8(0)
				if packet[0] == '<' {
					dir = Reply
				}
				for _, l := range packet[1:] {
					flags |= map[rune]uint8{'S': tcpSYN, 'A': tcpACK, 'F': tcpFIN | tcpACK, 'R': tcpRST}[l]
				}
				now += 7
				before := f.State
				tab.Advance(ref, &f, dir, flags, now, &testTimeouts)
				if f.State.name() != want {
					t.Fatalf("step %d, %s: %s, want %s", i+1, packet, f.State.name(), want)
				}
				var seen Flow
				if _, _, ok := lookup(tab, f.ForwardKey(), now, &seen); !ok || seen != f {
					t.Fatalf("step %d, %s: the table has %+v, the copy says %+v", i+1, packet, seen, f)
				}
				if timeout := testTimeouts.of(f.State); f.State != before && f.Deadline != now+Time(timeout) {
					t.Fatalf("step %d, %s: %d ms left, want %d", i+1, packet, f.Deadline-now, timeout)
				}
			}
		})
	}
}

func (to *Timeouts) of(s State) uint32 {
	return [...]uint32{0, to.HalfOpen, to.Established, to.FinWait, to.Closed, to.Unreplied, to.Stream, 0}[s]
}

func TestAdvanceStream(t *testing.T) {
	for _, nat := range []bool{false, true} {
		t.Run(fmt.Sprintf("nat=%v", nat), func(t *testing.T) {
			tab := newTable(t, 100, 1)
			w := tab.Worker(0)
			now := ^Time(0) - 1500
			f := natFlow(1, StateFree)
			f.Proto = 17
			var ref Ref
			if nat {
				ref, _ = w.Bind(&f, []PortRange{{Local: 5, First: 1, Last: 1}}, now, testTimeouts.Unreplied)
			} else {
				f.Backend, f.BackendPort = client(0), 0
				ref, _ = w.Insert(&f, now, testTimeouts.Unreplied)
			}
			start := now
			if f.State != StateUnreplied {
				t.Fatal(f.State.name())
			}
			for ; now < start+999 || start > now; now += 9 { // 111 packets in 999 ms
				tab.Advance(ref, &f, Forward, 0, now, &testTimeouts)
			}
			if f.State != StateUnreplied {
				t.Fatalf("%s within the first second", f.State.name())
			}
			now = start + 1000
			tab.Advance(ref, &f, Forward, 0, now, &testTimeouts)
			if want := map[bool]State{false: StateStream, true: StateUnreplied}[nat]; f.State != want {
				t.Fatalf("%s after a second without an answer, want %s", f.State.name(), want.name())
			}
			if nat {
				tab.Advance(ref, &f, Reply, 0, now, &testTimeouts)
			}
			if f.State != StateStream || f.Deadline != now+Time(testTimeouts.Stream) {
				t.Fatalf("%s, %d ms left", f.State.name(), f.Deadline-now)
			}
		})
	}
}

// TestDeadlineMovesInSteps checks that the record's line stays unwritten for
// packets that come close together.
func TestDeadlineMovesInSteps(t *testing.T) {
	tab := newTable(t, 100, 1)
	f := dsrFlow(1, StateEstablished)
	ref, _ := tab.Worker(0).Insert(&f, 0, testTimeouts.Established)
	stores := 0
	for now := Time(0); now <= 2560; now++ {
		before := tab.records[ref].life()
		tab.Advance(ref, &f, Forward, tcpACK, now, &testTimeouts)
		if after := tab.records[ref].life(); after != before {
			stores++
			if f.Deadline != now+Time(testTimeouts.Established) || after.deadline() != f.Deadline {
				t.Fatalf("at %d the deadline became %d", now, f.Deadline)
			}
		}
	}
	if stores != 10 {
		t.Errorf("%d stores in 2560 ms, want 10", stores)
	}
	shorter := testTimeouts
	shorter.Established = 1000
	tab.Advance(ref, &f, Forward, tcpACK, 2561, &shorter)
	if f.Deadline != 3561 {
		t.Errorf("with a shorter timeout the deadline is %d, want 3561", f.Deadline)
	}
	// A timeout shorter than the step still holds a busy flow.
	shorter.Established = 100
	for now := Time(2562); now < 5000; now += 10 {
		tab.Advance(ref, &f, Forward, tcpACK, now, &shorter)
		if _, _, ok := lookup(tab, f.ForwardKey(), now, new(Flow)); !ok {
			t.Fatalf("a packet every 10 ms did not keep a flow with a timeout of 100 ms at %d", now)
		}
	}
}

// TestStaleReferences checks that no operation on a flow that is gone touches
// the one that has its record now.
func TestStaleReferences(t *testing.T) {
	tab := newTable(t, 1, 1)
	w := tab.Worker(0)
	old := dsrFlow(1, StateHalfOpen)
	ref, _ := w.Insert(&old, 0, 1000)
	w.Forget(ref, &old)
	// Same record, same service and backend, same deadline: all but the client.
	now := dsrFlow(2, StateHalfOpen)
	again, ok := w.Insert(&now, 0, 1000)
	if !ok || again != ref {
		t.Fatal("the record was not used again")
	}
	stale := old
	tab.Advance(ref, &stale, Forward, tcpACK, 500, &testTimeouts)
	tab.SetVia(ref, &stale, 7)
	if tab.Move(ref, &stale, 99) {
		t.Error("a flow that is gone has moved")
	}
	if tab.Refresh(ref, &stale, 500, 1000) {
		t.Error("a flow that is gone was refreshed")
	}
	w.Forget(ref, &stale)
	var f Flow
	if _, _, ok := lookup(tab, now.ForwardKey(), 500, &f); !ok || f != now {
		t.Errorf("the record's new flow became %+v (%v), want %+v", f, ok, now)
	}
	if stale != old {
		t.Errorf("the copy of the flow that is gone became %+v", stale)
	}
	for _, bad := range []Ref{NoRef, 1} {
		tab.Advance(bad, &stale, Forward, tcpACK, 500, &testTimeouts)
		tab.SetVia(bad, &stale, 7)
		w.Forget(bad, &stale)
		if tab.Move(bad, &stale, 99) {
			t.Error("a reference to nothing has moved")
		}
	}
}

func TestMoveAndVia(t *testing.T) {
	tab := newTable(t, 10, 1)
	w := tab.Worker(0)
	f := dsrFlow(1, StateHalfOpen)
	ref, _ := w.Insert(&f, 0, 1000)
	if !tab.Move(ref, &f, 77) || f.BackendID != 77 {
		t.Errorf("after a move: %+v", f)
	}
	tab.SetVia(ref, &f, 0xbeef)
	tab.Advance(ref, &f, Forward, tcpACK, 10, &testTimeouts)
	var seen Flow
	if _, _, ok := lookup(tab, f.ForwardKey(), 10, &seen); !ok || seen != f || seen.BackendID != 77 || seen.Via != 0xbeef || seen.State != StateEstablished {
		t.Errorf("the table has %+v, want %+v", seen, f)
	}
	n := natFlow(2, StateHalfOpen)
	ref, _ = w.Bind(&n, []PortRange{{Local: 5, First: 1, Last: 9}}, 0, 1000)
	if tab.Move(ref, &n, 77) || n.BackendID == 77 {
		t.Error("a NAT flow has moved")
	}
}

func TestAffinity(t *testing.T) {
	tab := newTable(t, 10, 1)
	w := tab.Worker(0)
	rec := Flow{Client: client(1), VIP: 1, VIPPort: 80, Proto: ProtoAffinityTCP, State: StateAffinity, BackendID: 3}
	ref, _ := w.Insert(&rec, 0, 1000)
	tab.Advance(ref, &rec, Forward, tcpACK, 900, &testTimeouts)
	if rec.Deadline != 1000 {
		t.Errorf("a packet moved the deadline to %d", rec.Deadline)
	}
	again := rec
	again.BackendID = 4
	if got, ok := w.Insert(&again, 900, 1000); !ok || got != ref || again.BackendID != 3 || again.Deadline != 1900 {
		t.Errorf("inserted again: %v %v %+v", got, ok, again)
	}
	if !tab.Refresh(ref, &again, 1800, 1000) {
		t.Error("not refreshed")
	}
	var seen Flow
	if _, _, ok := lookup(tab, rec.ForwardKey(), 2799, &seen); !ok || seen != again {
		t.Errorf("the table has %+v (%v), want %+v", seen, ok, again)
	}
	if _, _, ok := lookup(tab, rec.ForwardKey(), 2800, &seen); ok {
		t.Error("found after its time")
	}
}
