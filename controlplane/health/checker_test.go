package health

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

// watched is a checker whose reports are kept.
type watched struct {
	*Checker
	t  *testing.T
	mu sync.Mutex
	// by backend, in order: "up", "down: why"
	reports map[model.BackendKey][]string
}

func watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{t: t, reports: map[model.BackendKey][]string{}}
	c, err := New(Config{Report: w.report, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	w.Checker = c
	t.Cleanup(func() { must(t, c.Close()) })
	return w
}

func (w *watched) report(verdicts []Verdict) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range verdicts {
		text := v.State.String()
		if v.Reason != "" {
			text += ": " + v.Reason
		}
		w.reports[v.Key] = append(w.reports[v.Key], text)
	}
}

func (w *watched) reported(key model.BackendKey) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.reports[key])
}

// set sets targets that are other ones than before, twice.
func (w *watched) set(targets []Target) {
	w.t.Helper()
	for _, want := range []bool{true, false} {
		if changed, err := w.Set(targets); err != nil || changed != want {
			w.t.Errorf("changed %t, error %v, want %t", changed, err, want)
		}
	}
}

// until waits for a condition.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in time", what)
		}
	}
}

func (w *watched) untilState(key model.BackendKey, want State) Result {
	w.t.Helper()
	until(w.t, fmt.Sprintf("%s is %s", key.Endpoint, want), func() bool { return w.State(key) == want })
	r, ok := w.Result(key)
	if !ok {
		w.t.Fatalf("%s is not known", key.Endpoint)
	}
	return r
}

// door is a TCP port that can be opened and closed.
type door struct {
	t    *testing.T
	addr netip.AddrPort
	ln   net.Listener
	seen atomic.Int64
	done sync.WaitGroup
}

func newDoor(t *testing.T) *door {
	d := &door{t: t, addr: netip.MustParseAddrPort("127.0.0.1:0")}
	d.open()
	t.Cleanup(d.shut)
	return d
}

func (d *door) open() {
	d.t.Helper()
	ln, err := net.Listen("tcp", d.addr.String())
	must(d.t, err)
	d.ln, d.addr = ln, ln.Addr().(*net.TCPAddr).AddrPort()
	d.done.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			d.seen.Add(1)
			conn.Close()
		}
	})
}

func (d *door) shut() {
	d.ln.Close()
	d.done.Wait()
}

// fast is a check that comes often and has all the time of a busy machine.
func fast(change func(*model.Check)) *model.Check {
	c := &model.Check{Type: model.CheckTCP, Interval: 50 * time.Millisecond, Timeout: long}
	if change != nil {
		change(c)
	}
	return c.WithDefaults()
}

func target(pool string, check *model.Check, addresses ...netip.AddrPort) Target {
	t := Target{Key: model.BackendKey{Pool: pool, Endpoint: addresses[0]}, Check: check}
	for _, a := range addresses {
		t.Ways = append(t.Ways, Way{Address: a})
	}
	return t
}

// TestChecker follows backends through their lives.
func TestChecker(t *testing.T) {
	w := watch(t)
	good, flaky := newDoor(t), newDoor(t)
	dead := closedPort(t)
	check := fast(nil)
	targets := []Target{target("web", check, good.addr), target("web", check, flaky.addr), target("web", check, dead)}
	a, b, c := targets[0].Key, targets[1].Key, targets[2].Key
	if w.State(a) != Unknown {
		t.Error("a backend that nobody knows is known")
	}
	w.set(targets)
	for _, k := range []model.BackendKey{a, b} {
		if r := w.untilState(k, Up); r.Reason != "" || r.Since.IsZero() || r.Ways[0].Checks == 0 || r.Ways[0].Latency <= 0 || r.Ways[0].Streak < 1 {
			t.Errorf("%+v", r)
		}
	}
	if r := w.untilState(c, Down); r.Reason != "connection refused" || r.Ways[0].Failures < 3 || r.Ways[0].Streak > -3 || r.Ways[0].Error != r.Reason {
		t.Errorf("%+v", r)
	}
	flaky.shut()
	r := w.untilState(b, Down)
	flaky.open()
	w.untilState(b, Up)
	if again, _ := w.Result(b); !again.Since.After(r.Since) {
		t.Errorf("it is up since %v, and was down since %v", again.Since, r.Since)
	}

	results := w.Results()
	if len(results) != 3 || !slices.IsSortedFunc(results, func(a, b Result) int { return compareKeys(a.Key, b.Key) }) {
		t.Errorf("results: %+v", results)
	}
	until(t, "all is reported", func() bool { return len(w.reported(b)) == 3 })
	for key, want := range map[model.BackendKey][]string{a: {"up"}, b: {"up", "down: connection refused", "up"}, c: {"down: connection refused"}} {
		if got := w.reported(key); !slices.Equal(got, want) {
			t.Errorf("%s: reported %v, want %v", key.Endpoint, got, want)
		}
	}
	s := w.Stats()
	if s.Targets != 3 || s.Checks == 0 || s.Failures == 0 || s.Failures >= s.Checks {
		t.Errorf("stats: %+v", s)
	}
}

// TestSetKeepsWhatStays: targets that stay keep state, counts and schedule;
// those whose check is another keep their state; those that go are asked no
// more.
func TestSetKeepsWhatStays(t *testing.T) {
	w := watch(t)
	one, two, third := newDoor(t), newDoor(t), newDoor(t)
	check := fast(nil)
	all := []Target{target("web", check, one.addr), target("web", check, two.addr)}
	w.set(all)
	first := w.untilState(all[0].Key, Up)
	w.untilState(all[1].Key, Up)
	same := *check
	w.set([]Target{target("web", &same, one.addr)})
	r, _ := w.Result(all[0].Key)
	if !r.Since.Equal(first.Since) || r.Ways[0].Checks < first.Ways[0].Checks {
		t.Errorf("what stays was %+v, is %+v", first, r)
	}
	if _, known := w.Result(all[1].Key); known || len(w.Results()) != 1 {
		t.Error("what was removed is known")
	}
	// One check of it may have been under way.
	seen := two.seen.Load()
	begin := r.Ways[0].Checks
	until(t, "ten more checks", func() bool { r, _ := w.Result(all[0].Key); return r.Ways[0].Checks >= begin+10 })
	if n := two.seen.Load(); n > seen+1 {
		t.Errorf("what was removed was asked %d times", n-seen)
	}

	// Another check, and another way: it stays up until it fails.
	w.set([]Target{target("web", fast(func(c *model.Check) { c.Fall = 100 }), one.addr, third.addr)})
	if s := w.State(all[0].Key); s != Up {
		t.Errorf("with another check it is %s", s)
	}
	until(t, "the second way is checked", func() bool { r, _ := w.Result(all[0].Key); return r.Ways[1].Checks > 2 })
	if got := w.reported(all[0].Key); !slices.Equal(got, []string{"up"}) {
		t.Errorf("reported %v", got)
	}
	// All ways must be good.
	w.set([]Target{target("web", check, one.addr, third.addr)})
	third.shut()
	if r := w.untilState(all[0].Key, Down); r.Ways[0].State != Up || r.Ways[1].State != Down || r.Reason != "connection refused" {
		t.Errorf("%+v", r)
	}
	third.open()
	w.untilState(all[0].Key, Up)
}

// TestInitial: what is known already is not found out, or reported, again.
func TestInitial(t *testing.T) {
	w := watch(t)
	up, down := newDoor(t), closedPort(t)
	since := time.Now().Add(-time.Hour)
	a, b := target("web", fast(nil), up.addr), target("web", fast(nil), down)
	a.Initial, a.Since, b.Initial, b.Since = Up, since, Down, since
	w.set([]Target{a, b})
	if w.State(a.Key) != Up || w.State(b.Key) != Down {
		t.Error("the initial states do not count")
	}
	until(t, "both are checked", func() bool {
		x, _ := w.Result(a.Key)
		y, _ := w.Result(b.Key)
		return x.Ways[0].Checks > 3 && y.Ways[0].Checks > 3
	})
	for _, k := range []model.BackendKey{a.Key, b.Key} {
		if r, _ := w.Result(k); !r.Since.Equal(since) || len(w.reported(k)) != 0 {
			t.Errorf("%+v, reported %v", r, w.reported(k))
		}
	}
}

func TestSetErrors(t *testing.T) {
	w := watch(t)
	d := newDoor(t)
	bad := fast(nil)
	bad.Type = "ping"
	other := netip.AddrPortFrom(d.addr.Addr(), 1)
	_, err := w.Set([]Target{target("web", fast(nil), d.addr), target("web", fast(nil), d.addr), target("api", bad, other)})
	want := "backend " + d.addr.String() + ` of pool "web" is to be checked twice` + "\n" +
		`backend 127.0.0.1:1 of pool "api" cannot be checked: "ping" is no type of check`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	w.untilState(model.BackendKey{Pool: "web", Endpoint: d.addr}, Up)
	if s := w.State(model.BackendKey{Pool: "api", Endpoint: other}); s != Unknown {
		t.Errorf("what cannot be checked is %s", s)
	}
	must(t, w.Close())
	must(t, w.Close())
	if _, err := w.Set(nil); err == nil || err.Error() != "the checker is closed" {
		t.Errorf("after Close: %v", err)
	}
}

// TestCloseEndsChecks: a check that has an hour ends with the checker.
func TestCloseEndsChecks(t *testing.T) {
	w := watch(t)
	patient := fast(func(c *model.Check) { c.Interval, c.Timeout = time.Hour, time.Hour })
	w.set([]Target{target("web", patient, silentPort(t))})
	until(t, "it is checked", func() bool { return w.Stats().Running == 1 })
	must(t, w.Close())
	if s := w.Stats(); s.Running != 0 || s.Checks != 0 {
		t.Errorf("after Close: %+v", s)
	}
}

// TestSlots: no more programs run at a time than may, all get their turn, and
// others do not wait for them.
func TestSlots(t *testing.T) {
	w := watch(t)
	slow := fast(func(c *model.Check) {
		c.Type, c.Exec, c.Interval, c.Timeout = model.CheckExec, []string{"/bin/sleep", "0.2"}, 5*time.Second, 5*time.Second
	})
	var targets []Target
	for i := range mostPrograms + 20 {
		targets = append(targets, target("slow", slow, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(i+1))))
	}
	d := newDoor(t)
	targets = append(targets, target("web", fast(nil), d.addr))
	w.set(targets)
	most := 0
	until(t, "all are up", func() bool {
		w.Checker.mu.Lock()
		most = max(most, w.Checker.programs.used)
		w.Checker.mu.Unlock()
		return !slices.ContainsFunc(w.Results(), func(r Result) bool { return r.State != Up })
	})
	if most > mostPrograms {
		t.Errorf("%d programs ran at a time", most)
	}
	for _, r := range w.Results() {
		if strings.HasPrefix(r.Key.Pool, "slow") && r.Ways[0].Checks > 4 {
			t.Errorf("%+v", r)
		}
	}
}

// TestPrevented: what this node cannot check is not dead for that.
func TestPrevented(t *testing.T) {
	w := watch(t)
	d := newDoor(t)
	elsewhere := fast(func(c *model.Check) { c.Source = netip.MustParseAddr("192.0.2.77") })
	tgt := target("web", fast(nil), d.addr)
	w.set([]Target{tgt})
	up := w.untilState(tgt.Key, Up)
	tgt.Check = elsewhere
	missing := fast(func(c *model.Check) { c.Type, c.Exec = model.CheckExec, []string{"/nowhere"} })
	fresh := target("exec", missing, d.addr)
	w.set([]Target{tgt, fresh})
	until(t, "many checks were prevented", func() bool { return w.Stats().Prevented > 20 })
	r, _ := w.Result(tgt.Key)
	if r.State != Up || !r.Since.Equal(up.Since) || r.Ways[0].Error != "cannot be checked: the source address is not one of this node's, or has no port left" || r.Ways[0].Failures != 0 {
		t.Errorf("%+v", r)
	}
	if r, _ := w.Result(fresh.Key); r.State != Unknown || r.Reason != "cannot be checked: start: fork/exec /nowhere: no such file or directory" {
		t.Errorf("%+v", r)
	}
	if got := w.reported(tgt.Key); !slices.Equal(got, []string{"up"}) {
		t.Errorf("reported %v", got)
	}
}

// TestSchedule: checks come in their interval, give or take the jitter, and the
// first ones of many targets are spread.
func TestSchedule(t *testing.T) {
	c, err := New(Config{Report: func([]Verdict) {}, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	must(t, c.Close()) // nothing runs; only times are looked at
	k := fast(func(c *model.Check) { c.Interval, c.Jitter = time.Second, 20 })
	now := time.Now()
	p := &probed{of: &backend{check: k}, begin: now}
	least, most := time.Hour, time.Duration(0)
	for range 1000 {
		c.due = nil
		p.started = false
		c.again(p, now)
		if d := p.at.Sub(now); d < 500*time.Millisecond || d > 1500*time.Millisecond {
			t.Fatalf("the second check comes after %v", d)
		}
		c.due = nil
		c.again(p, now)
		least, most = min(least, p.at.Sub(now)), max(most, p.at.Sub(now))
	}
	if least < 800*time.Millisecond || least > 850*time.Millisecond || most > 1200*time.Millisecond || most < 1150*time.Millisecond {
		t.Errorf("checks come after %v to %v", least, most)
	}
	fresh := make([]*probed, 5000)
	for i := range fresh {
		fresh[i] = &probed{of: &backend{check: k}}
	}
	c.due = nil
	c.begin(fresh, now)
	slices.SortFunc(fresh, func(a, b *probed) int { return a.at.Compare(b.at) })
	if first, last := fresh[0].at.Sub(now), fresh[len(fresh)-1].at.Sub(now); first > apart || last > time.Second/2 || last < 400*time.Millisecond {
		t.Errorf("the first checks of 5,000 targets come after %v to %v", first, last)
	}
}
