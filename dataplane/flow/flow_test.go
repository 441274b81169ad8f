package flow

import (
	"testing"
	"unsafe"

	"fairlead/dataplane/packet"
)

// memory is zeroed, line-aligned memory on Go's heap, where the race detector
// sees it.
func memory(flows int) []byte {
	n := Size(flows)
	b := make([]byte, n+lineSize)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (lineSize - 1)
	return b[skip : skip+n : skip+n]
}

func newTable(tb testing.TB, flows, workers int) *Table {
	tb.Helper()
	t, err := New(memory(flows), Config{Flows: flows, Workers: workers, Seed: [2]uint64{1, 2}})
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func addr4(a, b, c, d byte) packet.Addr { return packet.Addr4([]byte{a, b, c, d}) }

// client is the i-th of many different clients.
func client(i int) packet.Addr { return packet.Addr{Lo: 0xffff<<32 | 0xc6120000 + uint64(i>>8)} }

// dsrFlow is the i-th of many different flows without a reply key.
func dsrFlow(i int, s State) Flow {
	return Flow{Client: client(i), ClientPort: uint16(1024 + i&0xff), VIP: 1, VIPPort: 80, Proto: protoTCP, State: s, ServiceID: 7, BackendID: 9}
}

// natFlow is the i-th of many different flows, before Bind.
func natFlow(i int, s State) Flow {
	f := dsrFlow(i, s)
	f.Backend = addr4(10, 0, 0, byte(i%100))
	f.BackendPort = 8080
	return f
}

func lookup(t *Table, k Key, now Time, f *Flow) (Ref, Direction, bool) {
	return t.Lookup(&k, t.Hash(&k), now, f)
}

func TestInsertAndLookup(t *testing.T) {
	tab := newTable(t, 1000, 1)
	w := tab.Worker(0)
	in := dsrFlow(1, StateHalfOpen)
	ref, ok := w.Insert(&in, 100, 5000)
	if !ok {
		t.Fatal("no room")
	}
	var out Flow
	got, dir, ok := lookup(tab, in.ForwardKey(), 5099, &out)
	if !ok || got != ref || dir != Forward || out != in || out.Deadline != 5100 {
		t.Fatalf("found %v %v %v %+v, want %v %+v", ok, got, dir, out, ref, in)
	}
	if _, _, ok := lookup(tab, in.ForwardKey(), 5100, &out); ok {
		t.Fatal("an expired flow was found")
	}
}

func TestBindAndReply(t *testing.T) {
	tab := newTable(t, 1000, 1)
	w := tab.Worker(0)
	in := natFlow(1, StateHalfOpen)
	ref, res := w.Bind(&in, []PortRange{{Local: 5, First: 1024, Last: 65535}}, 100, 5000)
	if res != Bound || in.SNAT != 5 || in.SNATPort < 1024 {
		t.Fatalf("%v %+v", res, in)
	}
	for dir, k := range []Key{in.ForwardKey(), in.ReplyKey()} {
		var out Flow
		got, d, ok := lookup(tab, k, 200, &out)
		if !ok || got != ref || int(d) != dir || out != in {
			t.Fatalf("found %v %v %v %+v, want %v %+v", ok, got, d, out, ref, in)
		}
	}
}

var testTimeouts = Timeouts{HalfOpen: 60_000, Established: 3_600_000, FinWait: 120_000, Closed: 10_000, Unreplied: 30_000, Stream: 180_000}

const tcpACK = 1 << 4
