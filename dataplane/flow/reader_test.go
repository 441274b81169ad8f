package flow

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReaderSeesWhatTheTableHas compares what a reader of a mapping of its own,
// which it cannot write to, sees with what was put into the table.
func TestReaderSeesWhatTheTableHas(t *testing.T) {
	const flows = 500
	fd, err := unix.MemfdCreate("flows", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(Size(flows))); err != nil {
		t.Fatal(err)
	}
	mapped := func(prot int) []byte {
		mem, err := unix.Mmap(fd, 0, Size(flows), prot, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Munmap(mem) })
		return mem
	}
	r, err := NewReader(mapped(unix.PROT_READ), flows)
	if err != nil {
		t.Fatal(err)
	}
	seen := func(now Time) map[Key]Flow {
		all := map[Key]Flow{}
		var f Flow
		for i := range r.Len() {
			if r.Read(i, now, &f) {
				all[f.ForwardKey()] = f
			}
		}
		return all
	}
	if n := len(seen(0)); n != 0 || r.Check() != nil {
		t.Errorf("%d flows before there is a table, %v", n, r.Check())
	}
	tab, err := New(mapped(unix.PROT_READ|unix.PROT_WRITE), Config{Flows: flows, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	want := map[Key]Flow{}
	for i := range 300 {
		f := Flow{Client: client(i), ClientPort: uint16(i), VIP: 1, VIPPort: 80, Proto: protoTCP, ServiceID: uint32(i), BackendID: uint32(2 * i), State: StateEstablished}
		f.Via = tab.PeerOf(uint16(i%3), [6]byte{2, 0, 0, 0, 0, byte(i)})
		if _, ok := tab.Worker(i%2).Insert(&f, 1000, uint32(1000+i)); !ok {
			t.Fatal("no room")
		}
		want[f.ForwardKey()] = f
	}
	compare := func(now Time) {
		t.Helper()
		got := seen(now)
		if len(got) != len(want) {
			t.Errorf("%d flows, want %d", len(got), len(want))
		}
		for k, w := range want {
			if got[k] != w {
				t.Errorf("%+v, want %+v", got[k], w)
			}
		}
	}
	compare(1000)
	for k, f := range want {
		if !Time(2100).Before(f.Deadline) {
			delete(want, k)
		}
	}
	compare(2100) // a hundred have timed out, though nobody swept them
	for k, f := range want {
		h := tab.Hash(&k)
		ref, _, _ := tab.Lookup(&k, h, 2100, &f)
		tab.Worker(0).Forget(ref, &f)
		delete(want, k)
		break
	}
	compare(2100)
	for _, f := range want {
		port, mac, ok := r.Peer(f.Via)
		if !ok || port != f.ClientPort%3 || mac[5] != byte(f.ClientPort) {
			t.Errorf("the way back to client %d is %d %x %v", f.ClientPort, port, mac, ok)
		}
	}
	if err := r.Check(); err != nil {
		t.Error(err)
	}
	other, err := NewReader(mapped(unix.PROT_READ), flows-1)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Check(); !errors.Is(err, ErrGeometry) {
		t.Errorf("a reader for another size: %v", err)
	}
	if _, err := NewReader(make([]byte, 10), flows); err == nil || err.Error() != "flow table for 500 flows needs 576768 bytes, the memory has 10" {
		t.Errorf("short memory: %v", err)
	}
}

// TestReaderAmongWorkers reads while workers add, change, move and forget flows:
// nothing that is read is put together from two flows.
func TestReaderAmongWorkers(t *testing.T) {
	const workers, steps = 3, 60_000
	mem := memory(1200)
	tab, err := New(mem, Config{Flows: 1200, Workers: workers, SNATGuard: 50})
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(mem, 1200)
	if err != nil {
		t.Fatal(err)
	}
	var ticks atomic.Uint32
	var wg sync.WaitGroup
	var done atomic.Int32
	for i := range workers {
		wg.Go(func() {
			defer done.Add(1)
			c := &churn{w: tab.Worker(i), rng: rand.New(rand.NewPCG(7, uint64(i))), flows: 3000, fail: t.Errorf,
				clock: func() Time { return Time(ticks.Add(uint32(i % 2))) }}
			for range steps {
				c.step()
			}
		})
	}
	reads := 0
	c := &churn{fail: t.Errorf}
	for done.Load() < workers {
		var f Flow
		for i := range r.Len() {
			if r.Read(i, Time(ticks.Load()), &f) {
				c.check(&f, nil, Forward)
				reads++
			}
		}
	}
	wg.Wait()
	if reads == 0 {
		t.Error("nothing was read")
	}
}

// TestStuckRecord asserts that a record which is being written for ever, as by a
// process that died, is left out and nobody waits for it.
func TestStuckRecord(t *testing.T) {
	mem := memory(4)
	tab, err := New(mem, Config{Flows: 4, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	f := Flow{Client: client(1), VIP: 1, VIPPort: 80, Proto: protoTCP}
	ref, ok := tab.Worker(0).Insert(&f, 0, 1000)
	if !ok {
		t.Fatal("no room")
	}
	r, err := NewReader(mem, 4)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Read(int(ref), 0, &f) {
		t.Error("the flow is not seen")
	}
	tab.records[ref][wordIdent] |= seqOdd
	if r.Read(int(ref), 0, &f) {
		t.Error("a record is read that is being written")
	}
}

// TestStateNames asserts that every state has a name of its own.
func TestStateNames(t *testing.T) {
	names := map[string]bool{}
	for _, s := range States() {
		if names[s.String()] || s.String() == "unknown" || s.String() == "free" {
			t.Errorf("state %d is named %s", s, s)
		}
		names[s.String()] = true
	}
	if len(names) != numStates-1 || State(99).String() != "unknown" {
		t.Errorf("names %v, and %s", names, State(99))
	}
}
