package desired

import (
	"errors"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

// shared is what a source that is the same on all nodes declares.
const shared = "cluster"

func TestAdopt(t *testing.T) {
	r := newRig(t, Config{Directory: t.TempDir(), RemovalGuard: 1})
	r.begin(state(pool("file", 1)))
	by := Author{Source: SourceAPI, User: "bob", Node: "lb2"}
	result, err := r.Adopt(map[string]*Declaration{
		SourceAPI: declaration(SourceAPI, state(pool("a", 1), pool("b", 2), pool("c", 3), pool("d", 4))),
		shared:    declaration(shared, state(pool("s", 5))),
	}, Adoption{Author: by, Comment: "why"})
	if err != nil || !result.Changed || result.Version.Author != by || result.Version.Comment != "why" || len(r.inForce.State.Pools) != 6 {
		t.Fatalf("adopted %+v, %v", result, err)
	}
	// No guard holds it up, nor a change that waits.
	if _, err := r.Declare(declaration(SourceAPI, state(pool("a", 1), pool("b", 2), pool("c", 3), pool("d", 9))), Request{Confirm: time.Minute, Force: true}); err != nil {
		t.Fatal(err)
	}
	result, err = r.Adopt(map[string]*Declaration{SourceAPI: nil}, Adoption{Author: by})
	if err != nil || len(r.inForce.State.Pools) != 2 || result.Version.Pending != nil {
		t.Fatalf("adopted %+v, %v", result, err)
	}
	// It is on disk.
	r.restart()
	if d := r.Current(); len(d.State.Pools) != 2 || d.Version.Author != by {
		t.Errorf("after a restart %+v", d.Version)
	}
}

func TestAdoptedChangeWaits(t *testing.T) {
	r := newRig(t, Config{Directory: t.TempDir()})
	r.begin(state())
	until := r.now.Add(time.Minute)
	adopt := func(d *Declaration, until time.Time) {
		t.Helper()
		if _, err := r.Adopt(map[string]*Declaration{SourceAPI: d}, Adoption{Until: until}); err != nil {
			t.Fatal(err)
		}
	}
	one, two := declaration(SourceAPI, state(pool("one", 1))), declaration(SourceAPI, state(pool("two", 2)))
	adopt(one, time.Time{})
	adopt(two, until)
	if p := r.Status().Pending; p == nil || !p.Until.Equal(until) {
		t.Fatalf("pending %+v", p)
	}
	var pending *PendingError
	if _, err := r.Declare(one, Request{}); !errors.As(err, &pending) {
		t.Errorf("another change: %v", err)
	}
	// It is decided elsewhere.
	if _, err := r.Adopt(nil, Adoption{}); err != nil || r.Status().Pending != nil || r.inForce.State.Pools[0].Name != "two" {
		t.Fatalf("%v, status %+v", err, r.Status())
	}
	adopt(one, until)
	r.now = until
	r.Tick()
	if r.inForce.State.Pools[0].Name != "two" || r.Status().Pending != nil {
		t.Errorf("in force is %+v, status %+v", r.inForce.State, r.Status())
	}
}

func TestTryHasTheLastWord(t *testing.T) {
	r := newRig(t, Config{Directory: t.TempDir()})
	r.begin(state(pool("file", 1)))
	no := errors.New("it cannot be compiled")
	var seen *Desired
	try := func(d *Desired) error { seen = d; return no }
	d := declaration(SourceAPI, state(pool("one", 1)))
	for _, dry := range []bool{true, false} {
		if _, err := r.Declare(d, Request{DryRun: dry, Try: try}); !errors.Is(err, no) || len(seen.State.Pools) != 2 {
			t.Errorf("dry run %v: %v", dry, err)
		}
		if _, err := r.Adopt(map[string]*Declaration{SourceAPI: d}, Adoption{DryRun: dry, Try: try}); !errors.Is(err, no) {
			t.Errorf("dry run %v: %v", dry, err)
		}
	}
	if r.times != 0 || r.Status().Version != 1 {
		t.Errorf("%d changes, version %d", r.times, r.Status().Version)
	}
	if result, err := r.Adopt(map[string]*Declaration{SourceAPI: d}, Adoption{DryRun: true}); err != nil || !result.Changed || r.times != 0 {
		t.Errorf("dry run: %+v, %v", result, err)
	}
	bad := declaration(shared, state(pool("file", 2)))
	if _, err := r.Adopt(map[string]*Declaration{shared: bad}, Adoption{DryRun: true}); err == nil || err.Error() != `cluster.toml: pool[0].name: pool "file" of source "cluster" is declared by source "file" as well` {
		t.Errorf("got %v", err)
	}
}

func TestDeclareAll(t *testing.T) {
	r := newRig(t, Config{Directory: t.TempDir()})
	r.begin(state(pool("one", 1)))
	// A pool moves from one source to another.
	result, err := r.DeclareAll(Request{}, declaration(SourceFile, state()), declaration(shared, state(pool("one", 1))))
	if err != nil || !result.Changed || len(r.inForce.State.Pools) != 1 || result.Version.Author.Source != SourceFile {
		t.Fatalf("%+v, %v", result, err)
	}
	if len(result.Changes) != 0 {
		t.Errorf("changes %+v", result.Changes)
	}
}

func TestAdoptSettings(t *testing.T) {
	r := newRig(t, Config{Directory: t.TempDir()})
	r.begin(state(pool("web", 1, 2)))
	end := func(n byte) model.BackendKey {
		return model.BackendKey{Pool: "web", Endpoint: pool("web", int(n)).Backends[0].Endpoint()}
	}
	deadline, weight := r.now.Add(time.Hour), 7
	list := []model.BackendSetting{
		{BackendKey: end(2), State: model.Drained, Deadline: deadline},
		{BackendKey: end(9), State: model.Drained}, // nobody declares it
		{BackendKey: end(1), State: model.Enabled, Weight: &weight},
	}
	by := Author{Source: AuthorOperator, Node: "lb2"}
	result, err := r.AdoptSettings(list, by)
	if err != nil || !result.Changed || result.Version.Author != by {
		t.Fatalf("%+v, %v", result, err)
	}
	got := r.Settings()
	if len(got) != 2 || got[0].BackendKey != end(1) || *got[0].Weight != 7 || got[1].State != model.Drained || !got[1].Deadline.Equal(deadline) {
		t.Fatalf("settings %+v", got)
	}
	if result, err = r.AdoptSettings(list, by); err != nil || result.Changed {
		t.Errorf("once more: %+v, %v", result, err)
	}
	if _, err = r.AdoptSettings(nil, by); err != nil || len(r.Settings()) != 0 {
		t.Errorf("none: %v, %v", r.Settings(), err)
	}
}

func TestBeginWith(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, Config{Directory: dir})
	r.begin(state(pool("one", 1)))
	// The node becomes one of several: what its file declared is another source's.
	r.restart()
	if _, err := r.BeginWith(declaration(SourceFile, state()), nil, map[string]*Declaration{shared: declaration(shared, state(pool("one", 1)))}); err != nil {
		t.Fatal(err)
	}
	r.Attach(r.put)
	if d := r.Current(); len(d.State.Pools) != 1 || d.Declarations[shared] == nil {
		t.Fatalf("begins with %+v", d.Version)
	}
	// What the source declares by now is not touched.
	if _, err := r.Adopt(map[string]*Declaration{shared: declaration(shared, state(pool("two", 1)))}, Adoption{}); err != nil {
		t.Fatal(err)
	}
	r.restart()
	d, err := r.BeginWith(declaration(SourceFile, state()), nil, map[string]*Declaration{shared: declaration(shared, state(pool("one", 1)))})
	if err != nil || d.State.Pools[0].Name != "two" {
		t.Fatalf("begins with %+v, %v", d, err)
	}
	// The node is alone again.
	r.restart()
	d, err = r.BeginWith(declaration(SourceFile, state(pool("three", 1))), nil, map[string]*Declaration{shared: nil})
	if err != nil || len(d.State.Pools) != 1 || d.State.Pools[0].Name != "three" || d.Declarations[shared] != nil {
		t.Fatalf("begins with %+v, %v", d, err)
	}
}
