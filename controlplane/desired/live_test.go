package desired

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

const liveSource = "kubernetes"

func group(name string, parts ...any) model.Group {
	s := state(parts...)
	return model.Group{Name: name, VIPs: s.VIPs, Services: s.Services, Pools: s.Pools}
}

func liveRig(t *testing.T, directory string) *rig {
	t.Helper()
	r := newRig(t, Config{Directory: directory, Live: []string{liveSource}})
	r.begin(state(service("own", 1, "own"), pool("own", 1)))
	return r
}

// want makes a change and demands that these groups wait, with these reasons.
func (r *rig) change(set []model.Group, remove []string, want map[string]string) {
	r.t.Helper()
	refused, err := r.Live(liveSource).Change(set, remove)
	if err != nil {
		r.t.Fatal(err)
	}
	r.wantRefused(refused, want)
}

func (r *rig) wantRefused(refused map[string]error, want map[string]string) {
	r.t.Helper()
	got := map[string]string{}
	for name, err := range refused {
		got[name] = err.Error()
	}
	if !maps.Equal(got, want) {
		r.t.Errorf("refused are %q, want %q", got, want)
	}
}

// TestLiveBesideVersions: groups are in force beside what versions declare, and
// versions know nothing of them.
func TestLiveBesideVersions(t *testing.T) {
	r := liveRig(t, "")
	before := r.Status().Version
	r.change([]model.Group{group("a", service("a", 2, "a"), pool("a", 2)), group("b", service("b", 3, "b"), pool("b", 3))}, nil, nil)
	r.wantServices("own a b")
	if r.Status().Version != before || len(r.History()) != 1 {
		t.Errorf("groups have made version %d of %d", r.Status().Version, len(r.History()))
	}
	result := r.declare(SourceAPI, state(service("more", 4, "more"), pool("more", 4)), Request{})
	if text := result.Version.Summary.String(); text != "+1 service, +1 pool, +1 backend" {
		t.Errorf("the version's summary is %q", text)
	}
	r.wantServices("own more a b")
	r.change(nil, []string{"a", "unknown"}, nil)
	r.wantServices("own more b")
	refused, err := r.Live(liveSource).Replace([]model.Group{group("c", service("c", 5, "c"), pool("c", 5))})
	if err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	r.wantServices("own more c")
	if _, err := r.Rollback(1, Request{}); err != nil {
		t.Fatal(err)
	}
	r.wantServices("own c")
}

// TestLiveRefused: what cannot be in force is named with the reason, and what it
// was before stays.
func TestLiveRefused(t *testing.T) {
	r := liveRig(t, "")
	r.declare(SourceAPI, state(model.SNAT{Address: addr(9), Ports: model.DefaultSNATPorts}, service("own2", 20, "own2"), pool("own2", 20)), Request{})
	r.change([]model.Group{
		group("port", service("x", 1, "x"), pool("x", 2)),
		group("name", service("own", 2, "y"), pool("y", 2)),
		group("snat", service("z", 9, "z"), pool("z", 2)),
		group("nothing", service("n", 3, "none")),
		group("good", service("g", 4, "g"), pool("g", 2)),
		group("vip1", model.VIP{Address: addr(5), FailAction: model.FailDrop, AnswerPing: true, Announce: model.DefaultAnnounce()}, service("v1", 5, "v1"), pool("v1", 2)),
		group("vip2", model.VIP{Address: addr(5), FailAction: model.FailPass, AnswerPing: true, Announce: model.DefaultAnnounce()}, pool("v2", 2)),
	}, nil, map[string]string{
		"port":    `service "x": 198.18.0.1 tcp port 80 already belongs to service "own"`,
		"name":    `service "own" is defined twice`,
		"snat":    "VIP 198.18.0.9 is also a SNAT address of this node",
		"nothing": `service "n": there is no pool "none"`,
		"vip2":    `VIP 198.18.0.5 is to be treated otherwise than "vip1" wants`,
	})
	r.wantServices("own own2 g v1")
	// Who has what they want can be told.
	rivals := map[string]string{}
	for name, why := range r.Live(liveSource).Refused() {
		if clash, is := errors.AsType[*model.ClashError](why); is {
			rivals[name] = clash.Rival
		}
	}
	if want := map[string]string{"port": "own", "vip2": "vip1"}; !maps.Equal(rivals, want) {
		t.Errorf("in the way are %v, want %v", rivals, want)
	}

	// A change for the worse leaves what was.
	r.change([]model.Group{group("good", service("g", 1, "g"), pool("g", 7))}, []string{"port", "name", "snat", "nothing", "vip2"},
		map[string]string{"good": `service "g": 198.18.0.1 tcp port 80 already belongs to service "own"`})
	if s := r.inForce.State; s.Services[len(s.Services)-2].VIP != addr(4) && s.Services[len(s.Services)-1].VIP != addr(4) {
		t.Errorf("the earlier group is not in force: %+v", s.Services)
	}
	// When there is room for it, it comes into force.
	r.declare(SourceFile, state(service("own", 30, "own"), pool("own", 1)), Request{})
	r.wantRefused(r.Live(liveSource).Refused(), map[string]string{})
	r.change(nil, []string{"vip1"}, nil)
	r.wantServices("own own2 g")
	if s := r.inForce.State; s.Services[2].VIP != addr(1) {
		t.Errorf("the group that has waited is not in force: %+v", s.Services[2])
	}
}

// TestLiveDisplaced: an operator's change takes no group out of force unless that
// is meant; then the group waits.
func TestLiveDisplaced(t *testing.T) {
	r := liveRig(t, "")
	r.change([]model.Group{group("a", service("a", 2, "a"), pool("a", 2))}, nil, nil)
	taken := state(service("mine", 2, "mine"), pool("mine", 3))
	why := `service "a": 198.18.0.2 tcp port 80 already belongs to service "mine"`
	r.refused(declaration(SourceAPI, taken), Request{}, `this takes out of force "a" of source "kubernetes": `+why+`; use --force if it is meant`)
	r.wantServices("own a")
	r.declare(SourceAPI, taken, Request{Force: true})
	r.wantServices("own mine")
	r.wantRefused(r.Live(liveSource).Refused(), map[string]string{"a": why})
	r.declare(SourceAPI, state(), Request{})
	r.wantServices("own a")
	r.wantRefused(r.Live(liveSource).Refused(), map[string]string{})
}

// TestLiveBackends: a change of backends alone says which pools it is of.
func TestLiveBackends(t *testing.T) {
	r := liveRig(t, "")
	a, b := group("a", service("a", 2, "a"), pool("a", 2)), group("b", service("b", 3, "b"), pool("b", 3))
	r.change([]model.Group{a, b}, nil, nil)
	if r.inForce.Pools != nil {
		t.Error("new groups are taken for a change of backends")
	}
	times, live := r.times, r.inForce.Live
	r.change([]model.Group{a, b}, nil, nil)
	if r.times != times {
		t.Error("nothing has changed, and it was put in force")
	}
	b.Pools = []model.Pool{pool("b", 3, 4)}
	r.change([]model.Group{a, b}, nil, nil)
	if r.inForce.Live == live || len(r.inForce.Pools) != 1 || !r.inForce.Pools[0].Serves(&b.Pools[0]) || !r.inForce.State.Pools[2].Serves(&b.Pools[0]) {
		t.Errorf("in force is %+v with %+v", r.inForce.State.Pools, r.inForce.Pools)
	}
	wrong := b
	wrong.Pools = []model.Pool{pool("b", 3, 3)}
	r.change([]model.Group{wrong}, nil, map[string]string{"b": `pool "b": backend 198.18.10.3:80 is listed twice`})
	if !slices.ContainsFunc(r.inForce.State.Pools, func(p model.Pool) bool { return p.Name == "b" && p.Serves(&b.Pools[0]) }) {
		t.Errorf("in force is %+v", r.inForce.State.Pools)
	}
	// So is a change of what a pool refuses.
	b.Pools = []model.Pool{pool("b", 3, 4)}
	r.change([]model.Group{b}, nil, nil) // nothing waits any more
	b.Pools = []model.Pool{pool("b", 3, 4)}
	b.Pools[0].Refused = 5
	r.change([]model.Group{b}, nil, nil)
	if len(r.inForce.Pools) != 1 || r.inForce.Pools[0].Refused != 5 || !slices.ContainsFunc(r.inForce.State.Pools, func(p model.Pool) bool { return p.Serves(&b.Pools[0]) }) {
		t.Errorf("in force is %+v with %+v", r.inForce.State.Pools, r.inForce.Pools)
	}
	// An operator sets one of its backends.
	if _, err := r.SetBackend("b", "198.18.10.4", Action{State: model.Drained}, Request{}); err != nil {
		t.Fatal(err)
	}
	if len(r.inForce.Settings) != 1 {
		t.Errorf("settings %+v", r.inForce.Settings)
	}
}

// TestLiveNotInForce: what the data path does not take changes nothing.
func TestLiveNotInForce(t *testing.T) {
	r := liveRig(t, "")
	a := group("a", service("a", 2, "a"), pool("a", 2))
	r.refuse = errors.New("no room")
	if _, err := r.Live(liveSource).Change([]model.Group{a}, nil); err == nil || err.Error() != "cannot be put in force: no room" {
		t.Errorf("got %v", err)
	}
	r.refuse = nil
	r.wantServices("own")
	r.change([]model.Group{a}, nil, nil)
	r.wantServices("own a")
}

// TestLiveRestart: what live sources wanted last is there again before they say
// anything, as far as the file allows.
func TestLiveRestart(t *testing.T) {
	dir := t.TempDir()
	r := liveRig(t, dir)
	r.change([]model.Group{group("a", service("a", 2, "a"), pool("a", 2)), group("b", service("b", 3, "b"), pool("b", 3)), group("wrong", service("w", 1, "w"), pool("w", 3))},
		nil, map[string]string{"wrong": `service "w": 198.18.0.1 tcp port 80 already belongs to service "own"`})
	r.keepLive(false) // too early
	if _, err := os.Stat(filepath.Join(dir, liveDir)); err == nil {
		t.Error("it was written at once")
	}
	r.now = r.now.Add(time.Second + liveEvery)
	r.keepLive(false)
	r.restart()
	r.begin(state(service("own", 3, "own"), pool("own", 1)))
	r.wantServices("own a w")
	r.wantRefused(r.Live(liveSource).Refused(), map[string]string{"b": `service "b": 198.18.0.3 tcp port 80 already belongs to service "own"`})

	// A file that is not what was written.
	name := filepath.Join(dir, liveDir, liveSource+".json")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(strings.Replace(string(data), "198.18.0.2", "198.18.0.7", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.begin(state(service("own", 3, "own"), pool("own", 1)))
	r.wantServices("own")
	if got := r.conditions(); got != string(Damaged) {
		t.Errorf("conditions %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, asideDir, liveSource+".json")); err != nil {
		t.Error(err)
	}

	// A source that is none any more.
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r.cfg.Live = nil
	r.restart()
	r.begin(state(service("own", 3, "own"), pool("own", 1)))
	r.wantServices("own")
	if _, err := os.Stat(name); err == nil {
		t.Error("what a source has left that is none any more is still there")
	}
}

// TestLiveRandom makes random changes of groups and of what versions declare.
// Whatever they are, what is in force is valid, every group is in force as it is
// wanted or refused, and what is said to be a change of backends is no more.
func TestLiveRandom(t *testing.T) {
	for seed := range uint64(60) {
		r := liveRig(t, "")
		rnd := rand.New(rand.NewPCG(seed, 1))
		wanted := map[string]model.Group{}
		random := func(name string) model.Group {
			p := pool("p-"+name, 1+rnd.IntN(4), 5+rnd.IntN(4))
			if rnd.IntN(20) == 0 {
				p.Backends = append(p.Backends, p.Backends[0])
			}
			n := 1 + rnd.IntN(8)
			if before, ok := wanted[name]; ok && rnd.IntN(3) > 0 {
				n = int(before.Services[0].VIP.As4()[3])
			}
			return group(name, service("s-"+name, n, p.Name), p)
		}
		for range 60 {
			before := r.inForce
			switch rnd.IntN(5) {
			case 0:
				file := state(service("own", 1+rnd.IntN(8), "own"), pool("own", 1))
				var gone *DisplacedError
				if _, err := r.Declare(declaration(SourceFile, file), Request{Force: rnd.IntN(2) == 0}); err != nil && !errors.As(err, &gone) {
					t.Fatal(err)
				}
			case 1:
				name := fmt.Sprint(rnd.IntN(6))
				delete(wanted, name)
				if _, err := r.Live(liveSource).Change(nil, []string{name}); err != nil {
					t.Fatal(err)
				}
			default:
				var set []model.Group
				for range 1 + rnd.IntN(2) {
					g := random(fmt.Sprint(rnd.IntN(6)))
					if !slices.ContainsFunc(set, func(o model.Group) bool { return o.Name == g.Name }) {
						set = append(set, g)
						wanted[g.Name] = g
					}
				}
				if _, err := r.Live(liveSource).Change(set, nil); err != nil {
					t.Fatal(err)
				}
			}
			check(t, r, before, wanted)
		}
	}
}

// check demands what TestLiveRandom says.
func check(t *testing.T, r *rig, before *Desired, wanted map[string]model.Group) {
	t.Helper()
	now := r.inForce
	if errs := model.Validate(now.State); len(errs) > 0 {
		t.Fatalf("in force is what is not valid: %v", errs)
	}
	refused := r.Live(liveSource).Refused()
	services, pools := map[string]model.Service{}, map[string]model.Pool{}
	for _, s := range now.State.Services {
		services[s.Name] = s
	}
	for _, p := range now.State.Pools {
		pools[p.Name] = p
	}
	for name, g := range wanted {
		s, there := services["s-"+name]
		p := pools["p-"+name]
		if is := there && s.Equal(&g.Services[0]) && p.Serves(&g.Pools[0]); is == (refused[name] != nil) {
			t.Fatalf("group %s: as it is wanted: %v, refused: %v", name, is, refused[name])
		}
	}
	for name := range services {
		if _, ok := wanted[strings.TrimPrefix(name, "s-")]; name != "own" && !ok {
			t.Fatalf("service %s is in force and nobody wants it", name)
		}
	}
	if now.Pools == nil || now == before {
		return
	}
	then := *before.State
	then.Pools = slices.Clone(then.Pools)
	for _, p := range now.Pools {
		at := slices.IndexFunc(then.Pools, func(o model.Pool) bool { return o.Name == p.Name })
		then.Pools[at] = p
	}
	if !then.EqualButPools(now.State) || !slices.EqualFunc(then.Pools, now.State.Pools, func(a, b model.Pool) bool { return a.Name == b.Name && a.Serves(&b) }) {
		t.Fatal("what is said to be a change of backends is more")
	}
}
