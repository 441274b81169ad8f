package steer

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
)

func TestMemoConfig(t *testing.T) {
	for _, c := range []struct {
		cfg  MemoConfig
		want string
	}{
		{MemoConfig{Entries: 0, Routes: 1}, "0 flow memo entries: a power of two from 2 to 16777216 is needed"},
		{MemoConfig{Entries: 1, Routes: 1}, "1 flow memo entries: a power of two from 2 to 16777216 is needed"},
		{MemoConfig{Entries: 1000, Routes: 1}, "1000 flow memo entries: a power of two from 2 to 16777216 is needed"},
		{MemoConfig{Entries: 1 << 25, Routes: 1}, "33554432 flow memo entries: a power of two from 2 to 16777216 is needed"},
		{MemoConfig{Entries: -2, Routes: 1}, "-2 flow memo entries: a power of two from 2 to 16777216 is needed"},
		{MemoConfig{Entries: 2, Routes: 0}, "0 flow memo routes: 1 to 65536 are possible"},
		{MemoConfig{Entries: 2, Routes: 65537}, "65537 flow memo routes: 1 to 65536 are possible"},
	} {
		if _, err := Open(Config{Memo: &c.cfg}); err == nil || err.Error() != c.want {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
}

// TestMemoMaps looks at what Memo tells.
func TestMemoMaps(t *testing.T) {
	s := open(t, "")
	if m, ok := s.Memo(); ok {
		t.Errorf("memos that nobody asked for: %+v", m)
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		t.Fatal(err)
	}
	s, err = Open(Config{Memo: &MemoConfig{Entries: 64, Routes: 3}})
	if err != nil {
		t.Fatal(err)
	}
	m, ok := s.Memo()
	want := MemoMaps{
		Entries: SharedMap{m.Entries.FD, 64 + 1, 64}, Routes: SharedMap{m.Routes.FD, 3, 128},
		Counts: SharedMap{m.Counts.FD, 3 * cpus, 64}, CPUs: cpus,
	}
	if !ok || m != want || want.Routes.Bytes() != 384 {
		t.Errorf("memo maps %+v, want %+v", m, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if m, ok := s.Memo(); ok {
		t.Errorf("memos after Close: %+v", m)
	}
}

// TestMemoLayout pins the layout that the other side of the memory has too.
func TestMemoLayout(t *testing.T) {
	var e objectMemoEntry
	var r objectMemoRoute
	var c objectMemoCount
	for _, f := range []struct {
		name      string
		got, want uintptr
	}{
		{"entry", unsafe.Sizeof(e), 64},
		{"entry.KeyRest", unsafe.Offsetof(e.KeyRest), 16},
		{"entry.Control", unsafe.Offsetof(e.Control), 24},
		{"entry.Nat", unsafe.Offsetof(e.Nat), 32},
		{"entry.ViaLo", unsafe.Offsetof(e.ViaLo), 48},
		{"entry.Flags", unsafe.Offsetof(e.Flags), 56},
		{"entry.Seen", unsafe.Offsetof(e.Seen), 58},
		{"entry.Entropy", unsafe.Offsetof(e.Entropy), 60},
		{"route", unsafe.Sizeof(r), 128},
		{"route.Op", unsafe.Offsetof(r.Op), 22},
		{"route.Macs", unsafe.Offsetof(r.Macs), 24},
		{"route.GuePort", unsafe.Offsetof(r.GuePort), 36},
		{"route.Ttl", unsafe.Offsetof(r.Ttl), 38},
		{"route.Src", unsafe.Offsetof(r.Src), 40},
		{"route.Dst", unsafe.Offsetof(r.Dst), 56},
		{"count", unsafe.Sizeof(c), 64},
		{"count.BytesSent", unsafe.Offsetof(c.BytesSent), 16},
	} {
		if f.got != f.want {
			t.Errorf("%s: %d, want %d", f.name, f.got, f.want)
		}
	}
}

// TestRedirectable asks about interfaces whose driver can and cannot send what
// is redirected to it: a veth can while its other end has a program.
func TestRedirectable(t *testing.T) {
	newNamespace(t)
	p, q := newPair(t, "p", 1500, 1), newPair(t, "q", 1500, 1)
	s, err := Open(Config{Memo: &MemoConfig{Entries: 2, Routes: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	attach(t, s, pair{near: p.far, far: p.near}, ModeNative)
	admitted := func(ifindex int) bool {
		var value uint32
		err := s.memo.out.Lookup(uint32(ifindex), &value)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			t.Fatal(err)
		}
		return err == nil
	}
	for _, c := range []struct {
		p    pair
		want bool
	}{{p, true}, {q, false}} {
		if a := attach(t, s, c.p, ModeNative); a.Redirectable != c.want || admitted(c.p.ifindex()) != c.want {
			t.Errorf("attached %+v, admitted %v, want %v", a, admitted(c.p.ifindex()), c.want)
		}
	}
	// It is asked anew by Recheck and by every Attach.
	recheck := func() []Attached {
		changed, err := s.Recheck()
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	if changed := recheck(); len(changed) != 1 || changed[0].IfIndex != p.far.Attrs().Index || !changed[0].Redirectable {
		t.Errorf("changed %+v, want the other end of p, which p's program takes frames from", changed)
	}
	if changed := recheck(); len(changed) != 0 {
		t.Errorf("changed %+v", changed)
	}
	if err := s.Detach(p.far.Attrs().Index); err != nil {
		t.Fatal(err)
	}
	var changed []Attached
	eventually(t, "the other end has no program", func() bool {
		changed = append(changed, recheck()...)
		return len(changed) > 0
	})
	if len(changed) != 1 || changed[0].IfIndex != p.ifindex() || changed[0].Redirectable || admitted(p.ifindex()) {
		t.Errorf("changed %+v, admitted %v", changed, admitted(p.ifindex()))
	}
	attach(t, s, pair{near: p.far, far: p.near}, ModeNative)
	if a := attach(t, s, p, ModeNative); !a.Redirectable || !admitted(p.ifindex()) {
		t.Errorf("attached %+v", a)
	}
	if err := s.Detach(p.ifindex()); err != nil {
		t.Fatal(err)
	}
	if admitted(p.ifindex()) {
		t.Error("admitted after Detach")
	}
	if _, err := redirectable(9999); err == nil || err.Error() != "ask for the features of interface 9999: no such device" {
		t.Errorf("an interface that does not exist: %v", err)
	}
}

// TestAdoptFromBeforeMemos restarts over what a version without flow memos has
// pinned: addresses without IDs, and a counter less.
func TestAdoptFromBeforeMemos(t *testing.T) {
	newNamespace(t)
	path := pinPath(t)
	p := newPair(t, "lb", 1500, 1)
	s := open(t, path)
	setLocals(t, s, ours()...)
	attach(t, s, p, ModeAuto)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, spec := range map[string]*ebpf.MapSpec{
		objectMapLocals:                         {Type: ebpf.Hash, KeySize: 16, ValueSize: 4, MaxEntries: 131072, Flags: 1},
		ifaceName(p.ifindex(), objectMapCounts): {Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 6},
	} {
		old, err := ebpf.NewMap(spec)
		if err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		if err := os.Remove(filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
		if err := old.Pin(filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
	}

	s, err := Open(Config{PinPath: path, Memo: &MemoConfig{Entries: 2, Routes: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.Locals(); len(got) != 0 {
		t.Errorf("locals %v out of another version's map", got)
	}
	setLocals(t, s, ours()...)
	if a := attach(t, s, p, ModeAuto); !a.Adopted {
		t.Errorf("attached %+v", a)
	}
	newSender(t, p.far).send(t, udp(t, client4, vip4, 10))
	eventually(t, "one frame counted", func() bool { return counters(t, s, p.ifindex()) == Counters{FailDropped: 1} })
}
