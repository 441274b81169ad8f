package neighbor_test

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"fairlead/controlplane/model"
	"fairlead/controlplane/neighbor"
	"fairlead/perf/lab"
)

// TestEnd ends a watcher by its context and asserts that nothing happens
// afterwards and that nobody is left waiting.
func TestEnd(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 1})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var w *neighbor.Watcher
	var waiting <-chan struct{}
	r.must(r.LB.Do(func() (err error) {
		w, err = neighbor.Watch(ctx, neighbor.Config{Interfaces: r.both()}, r.take)
		return err
	}))
	r.until("first view", func(*model.Observations) bool { return true })
	// Nobody answers for this one, so the watcher ends before it is ready.
	waiting, err := w.SetTargets([]netip.Addr{r.Back.Segment.Addr4(77)}, nil)
	r.must(err)
	r.untilHop(r.Back.Segment.Addr4(77), model.NextHop{Interface: r.Back.Interface.Name})
	cancel()
	r.must(w.Wait())
	<-waiting
	seen := r.last()
	ready, err := w.SetTargets(r.backends(), nil)
	r.must(err)
	<-ready
	r.must(r.Back.Interface.SetMTU(1400))
	r.must(w.Close())
	r.must(w.Close())
	if r.last() != seen {
		t.Error("a view came after the end")
	}
}

// TestSettle holds the first view back for targets without a MAC address, and
// not longer than it may.
func TestSettle(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 1})
	absent := r.Back.Segment.Addr4(77)
	begin := time.Now()
	r.watch(neighbor.Config{Interfaces: r.both(), Targets: append(r.backends(), absent), Settle: 2 * time.Second})
	o := r.until("first view", func(*model.Observations) bool { return true })
	if waited := time.Since(begin); waited < 2*time.Second {
		t.Errorf("the first view came after %v", waited)
	}
	if got, want := o.NextHops[absent], (model.NextHop{Interface: r.Back.Interface.Name}); got != want {
		t.Errorf("%s: %+v, want %+v", absent, got, want)
	}
	for _, a := range r.backends() {
		if got, want := o.NextHops[a], r.behind(r.Backends[0].Interface); got != want {
			t.Errorf("%s: %+v, want %+v", a, got, want)
		}
	}
}

// TestViewsStay asserts that a view never changes after it was given.
func TestViewsStay(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 1})
	w := r.watch(neighbor.Config{Interfaces: r.both(), Targets: r.backends(), Settle: patience})
	first := r.until("first view", func(*model.Observations) bool { return true })
	hops, interfaces := maps.Clone(first.NextHops), slices.Clone(first.Interfaces)
	r.must(r.Front.Interface.SetMTU(1400))
	ready, err := w.SetTargets(r.backends()[:1], nil)
	r.must(err)
	<-ready
	r.until("another one", func(o *model.Observations) bool { return len(o.NextHops) == 1 && o.Interfaces[0].MTU == 1400 })
	if !maps.Equal(hops, first.NextHops) || !slices.Equal(interfaces, first.Interfaces) {
		t.Errorf("the first view is now %+v", first)
	}
}

// TestNothingNew asserts that what changes nothing is no news.
func TestNothingNew(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 2})
	b := r.Backends[0]
	w := r.watch(neighbor.Config{Interfaces: r.both(), Targets: r.backends(), Settle: patience})
	seen := r.until("first view", func(*model.Observations) bool { return true })
	// Routes to elsewhere, neighbours that are no target's, states that change.
	r.route("192.0.2.0/24", b.IPv4)
	r.route("198.18.10.0/25", netip.Addr{}) // as before, by another route
	r.must(r.Front.Interface.AddAddress(netip.MustParsePrefix("203.0.113.1/24")))
	r.send(r.Client.IPv4)
	r.send(b.IPv4)
	ready, err := w.SetTargets(r.backends(), nil)
	r.must(err)
	<-ready
	if now := r.last(); now != seen {
		t.Errorf("view\n%+v\nafter\n%+v", now, seen)
	}
}

// TestMistakes are told with their names.
func TestMistakes(t *testing.T) {
	two := []neighbor.Interface{{Name: "eth0"}, {Name: "eth0"}}
	for _, c := range []struct {
		cfg  neighbor.Config
		want string
	}{
		{neighbor.Config{Interfaces: two}, "interface eth0 is listed twice"},
		{neighbor.Config{Interfaces: two[:1], Static: []neighbor.Static{{Address: far4, Interface: "eth1"}}},
			"static next hop 192.0.2.10 is behind eth1, which is none of the interfaces"},
	} {
		w, err := neighbor.Watch(t.Context(), c.cfg, func(*model.Observations) { t.Error("a view") })
		if err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %q", err, c.want)
		}
		if w != nil {
			t.Error("a watcher with a mistake runs")
			w.Close()
		}
	}
}
