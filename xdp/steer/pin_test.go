package steer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestRestartUnderTraffic closes and opens again and again while frames for a
// VIP keep coming. Every single frame must have met a program: none reaches the
// host, with a socket that somebody keeps or without.
func TestRestartUnderTraffic(t *testing.T) {
	newNamespace(t)
	path := pinPath(t)
	p := newPair(t, "lb", 1500, 1)
	s := open(t, path)
	setLocals(t, s, ours()...)
	attach(t, s, p, ModeAuto)
	sock := newTestSocket(t, p, 0)
	setSocket(t, s, p, 0, sock)

	counts, err := ebpf.LoadPinnedMap(filepath.Join(path, ifaceName(p.ifindex(), objectMapCounts)), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer counts.Close()
	tx := newSender(t, p.far)
	f := udp(t, client4, vip4, 64)

	var sent atomic.Uint64
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- sendCounted(tx, f, counts, &sent, stop) }()
	const rounds = 40
	for round := range rounds {
		if round == rounds/2 {
			if err := s.ClearSocket(p.ifindex(), 0); err != nil {
				t.Fatal(err)
			}
		}
		before := sent.Load()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "frames while nobody is there", func() bool { return sent.Load() > before })
		s = open(t, path)
		setLocals(t, s, ours()...)
		if a := attach(t, s, p, ModeAuto); !a.Adopted || a.Mode != ModeNative {
			t.Fatalf("round %d: attached %+v", round, a)
		}
		if stale, err := s.DetachStale(); err != nil || len(stale) != 0 {
			t.Fatalf("round %d: stale %v, %v", round, stale, err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	c := counters(t, s, p.ifindex())
	if c.Redirected == 0 || c.FailDropped == 0 || c.Redirected+c.FailDropped != sent.Load() || c.Passed != 0 || c.FailPassed != 0 {
		t.Errorf("sent %d frames, counters %+v", sent.Load(), c)
	}
}

// sendCounted sends bursts of f; each must have been counted before the next.
func sendCounted(tx *sender, f []byte, counts *ebpf.Map, sent *atomic.Uint64, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		for range 32 {
			if err := unix.Sendto(tx.fd, f, 0, &tx.addr); err != nil {
				return err
			}
			sent.Add(1)
		}
		for deadline := time.Now().Add(5 * time.Second); ; {
			c, err := readCounters(counts)
			if err != nil {
				return err
			}
			if c.Redirected+c.FailDropped+c.FailPassed+c.Passed == sent.Load() {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("sent %d, counters %+v", sent.Load(), c)
			}
		}
	}
}

// TestNothingStaysWithoutPins ends a process without pin path: the host has its
// interface back.
func TestNothingStaysWithoutPins(t *testing.T) {
	newNamespace(t)
	p := newPair(t, "lb", 1500, 1)
	s := open(t, "")
	attach(t, s, p, ModeAuto)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantRunning(t, p, "")
}

func wantRunning(t *testing.T, p pair, want Mode) {
	t.Helper()
	// A link that is closed goes away after an RCU grace period.
	var got Mode
	eventually(t, fmt.Sprintf("mode %q on %s", want, p.name()), func() bool {
		var err error
		if got, _, err = running(p.ifindex()); err != nil {
			t.Fatal(err)
		}
		return got == want
	})
}

func TestAdoptKeepsEverything(t *testing.T) {
	newNamespace(t)
	path := pinPath(t)
	p := newPair(t, "lb", 1500, 1)
	s := open(t, path)
	setLocals(t, s, ours()...)
	if err := s.Deny(client6); err != nil {
		t.Fatal(err)
	}
	attach(t, s, p, ModeAuto)
	before := s.Locals()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, path)
	if got := s.Locals(); !reflect.DeepEqual(got, before) || len(got) != len(ours()) {
		t.Errorf("adopted locals %v, want %v", got, before)
	}
	if denied, err := s.Denied(); err != nil || len(denied) != 1 || denied[client6] != (Denial{}) {
		t.Errorf("adopted denials %v, %v", denied, err)
	}
	if added, removed, err := s.SetLocals(ours()); added != 0 || removed != 0 || err != nil {
		t.Errorf("the same set again: added %d, removed %d, %v", added, removed, err)
	}
	// The earlier program is still the one that runs.
	tx := newSender(t, p.far)
	tx.send(t, udp(t, client6, vip6, 10))
	if a := attach(t, s, p, ModeAuto); !a.Adopted {
		t.Errorf("attached %+v", a)
	}
	tx.send(t, udp(t, client6, vip6, 10))
	eventually(t, "two denied frames", func() bool { return counters(t, s, p.ifindex()).Denied == 2 })
}

func TestModeChange(t *testing.T) {
	for _, c := range []struct {
		first, second Mode
		want          Attached
	}{
		{ModeNative, ModeNative, Attached{Mode: ModeNative, Adopted: true}},
		{ModeGeneric, ModeGeneric, Attached{Mode: ModeGeneric, Adopted: true}},
		{ModeNative, ModeGeneric, Attached{Mode: ModeGeneric}},
		{ModeGeneric, ModeNative, Attached{Mode: ModeNative}},
		{ModeGeneric, ModeAuto, Attached{Mode: ModeGeneric, Adopted: true, Reason: "an earlier process attached it in generic mode"}},
		{ModeNative, ModeAuto, Attached{Mode: ModeNative, Adopted: true}},
	} {
		for _, restart := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s to %s, restart %v", c.first, c.second, restart), func(t *testing.T) {
				newNamespace(t)
				path := pinPath(t)
				p := newPair(t, "lb", 1500, 1)
				s := open(t, path)
				setLocals(t, s, ours()...)
				attach(t, s, p, c.first)
				sock := newTestSocket(t, p, 0)
				setSocket(t, s, p, 0, sock)
				if restart {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = open(t, path)
				}
				got := attach(t, s, p, c.second)
				c.want.IfIndex, c.want.Name = p.ifindex(), "lb"
				if got != c.want {
					t.Errorf("attached %+v, want %+v", got, c.want)
				}
				wantRunning(t, p, c.want.Mode)
				newSender(t, p.far).send(t, udp(t, client4, vip4, 10))
				eventually(t, "the socket is still there", func() bool { return counters(t, s, p.ifindex()).Redirected == 1 })
			})
		}
	}
}

func TestDetachAndRemove(t *testing.T) {
	newNamespace(t)
	root := pinPath(t)
	if _, err := openPins(root); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "node", "steer")
	a, b, c := newPair(t, "a", 1500, 1), newPair(t, "b", 1500, 1), newPair(t, "c.100", 1500, 1)
	s := open(t, path)
	for _, p := range []pair{a, b, c} {
		attach(t, s, p, ModeAuto)
	}
	if err := s.Detach(a.ifindex()); err != nil {
		t.Fatal(err)
	}
	wantRunning(t, a, "")
	if err := s.Detach(a.ifindex()); !errors.Is(err, ErrNotAttached) {
		t.Errorf("detach again: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantRunning(t, b, ModeNative)
	wantRunning(t, c, ModeNative)

	s = open(t, path)
	attach(t, s, b, ModeAuto)
	stale, err := s.DetachStale()
	if err != nil || len(stale) != 1 || stale[0] != c.ifindex() {
		t.Errorf("stale %v, %v, want [%d]", stale, err, c.ifindex())
	}
	wantRunning(t, b, ModeNative)
	wantRunning(t, c, "")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// Remove also takes away what it has not attached itself.
	s = open(t, path)
	if err := s.Remove(); err != nil {
		t.Fatal(err)
	}
	wantRunning(t, b, "")
	for name, err := range map[string]error{
		"Remove": s.Remove(),
		"Detach": s.Detach(b.ifindex()),
		"Deny":   s.Deny(client4),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Remove: %v", name, err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		left, _ := os.ReadDir(path)
		t.Errorf("the pin path is still there: %v, with %v", err, left)
	}
}

// TestInterfaceReplaced takes the interface away under a pinned link, and gives
// its number to a new one.
func TestInterfaceReplaced(t *testing.T) {
	newNamespace(t)
	path := pinPath(t)
	p := newPair(t, "lb", 1500, 1)
	s := open(t, path)
	setLocals(t, s, ours()...)
	attach(t, s, p, ModeAuto)
	newSender(t, p.far).send(t, udp(t, client4, host4, 10))
	eventually(t, "one frame counted", func() bool { return counters(t, s, p.ifindex()).Passed == 1 })
	if err := netlink.LinkDel(p.near); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Attach(p.ifindex(), "lb", ModeAuto); err == nil || err.Error() != "attach to lb: Link not found" {
		t.Errorf("attach to an interface that is gone: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index = "lb", p.ifindex()
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "lbp"}); err != nil {
		t.Fatal(err)
	}
	again := pair{near: byName(t, "lb"), far: byName(t, "lbp")}
	if again.ifindex() != p.ifindex() {
		t.Fatalf("the new interface has number %d, not %d", again.ifindex(), p.ifindex())
	}
	s = open(t, path)
	if a := attach(t, s, again, ModeAuto); a.Adopted {
		t.Errorf("adopted the link of an interface that is gone: %+v", a)
	}
	if c := counters(t, s, p.ifindex()); c != (Counters{}) {
		t.Errorf("adopted the counters of an interface that is gone: %+v", c)
	}

	// The same without a restart in between: the open link is dead.
	if err := netlink.LinkDel(again.near); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "lbp"}); err != nil {
		t.Fatal(err)
	}
	if a := attach(t, s, again, ModeAuto); a.Adopted || a.Mode != ModeNative {
		t.Errorf("attached %+v", a)
	}
	wantRunning(t, again, ModeNative)
}

// TestReplaceOtherLayout finds a pinned map of another version.
func TestReplaceOtherLayout(t *testing.T) {
	newNamespace(t)
	path := pinPath(t)
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	pinned := filepath.Join(path, objectMapLocals)
	if err := os.Remove(pinned); err != nil {
		t.Fatal(err)
	}
	other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Pin(pinned); err != nil {
		t.Fatal(err)
	}
	setLocals(t, open(t, path), ours()...)
	if got := open(t, path).Locals(); len(got) != len(ours()) {
		t.Errorf("adopted %d locals from the new map, want %d", len(got), len(ours()))
	}
}

func TestPinPathErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Config{PinPath: file})
	want := fmt.Sprintf("pin path %s is on no BPF file system and mounting one failed (do it once with: mount -t bpf bpf %s): mkdir %s: not a directory", file, file, file)
	if err == nil || err.Error() != want {
		t.Errorf("a file as pin path: %v, want %q", err, want)
	}
	_, err = Open(Config{PinPath: filepath.Join(file, "below")})
	want = fmt.Sprintf("pin path %s: not a directory", filepath.Join(file, "below"))
	if err == nil || err.Error() != want {
		t.Errorf("a pin path below a file: %v, want %q", err, want)
	}
}

// TestRemoveUnmounts finds no trace of a file system that was mounted at the
// pin path for its sake.
func TestRemoveUnmounts(t *testing.T) {
	path := pinPath(t)
	s := open(t, path)
	if on, err := onBPFFS(path); !on || err != nil {
		t.Fatalf("pin path on a BPF file system: %v, %v", on, err)
	}
	if err := s.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the pin path is still there: %v", err)
	}
}
