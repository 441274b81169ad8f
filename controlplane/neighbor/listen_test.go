package neighbor

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/controlplane/model"
	"fairlead/perf/lab"
)

// TestOverrun loses notifications for want of room, as in a storm of them, and
// asserts that everything is read again and that listening goes on.
func TestOverrun(t *testing.T) {
	topo := newLab(t, lab.Config{Backends: 1})
	var l *listener
	if err := topo.LB.Do(func() (err error) { l, err = openListener(); return err }); err != nil {
		t.Fatal(err)
	}
	raw, err := l.file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
	if err != nil {
		t.Fatal(err)
	}
	routes := 0
	storm := func(n int) {
		for range n {
			routes++
			dst := cidr(fmt.Sprintf("192.0.2.%d/32", routes))
			if err := topo.LB.Netlink().RouteReplace(&netlink.Route{Dst: dst.IPNet, Gw: topo.Backends[0].IPv4.AsSlice()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	storm(50) // nobody reads yet
	c := newChanges()
	var done sync.WaitGroup
	done.Go(func() { l.run(c, slog.New(slog.DiscardHandler)) })
	defer done.Wait()
	defer l.close()
	await := func(what string, cond func(*changeSet) bool) {
		t.Helper()
		for deadline := time.After(10 * time.Second); ; {
			select {
			case <-c.wake:
			case <-deadline:
				t.Fatalf("not in time: %s", what)
			}
			if s := c.take(); cond(&s) {
				return
			}
		}
	}
	await("everything is to be read", func(s *changeSet) bool { return s.everything && s.routes })
	// The buffer holds so little that a notification may be lost again.
	for deadline := time.Now().Add(10 * time.Second); ; {
		storm(1)
		select {
		case <-c.wake:
		case <-time.After(100 * time.Millisecond):
		}
		if s := c.take(); len(s.prefixes) > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("not in time: one more route")
		}
	}
}

// TestChangesAreBounded asserts that single changes give way to reading all.
func TestChangesAreBounded(t *testing.T) {
	s := emptySet()
	wanted := &wanted{ready: make(chan struct{})}
	s.wanted = append(s.wanted, wanted)
	for i := range maxChangedPrefixes + 1 {
		s.prefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32))
	}
	if !s.routes || len(s.prefixes) != 0 || s.everything {
		t.Errorf("too many prefixes: %v %d %v", s.routes, len(s.prefixes), s.everything)
	}
	for i := range maxChangedEntries + 1 {
		s.entry(entry{index: 1, addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})})
	}
	if !s.everything || len(s.entries) != 0 || len(s.wanted) != 1 {
		t.Errorf("too many entries: %v %d; %d wishes left", s.everything, len(s.entries), len(s.wanted))
	}
}

// TestLeftBehind gives back what a killed process has left managed and nobody
// wants, and keeps what is wanted.
func TestLeftBehind(t *testing.T) {
	topo := newLab(t, lab.Config{Backends: 2})
	c, index := dialIn(t, topo.LB), topo.Back.Interface.Index
	wanted, left := topo.Backends[0].IPv4, topo.Backends[1].IPv6
	for _, a := range []netip.Addr{wanted, left} {
		if err := c.batch(1, func(_ int, e *encoder) { putManage(e, index, a) }, func(_ int, m *message) {
			if m.err() != nil {
				t.Error(m.err())
			}
		}); err != nil {
			t.Fatal(err)
		}
		if n := readEntry(t, c, index, a); !n.isOurs() {
			t.Fatalf("%s is not managed: %+v", a, n)
		}
	}
	first := make(chan *model.Observations, 100)
	w := watchIn(t, topo.LB, Config{
		Interfaces: []Interface{{Name: topo.Back.Interface.Name}}, Targets: []netip.Addr{wanted}, Settle: 10 * time.Second,
	}, func(o *model.Observations) { first <- o })
	<-first
	if n := readEntry(t, c, index, left); n.managed {
		t.Errorf("%s is still managed: %+v", left, n)
	}
	if n := readEntry(t, c, index, wanted); !n.isOurs() {
		t.Errorf("%s is not managed: %+v", wanted, n)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if n := readEntry(t, c, index, wanted); n.managed || n.addr != wanted {
		t.Errorf("at the end, the entry of %s is %+v", wanted, n)
	}
}

// watchIn runs a watcher in a host's namespace until the test ends.
func watchIn(t testing.TB, h *lab.Host, cfg Config, changed func(*model.Observations)) (w *Watcher) {
	t.Helper()
	err := h.Do(func() (err error) {
		w, err = Watch(context.Background(), cfg, changed)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// TestReadAgain finds what it was not told of when it reads everything again,
// and gives back then what is no longer wanted.
func TestReadAgain(t *testing.T) {
	topo := newLab(t, lab.Config{Backends: 2})
	c, index := dialIn(t, topo.LB), topo.Back.Interface.Index
	a, b := topo.Backends[0].IPv4, topo.Backends[1].IPv4
	views := make(chan *model.Observations, 100)
	w := watchIn(t, topo.LB, Config{
		Interfaces: []Interface{{Name: topo.Back.Interface.Name}}, Targets: []netip.Addr{a}, Settle: 10 * time.Second,
	}, func(o *model.Observations) { views <- o })
	<-views
	ready, err := w.SetTargets([]netip.Addr{b}, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-ready
	if n := readEntry(t, c, index, a); !n.managed {
		t.Errorf("the entry of %s is no longer managed, although it may be wanted again: %+v", a, n)
	}
	w.changes.everything()
	for deadline := time.Now().Add(10 * time.Second); readEntry(t, c, index, a).managed; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the entry of %s is still managed", a)
		}
	}
	if n := readEntry(t, c, index, b); !n.managed {
		t.Errorf("the entry of %s is not managed: %+v", b, n)
	}
}
