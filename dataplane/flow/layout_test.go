package flow

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSizeOfAMillionFlows(t *testing.T) {
	if got := Size(1_000_000); got >= 128<<20 {
		t.Fatalf("1,000,000 flows need %d bytes, want less than 128 MiB", got)
	}
	for flows := 1; flows < 1<<24; flows += 1 + flows/7 {
		slots := buckets(flows) * bucketSlots
		if load := float64(2*flows) / float64(slots); load > 0.6 {
			t.Fatalf("the index for %d flows is %.1f%% full with all of them", flows, 100*load)
		}
	}
}

// TestAMillionNATFlowsFit also checks that nearly all keys are in the first
// bucket they are looked for in: one cache line a lookup.
func TestAMillionNATFlowsFit(t *testing.T) {
	const flows = 1_000_000
	tab := newTable(t, flows, 1)
	w := tab.Worker(0)
	ports := []PortRange{{Local: 5, First: 1024, Last: 65535}}
	for i := range flows {
		f := natFlow(i, StateEstablished)
		if _, res := w.Bind(&f, ports, 0, 1000); res != Bound {
			t.Fatalf("flow %d: %v", i, res)
		}
	}
	first := 0
	for i := range flows {
		forward, reply, _ := tab.records[i].keys()
		for dir, k := range []Key{forward, reply} {
			h := tab.Hash(&k)
			var f Flow
			if ref, d, ok := tab.Lookup(&k, h, 1, &f); !ok || ref != Ref(i) || int(d) != dir {
				t.Fatalf("flow %d is not found by %+v", i, k)
			}
			if probe, _, _ := tab.find(h, makeSlot(h, uint32(i), d(dir))); probe == 0 {
				first++
			}
		}
	}
	if share := float64(first) / (2 * flows); share < 0.97 {
		t.Errorf("%.2f%% of the keys are in their first bucket, want 97%%", 100*share)
	}
	f := natFlow(flows, StateHalfOpen)
	if _, res := w.Bind(&f, ports, 0, 1000); res != Full {
		t.Errorf("one flow more: %v, want full", res)
	}
	if s := tab.Stats(); s.Inserted != flows || s.Full != 1 || s.NoRoom != 0 || s.Exhausted != 0 {
		t.Errorf("stats %+v", s)
	}
	if n := sweepAll(tab, 1000); n != flows {
		t.Errorf("%d flows expired, want %d", n, flows)
	}
	if err := checkEmpty(tab, 0); err != nil {
		t.Error(err)
	}
	for i := range flows {
		f := dsrFlow(i, StateEstablished)
		if _, ok := w.Insert(&f, 1000, 1000); !ok {
			t.Fatalf("second time, flow %d: no room", i)
		}
	}
}

func d(i int) Direction { return Direction(i) }

func TestAdoption(t *testing.T) {
	mem := memory(100)
	tab, err := New(mem, Config{Flows: 100, Workers: 1, Seed: [2]uint64{3, 4}})
	if err != nil {
		t.Fatal(err)
	}
	flows := make([]Flow, 60)
	for i := range flows {
		flows[i] = natFlow(i, StateEstablished)
		if _, res := tab.Worker(0).Bind(&flows[i], []PortRange{{Local: 5, First: 1, Last: 100}}, 10, 1000); res != Bound {
			t.Fatal(res)
		}
	}
	via := tab.PeerOf(3, [6]byte{2, 4, 6, 8, 10, 12})
	for _, workers := range []int{2, 5, 1, 100} {
		next, err := New(mem, Config{Flows: 100, Workers: workers, Seed: [2]uint64{99, 98}})
		if err != nil {
			t.Fatal(err)
		}
		if next.key != tab.key {
			t.Fatal("an adopted table has another seed")
		}
		for i := range flows {
			for _, k := range []Key{flows[i].ForwardKey(), flows[i].ReplyKey()} {
				var f Flow
				if _, _, ok := lookup(next, k, 20, &f); !ok || f != flows[i] {
					t.Fatalf("flow %+v became %+v (%v)", flows[i], f, ok)
				}
			}
		}
		if port, mac, ok := next.Peer(via); !ok || port != 3 || mac != [6]byte{2, 4, 6, 8, 10, 12} {
			t.Fatalf("peer %d became %d %v %v", via, port, mac, ok)
		}
		sweepAll(next, 20)
		if s := next.Stats(); s.Flows[StateEstablished] != 60 || s.Live() != 60 || s.Repaired != 0 {
			t.Fatalf("after a sweep by %d workers: %+v", workers, s)
		}
		// All 40 free records are usable, whatever the partitions are.
		var more []Ref
		for i, w := range next.workers {
			for j := int(w.last - w.first); j > 0; j-- {
				f := dsrFlow(1000+100*i+j, StateEstablished)
				if ref, ok := w.Insert(&f, 20, 1000); ok {
					more = append(more, ref)
					defer w.Forget(ref, &f)
				}
			}
		}
		if len(more) != 40 {
			t.Fatalf("%d workers found room for %d more flows, want 40", workers, len(more))
		}
		for i, w := range next.workers {
			for j := int(w.last - w.first); j > 0; j-- {
				f := dsrFlow(1000+100*i+j, StateEstablished)
				if ref, _, ok := lookup(next, f.ForwardKey(), 20, &f); ok {
					w.Forget(ref, &f)
				}
			}
		}
		sweepAll(next, 20)
		if err := checkTable(next, 20, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNewErrors(t *testing.T) {
	formatted := memory(1000)
	if _, err := New(formatted, Config{Flows: 1000, Workers: 1}); err != nil {
		t.Fatal(err)
	}
	version := memory(10)
	if _, err := New(version, Config{Flows: 10, Workers: 1}); err != nil {
		t.Fatal(err)
	}
	version[8] = 77
	garbage := memory(10)
	copy(garbage, "something")
	for _, c := range []struct {
		mem      []byte
		cfg      Config
		want     string
		geometry bool
	}{
		{memory(1), Config{Flows: 0, Workers: 1}, "flow table for 0 flows: want 1 to 268435456", false},
		{memory(1), Config{Flows: MaxFlows + 1, Workers: 1}, "flow table for 268435457 flows: want 1 to 268435456", false},
		{memory(10), Config{Flows: 10, Workers: 0}, "flow table of 10 flows for 0 workers: want 1 to 10", false},
		{memory(10), Config{Flows: 10, Workers: 11}, "flow table of 10 flows for 11 workers: want 1 to 10", false},
		{memory(10000), Config{Flows: 10000, Workers: 1025}, "flow table of 10000 flows for 1025 workers: want 1 to 1024", false},
		{memory(10), Config{Flows: 1000, Workers: 1}, fmt.Sprintf("flow table for 1000 flows needs %d bytes, the memory has %d", Size(1000), Size(10)), false},
		{memory(10)[8:], Config{Flows: 1, Workers: 1}, "flow table memory is not aligned to 64 bytes", false},
		{formatted, Config{Flows: 500, Workers: 1}, "flow table geometry differs: the memory has 1000 flows, the configuration 500", true},
		{version, Config{Flows: 10, Workers: 1}, "flow table geometry differs: the memory has 77 layout version, the configuration 1", true},
		{garbage, Config{Flows: 10, Workers: 1}, "flow table geometry differs: the memory holds something else (magic 0x6e696874656d6f73)", true},
	} {
		_, err := New(c.mem, c.cfg)
		if err == nil || err.Error() != c.want {
			t.Errorf("%+v: error %q, want %q", c.cfg, err, c.want)
		}
		if errors.Is(err, ErrGeometry) != c.geometry {
			t.Errorf("%+v: %v is ErrGeometry: %v", c.cfg, err, !c.geometry)
		}
	}
}

// TestHashHasNoBlindSpot feeds the hash the keys that make a factor of its
// products zero: the rest of the key must still count.
func TestHashHasNoBlindSpot(t *testing.T) {
	tab := newTable(t, 10, 1)
	base := Key{Local: 1, PeerPort: 1000, LocalPort: 80, Proto: 6}
	blind := []Key{base, base, base}
	blind[0].Peer.Hi = tab.key.a
	blind[1].Peer.Lo = tab.key.b
	for i, k := range blind {
		seen := map[uint64]bool{}
		for j := range uint64(1000) {
			v := k
			if i == 0 {
				v.Peer.Lo += j
			} else {
				v.PeerPort += uint16(j)
			}
			seen[tab.Hash(&v)] = true
		}
		if len(seen) != 1000 {
			t.Errorf("case %d: 1000 keys have %d hashes", i, len(seen))
		}
	}
}

func TestNearHash(t *testing.T) {
	tab := newTable(t, 10, 1)
	for port := range 1 << 16 {
		from := Key{Peer: client(1), Local: 5, PeerPort: 8080, LocalPort: uint16(port), Proto: 6}
		to := from
		to.LocalPort ^= uint16(port*7) % nearPorts
		if !near(from.LocalPort, to.LocalPort) {
			t.Fatalf("%d is not near %d", from.LocalPort, to.LocalPort)
		}
		if got, want := nearHash(tab.Hash(&from), from.LocalPort, to.LocalPort), tab.Hash(&to); got != want {
			t.Fatalf("from %d to %d: %#x, want %#x", from.LocalPort, to.LocalPort, got, want)
		}
		if near(from.LocalPort, from.LocalPort^nearPorts) {
			t.Fatalf("%d is near %d", from.LocalPort, from.LocalPort^nearPorts)
		}
	}
}

func TestHashInlines(t *testing.T) {
	out := compilerNotes(t)
	for _, want := range []string{"can inline (*Table).Hash", "can inline (*Table).Touch", "can inline life.live", "can inline (*Table).probe"} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("the compiler no longer says %q", want)
		}
	}
}
