package desired

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

// TestSources: what several sources declare is in force together, each owns
// what is its own, and a restart has all of it.
func TestSources(t *testing.T) {
	r := newRig(t, Config{Directory: t.TempDir()})
	r.begin(state(pool("web", 1, 2), service("web", 1, "web"), model.Tunnel{Source4: netip.MustParseAddr("198.18.9.1")}))
	r.wantServices("web")
	result := r.declare(SourceAPI, state(service("shop", 2, "web"), pool("own", 3)), Request{User: "alice", Comment: "first"})
	if !result.Changed || result.Version.Number != 2 || result.Version.Author != (Author{Source: SourceAPI, User: "alice"}) || result.Version.Comment != "first" ||
		result.Version.Summary.String() != "+1 service, +1 pool, +1 backend" {
		t.Errorf("result %+v, version %+v", result, result.Version)
	}
	if _, err := r.Declare(untyped("kubernetes", state(service("pods", 3, "own"))), Request{}); err != nil {
		t.Fatal(err)
	}
	r.wantServices("web shop pods")
	if r.inForce.State.Tunnel.Source4 != netip.MustParseAddr("198.18.9.1") {
		t.Errorf("tunnel %+v", r.inForce.State.Tunnel)
	}
	before := r.inForce

	// The same again is nothing.
	for _, d := range []*Declaration{declaration(SourceAPI, state(service("shop", 2, "web"), pool("own", 3))), untyped("kubernetes", state(service("pods", 3, "own")))} {
		if result, err := r.Declare(d, Request{Confirm: time.Minute}); err != nil || result.Changed || len(result.Changes) != 0 {
			t.Errorf("%s: %+v, %v", d.Source, result, err)
		}
	}
	if r.inForce != before || r.times != 2 || r.Status().Pending != nil {
		t.Errorf("what was there was put in force again: %d times, %+v", r.times, r.Status())
	}

	r.restart()
	r.begin(state(pool("web", 1, 2), service("web", 1, "web"), model.Tunnel{Source4: netip.MustParseAddr("198.18.9.1")}))
	if !reflect.DeepEqual(r.inForce.State, before.State) || r.inForce.Version.Number != 3 {
		t.Errorf("after a restart version %d is in force:\n%+v\nwant\n%+v", r.inForce.Version.Number, r.inForce.State, before.State)
	}
	// A source that declares nothing has nothing.
	r.refused(declaration(SourceAPI, &model.State{}), Request{}, `source "kubernetes": service[0].pool: service "pods": there is no pool "own"`)
	r.declare(SourceAPI, state(pool("own", 3)), Request{})
	r.wantServices("web pods")
	if got := r.History(); len(got) != 4 || got[0].Number != 4 || got[3].Number != 1 || got[0].Summary.String() != "-1 service" || got[3].Comment != "start" {
		t.Errorf("history %+v", got)
	}
}

// TestConflicts: what two sources declare is refused, and both are named.
func TestConflicts(t *testing.T) {
	r := newRig(t, Config{})
	a := netip.MustParseAddr("198.18.5.5")
	r.begin(state(pool("web", 1), service("web", 1, "web"), model.SNAT{Address: a}, model.VIP{Address: netip.MustParseAddr("198.18.0.9")}))
	r.refused(declaration(SourceAPI, state(pool("web", 2), service("web", 2, "web"), model.SNAT{Address: a}, model.VIP{Address: netip.MustParseAddr("198.18.0.9")})), Request{},
		`api.toml: vip[0].address: VIP 198.18.0.9 of source "api" is declared by source "file" as well
api.toml: snat[0].address: SNAT address 198.18.5.5 of source "api" is declared by source "file" as well
api.toml: pool[0].name: pool "web" of source "api" is declared by source "file" as well
api.toml: service[0].name: service "web" of source "api" is declared by source "file" as well`)
	r.refused(untyped("zoo", state(model.Tunnel{TTL: 3})), Request{}, `source "zoo": tunnel.source_ipv4: source "zoo" declares tunnel settings; they belong to the node's file`)
	limits := &model.State{Limits: model.DefaultLimits()}
	r.refused(untyped("zoo", limits), Request{}, `source "zoo": limits.fragment_hold: source "zoo" declares limits or a hash seed; they belong to the node's file`)
	// Indexes are those of each source's own text, in the order file, others.
	r.declare(SourceAPI, state(pool("own", 2)), Request{})
	r.refused(declaration(SourceFile, state(service("a", 1, "x"), service("b", 1, "own"))), Request{},
		`file.toml: service[0].pool: service "a": there is no pool "x"
file.toml: service[1].port: service "b": 198.18.0.1 tcp port 80 already belongs to service "a"`)
	r.refused(declaration("zoo", state(service("c", 7, "own"), service("a", 1, "own"))), Request{},
		`zoo.toml: service[1].port: service "a": 198.18.0.1 tcp port 80 already belongs to service "web"`)
}

// TestRefusedByTheNode: what cannot be put in force, or stands against this
// machine, leaves no trace.
func TestRefusedByTheNode(t *testing.T) {
	dir := t.TempDir()
	var against error
	r := newRig(t, Config{Directory: dir, Check: func(*Desired) error { return against }})
	r.begin(state(pool("web", 1), service("web", 1, "web")))
	r.refuse = errors.New("no room")
	r.refused(declaration(SourceAPI, state(service("shop", 2, "web"))), Request{}, "version 2 cannot be put in force: no room")
	if files, err := (osFiles{dir}).List(versionsDir); err != nil || len(files) != 1 {
		t.Errorf("on disk are %v, %v", files, err)
	}
	r.refuse, against = nil, errors.New("the host has that address")
	r.refused(declaration(SourceAPI, state(service("shop", 2, "web"))), Request{}, "the host has that address")
	against = nil
	if n := r.declare(SourceAPI, state(service("shop", 2, "web")), Request{}).Version.Number; n != 2 {
		t.Errorf("version %d", n)
	}
	_, err := Open(Config{Parse: parse}).Declare(declaration(SourceAPI, &model.State{Pools: []model.Pool{pool("a")}}), Request{})
	wantError(t, err, "the node does not take changes yet")
}

func TestRequests(t *testing.T) {
	r := newRig(t, Config{})
	r.begin(state(pool("web", 1)))
	d := declaration(SourceAPI, state(pool("own", 1)))
	r.refused(d, Request{Comment: strings.Repeat("x", 1001)}, "the comment has 1001 bytes; it may have 1000")
	r.refused(d, Request{Confirm: time.Millisecond}, "the time to confirm is 1ms; it must be 1s to 24h0m0s")
	r.refused(d, Request{Confirm: 25 * time.Hour}, "the time to confirm is 25h0m0s; it must be 1s to 24h0m0s")
	result := r.declare(SourceAPI, state(pool("own", 1)), Request{DryRun: true})
	if !result.Changed || r.times != 0 || r.Status().Version != 1 || result.Version.Summary.String() != "+1 pool, +1 backend" {
		t.Errorf("a dry run: %+v, %+v", result, r.Status())
	}
}

// TestGuard: a change that removes much must be meant.
func TestGuard(t *testing.T) {
	file := func(services, backends int) *model.State {
		s := state(pool("web"))
		for n := range backends {
			s.Pools[0].Backends = append(s.Pools[0].Backends, pool("", n+1).Backends...)
		}
		for n := range services {
			s.Services = append(s.Services, service(string(rune('a'+n)), n+1, "web"))
		}
		return s
	}
	r := newRig(t, Config{RemovalGuard: 50, Directory: t.TempDir()})
	r.begin(file(6, 10))
	r.refused(declaration(SourceFile, file(2, 10)), Request{},
		"this removes 4 of 6 services and 4 of 6 VIPs, which is more than the 50 % that [state] removal_guard allows at once; use --force if it is meant")
	r.wantConditions("file_refused")
	r.refused(declaration(SourceFile, file(3, 4)), Request{},
		"this removes 6 of 10 backends, which is more than the 50 % that [state] removal_guard allows at once; use --force if it is meant")
	r.refused(declaration(SourceFile, file(6, 4)), Request{DryRun: true},
		"this removes 6 of 10 backends, which is more than the 50 % that [state] removal_guard allows at once; use --force if it is meant")
	r.declare(SourceFile, file(3, 5), Request{}) // a half may go
	r.wantConditions("")
	r.declare(SourceFile, file(0, 5), Request{}) // three are not many
	r.declare(SourceFile, file(0, 0), Request{Force: true})
	_, err := r.Rollback(2, Request{})
	if err != nil {
		t.Error("a rollback that adds is refused:", err)
	}
	_, err = r.Rollback(4, Request{})
	wantError(t, err, "this removes 5 of 5 backends, which is more than the 50 % that [state] removal_guard allows at once; use --force if it is meant")
	// What the file says at a start is meant; the log says it all the same.
	r.restart()
	r.begin(&model.State{})
	if r.services() != "" || !strings.Contains(r.log.String(), "by more than a reload may remove without being forced") {
		t.Errorf("services %q, log %s", r.services(), r.log.String())
	}
}

// TestHistoryIsBounded: the version in force and ten before it are kept, on disk
// too, with their declarations and no others.
func TestHistoryIsBounded(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, Config{Directory: dir})
	r.begin(state(pool("web", 1)))
	for n := range 30 {
		r.declare(SourceAPI, state(pool("own", n+1)), Request{})
	}
	check := func() {
		t.Helper()
		if h := r.History(); len(h) != 11 || h[0].Number != 31 || h[10].Number != 21 {
			t.Errorf("history has %d versions, %d to %d", len(h), h[len(h)-1].Number, h[0].Number)
		}
		for dir, want := range map[string]int{versionsDir: 11, declarationsDir: 12, asideDir: 0} {
			if files, err := r.disk.fs.List(dir); err != nil || len(files) != want {
				t.Errorf("%s has %d files, want %d: %v, %v", dir, len(files), want, files, err)
			}
		}
	}
	check()
	r.restart()
	check()
	if _, err := r.Version(20); !errors.Is(err, ErrUnknownVersion) || err.Error() != "no such version: there is no version 20; kept are some from 21 to 31" {
		t.Error(err)
	}
	d, err := r.Version(21)
	if err != nil || len(d.State.Pools) != 2 || d.State.Pools[1].Backends[0].Address.String() != "198.18.10.20" {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestStoreInMemory: without a directory all is as with one, until the end of
// the process.
func TestStoreInMemory(t *testing.T) {
	r := newRig(t, Config{})
	r.begin(state(pool("web", 1)))
	r.declare(SourceAPI, state(pool("own", 1)), Request{})
	if _, err := r.Rollback(0, Request{}); err != nil {
		t.Fatal(err)
	}
	if len(r.inForce.State.Pools) != 1 || r.conditions() != "" {
		t.Errorf("%+v, %s", r.inForce.State, r.conditions())
	}
	r.restart()
	if r.Current() != nil || r.Status().Version != 0 {
		t.Errorf("a new process knows version %d", r.Status().Version)
	}
}
