package serving

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

// world is a keeper, a clock, and a data path that takes everything unless told
// otherwise.
type world struct {
	t       *testing.T
	now     time.Time
	keeper  *Keeper
	inForce map[string][]model.Backend
	applied int
	refuse  error
	changes int
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, now: time.Unix(1_000_000, 0), inForce: map[string][]model.Backend{}}
	w.keeper = New(w, func() time.Time { return w.now }, func() { w.changes++ })
	return w
}

// ApplyPools implements Applier.
func (w *world) ApplyPools(pools ...model.Pool) (bool, error) {
	if w.refuse != nil {
		return false, w.refuse
	}
	for _, p := range pools {
		if slices.Equal(w.inForce[p.Name], p.Backends) {
			w.t.Errorf("pool %s is applied as it is", p.Name)
		}
		w.inForce[p.Name] = p.Backends
	}
	w.applied++
	return true, nil
}

func (w *world) apply(state *model.State, settings ...model.BackendSetting) {
	w.t.Helper()
	err := w.keeper.Apply(state, settings, func(s *model.State) error {
		clear(w.inForce)
		for _, p := range s.Pools {
			w.inForce[p.Name] = p.Backends
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) report(health Health, backends ...int) {
	w.t.Helper()
	verdicts := map[model.BackendKey]Verdict{}
	for _, n := range backends {
		verdicts[key(n)] = Verdict{health, w.now}
	}
	if err := w.keeper.Report(verdicts); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) after(d time.Duration) {
	w.t.Helper()
	w.now = w.now.Add(d)
	if err := w.keeper.Tick(); err != nil {
		w.t.Fatal(err)
	}
}

// shares writes down what the backends of the pool get: per mille, "-" for one
// whose flows are ended, with its weight where that is not 1.
func (w *world) shares(want string) {
	w.t.Helper()
	var got []string
	for _, b := range w.inForce["web"] {
		text := fmt.Sprint(fullShare - b.Serving.Withheld)
		if b.Serving.Down {
			text = "-"
		}
		if b.Weight != 1 {
			text += fmt.Sprintf("*%d", b.Weight)
		}
		got = append(got, text)
	}
	if text := strings.Join(got, " "); text != want {
		w.t.Errorf("shares are %q, want %q", text, want)
	}
}

func address(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 10, byte(n)}) }

func key(n int) model.BackendKey {
	return model.BackendKey{Pool: "web", Endpoint: netip.AddrPortFrom(address(n), 80)}
}

func web(backends ...int) *model.State {
	p := model.Pool{Name: "web", Check: &model.Check{Type: model.CheckTCP}}
	for _, n := range backends {
		p.Backends = append(p.Backends, model.Backend{Address: address(n), Port: 80, Weight: 1})
	}
	return &model.State{Pools: []model.Pool{p}}
}

// TestStart: until every backend was judged, who is not judged is used; from
// then on a new one has to prove itself, and starts slowly.
func TestStart(t *testing.T) {
	w := newWorld(t)
	state := web(1, 2, 3)
	state.Pools[0].SlowStart = 10 * time.Second
	w.apply(state)
	w.shares("1000 1000 1000")
	w.report(Up, 1)
	w.report(Down, 2)
	w.shares("1000 - 1000")
	w.report(Up, 3)
	w.shares("1000 - 1000")

	state = web(1, 2, 3, 4)
	state.Pools[0].SlowStart = 10 * time.Second
	w.apply(state)
	w.shares("1000 - 1000 0")
	if p, _ := w.keeper.Pool("web"); p != (Pool{Backends: 4, Enabled: 4, Healthy: 2, Unknown: 1, Used: 2}) {
		t.Errorf("the pool is %+v", p)
	}
	w.report(Up, 4)
	w.shares("1000 - 1000 50")
	w.after(time.Second)
	w.shares("1000 - 1000 100")
	w.after(400 * time.Millisecond)
	w.shares("1000 - 1000 100")
	w.after(5100 * time.Millisecond)
	w.shares("1000 - 1000 650")
	w.after(3499 * time.Millisecond)
	w.shares("1000 - 1000 950")
	w.after(time.Millisecond)
	w.shares("1000 - 1000 1000")
	applied := w.applied
	w.after(time.Hour)
	if w.applied != applied {
		t.Error("a pool in which nothing changes is applied again")
	}
}

// TestUnknownWhenAllAreDown: a backend that is not judged yet is better than
// none.
func TestUnknownWhenAllAreDown(t *testing.T) {
	w := newWorld(t)
	w.apply(web(1, 2))
	w.report(Down, 1, 2)
	w.shares("- -")
	w.apply(web(1, 2, 3))
	w.shares("- - 1000")
	w.report(Up, 2)
	w.shares("- 1000 0")
}

func TestPanic(t *testing.T) {
	w := newWorld(t)
	state := web(1, 2, 3, 4)
	state.Pools[0].PanicThreshold = 50
	w.apply(state, model.BackendSetting{BackendKey: key(4), State: model.Disabled})
	w.report(Up, 1, 2, 3, 4)
	w.shares("1000 1000 1000 -")
	w.report(Down, 1)
	w.shares("- 1000 1000 -")
	w.report(Down, 2)
	w.shares("1000 1000 1000 -") // one of three is less than half
	if p, _ := w.keeper.Pool("web"); p != (Pool{Backends: 4, Enabled: 3, Healthy: 1, Used: 3, Panic: true}) {
		t.Errorf("the pool is %+v", p)
	}
	if _, b := w.keeper.Backends("web"); b[0].Why != "down, used in panic" || !b[0].Used || b[3].Why != "disabled" {
		t.Errorf("the backends are %+v", b)
	}
	w.report(Up, 2)
	w.shares("- 1000 1000 -")
}

func TestSettings(t *testing.T) {
	w := newWorld(t)
	w.apply(web(1, 2, 3))
	w.report(Up, 1, 2, 3)
	five := 5
	set := func(settings ...model.BackendSetting) {
		t.Helper()
		if err := w.keeper.Set(settings); err != nil {
			t.Fatal(err)
		}
	}
	set(
		model.BackendSetting{BackendKey: key(1), State: model.Drained, Deadline: w.now.Add(time.Minute)},
		model.BackendSetting{BackendKey: key(2), State: model.Enabled, Weight: &five},
	)
	w.shares("0 1000*5 1000")
	w.after(59 * time.Second)
	w.shares("0 1000*5 1000")
	w.after(time.Second)
	w.shares("- 1000*5 1000")

	set(model.BackendSetting{BackendKey: key(1), State: model.Drained}) // for as long as it takes
	w.shares("0 1000 1000")
	w.after(time.Hour)
	w.shares("0 1000 1000")
	w.report(Down, 1)
	w.shares("- 1000 1000")
	w.report(Up, 1)

	w.apply(web(3, 1), model.BackendSetting{BackendKey: key(1), State: model.Disabled})
	w.shares("1000 -")
	set()
	w.shares("1000 1000")

	// What cannot take effect is no setting.
	w.refuse = errors.New("no")
	if err := w.keeper.Set([]model.BackendSetting{{BackendKey: key(3), State: model.Disabled}}); !errors.Is(err, w.refuse) {
		t.Errorf("error %v", err)
	}
	w.refuse = nil
	w.after(time.Second)
	w.shares("1000 1000")
	if len(w.keeper.Settings()) != 0 {
		t.Errorf("settings are %v", w.keeper.Settings())
	}
}

// TestRefusedVerdictIsTriedAgain: a verdict holds although the data path did not
// take it over, which it does later.
func TestRefusedVerdictIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.apply(web(1, 2))
	w.refuse = errors.New("busy")
	if err := w.keeper.Report(map[model.BackendKey]Verdict{key(1): {Down, w.now}}); !errors.Is(err, w.refuse) {
		t.Errorf("error %v", err)
	}
	w.shares("1000 1000")
	w.refuse = nil
	w.after(time.Millisecond)
	w.shares("- 1000")
}

// TestRefusedStateChangesNothing: verdicts, settings and pools are those before.
func TestRefusedStateChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.apply(web(1, 2))
	w.report(Down, 1)
	refused := errors.New("refused")
	err := w.keeper.Apply(web(2, 3), []model.BackendSetting{{BackendKey: key(2), State: model.Disabled}}, func(*model.State) error { return refused })
	if err != refused {
		t.Errorf("error %v", err)
	}
	w.shares("- 1000")
	w.report(Up, 1)
	w.shares("1000 1000")
}

// TestCheckTakenAway: without checks all backends are alive, whatever the last
// verdicts were.
func TestCheckTakenAway(t *testing.T) {
	w := newWorld(t)
	w.apply(web(1, 2))
	w.report(Down, 1)
	state := web(1, 2)
	state.Pools[0].Check = nil
	w.apply(state)
	w.shares("1000 1000")
	w.report(Down, 1)
	w.shares("1000 1000")
	w.apply(web(1, 2))
	w.shares("1000 1000")
}

// TestRandom compares what is in force with a fresh keeper that was told only of
// how things stand, after each of many random steps without slow starts.
func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	w := newWorld(t)
	state := web(1, 2)
	settings := map[model.BackendKey]model.BackendSetting{}
	health := map[model.BackendKey]Verdict{}
	list := func() (out []model.BackendSetting) {
		for _, s := range settings {
			out = append(out, s)
		}
		return out
	}
	w.apply(state)
	for step := range 3000 {
		switch r.IntN(4) {
		case 0:
			var backends []int
			for _, n := range r.Perm(6)[:r.IntN(6)] {
				backends = append(backends, n+1)
			}
			state = web(backends...)
			state.Pools[0].PanicThreshold = r.IntN(3) * 40
			for k := range health {
				if !slices.ContainsFunc(backends, func(n int) bool { return key(n) == k }) {
					delete(health, k)
				}
			}
			w.apply(state, list()...)
		case 1:
			n := key(r.IntN(6) + 1)
			s := model.BackendSetting{BackendKey: n, State: []model.AdminState{model.Enabled, model.Drained, model.Disabled}[r.IntN(3)]}
			if r.IntN(2) == 0 {
				weight := r.IntN(4)
				s.Weight = &weight
			}
			if r.IntN(2) == 0 {
				s.Deadline = w.now.Add(time.Duration(r.IntN(20)) * time.Second)
			}
			settings[n] = s
			if err := w.keeper.Set(list()); err != nil {
				t.Fatal(err)
			}
		case 2:
			n := r.IntN(6) + 1
			h := []Health{Up, Down}[r.IntN(2)]
			w.report(h, n)
			if slices.ContainsFunc(state.Pools[0].Backends, func(b model.Backend) bool { return b.Endpoint() == key(n).Endpoint }) {
				health[key(n)] = Verdict{h, w.now}
			}
		case 3:
			w.after(time.Duration(r.IntN(15)) * time.Second)
		}
		fresh := newWorld(t)
		fresh.now = w.now
		fresh.apply(state, list()...)
		fresh.keeper.pools["web"].settled = w.keeper.pools["web"].settled
		fresh.keeper.dirty["web"] = true
		if err := fresh.keeper.Report(health); err != nil {
			t.Fatal(err)
		}
		fresh.keeper.pools["web"].settled = w.keeper.pools["web"].settled
		if !slices.Equal(w.inForce["web"], fresh.inForce["web"]) {
			t.Fatalf("step %d: in force is %+v, fresh would be %+v", step, w.inForce["web"], fresh.inForce["web"])
		}
	}
}

// TestKeepFlows: who only says that it wants no new flows keeps those it has, also
// while it drains.
func TestKeepFlows(t *testing.T) {
	w := newWorld(t)
	state := web(1, 2, 3)
	state.Pools[0].Check.KeepFlows = true
	state.Pools[0].Backends[2].Weight = 0
	w.apply(state)
	w.report(Up, 1, 2, 3)
	w.shares("1000 1000 1000*0")
	w.report(Down, 1, 3)
	w.shares("0 1000 1000*0")
	if p, _ := w.keeper.Pool("web"); p != (Pool{Backends: 3, Enabled: 2, Healthy: 1, Used: 1}) {
		t.Errorf("the pool is %+v", p)
	}
	if _, b := w.keeper.Backends("web"); b[0].Why != "down" || b[0].Ended || b[0].Used || b[2].Ended {
		t.Errorf("the backends are %+v", b)
	}
	w.report(Up, 1)
	w.shares("1000 1000 1000*0")
}
