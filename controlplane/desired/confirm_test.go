package desired

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

// TestConfirm: a change stays when it is confirmed in time, and goes when it is
// not, to the second.
func TestConfirm(t *testing.T) {
	r := newRig(t, Config{Directory: t.TempDir()})
	r.begin(state(pool("web", 1), service("web", 1, "web")))
	if _, err := r.Confirm(); !errors.Is(err, ErrNotPending) {
		t.Error(err)
	}
	r.declare(SourceAPI, state(service("a", 2, "web")), Request{})
	r.declare(SourceAPI, state(service("b", 2, "web")), Request{Confirm: 5 * time.Minute})
	until := r.now.Add(5 * time.Minute)
	if p := r.Status().Pending; p == nil || p.Version != 3 || !p.Until.Equal(until) {
		t.Errorf("pending %+v", p)
	}
	// Nothing else is declared meanwhile, by operators.
	const wait = "version 3 waits to be confirmed until 2026-01-02T03:09:05Z; `fairlead config confirm` it or `fairlead config rollback` first"
	r.refused(declaration(SourceAPI, &model.State{}), Request{Confirm: time.Minute}, wait)
	r.refused(declaration(SourceFile, state(pool("web", 2))), Request{}, wait)
	// Backends are set, other sources declare, and it is looked what a change would do.
	if _, err := r.SetBackend("web", "198.18.10.1:80", Action{State: model.Drained}, Request{}); err != nil {
		t.Error(err)
	}
	if _, err := r.Declare(untyped("kubernetes", state(pool("pods", 9))), Request{}); err != nil {
		t.Error(err)
	}
	if _, err := r.Declare(declaration(SourceAPI, &model.State{}), Request{DryRun: true}); err != nil {
		t.Error(err)
	}
	if p := r.Status().Pending; p == nil || p.Version != 3 || !p.Until.Equal(until) {
		t.Errorf("pending %+v", p)
	}

	r.now = until.Add(-time.Nanosecond)
	r.Tick()
	r.wantServices("web b")
	r.now = until
	r.Tick()
	r.wantServices("web a")
	v := r.History()[0]
	if v.Number != 6 || v.Author.Source != AuthorOperator || v.Comment != "version 3 was not confirmed in time" || v.Pending != nil || v.Summary.String() != "+1 service, -1 service" {
		t.Errorf("%+v", v)
	}
	if len(r.inForce.Settings) != 1 || len(r.inForce.Declarations) != 3 || !strings.Contains(r.log.String(), "not confirmed in time") {
		t.Errorf("%+v\n%s", r.inForce, r.log.String())
	}
	r.wantConditions("")

	r.declare(SourceAPI, state(service("b", 2, "web")), Request{Confirm: time.Minute})
	if v, err := r.Confirm(); err != nil || v.Number != 7 || v.Pending != nil {
		t.Errorf("%+v, %v", v, err)
	}
	r.now = r.now.Add(time.Hour)
	r.Tick()
	r.wantServices("web b")
	r.restart()
	r.begin(state(pool("web", 1), service("web", 1, "web")))
	r.wantServices("web b")
	if r.Status().Pending != nil {
		t.Errorf("%+v", r.Status())
	}
}

// TestFirstOfASource: what a source had not declared before is not there after.
func TestFirstOfASource(t *testing.T) {
	r := newRig(t, Config{})
	r.begin(state(pool("web", 1)))
	r.declare(SourceAPI, state(service("b", 2, "web")), Request{Confirm: time.Minute})
	r.now = r.now.Add(time.Minute)
	r.Tick()
	if r.wantServices(""); len(r.inForce.Declarations) != 1 {
		t.Errorf("%+v", r.inForce.Declarations)
	}
}

// TestConfirmOverRestarts: the time goes on while no process runs.
func TestConfirmOverRestarts(t *testing.T) {
	file := state(pool("web", 1), service("web", 1, "web"))
	for _, down := range []time.Duration{time.Minute, 10 * time.Minute} {
		r := newRig(t, Config{Directory: t.TempDir()})
		r.begin(file)
		r.declare(SourceAPI, state(service("a", 2, "web")), Request{})
		r.declare(SourceAPI, state(service("b", 2, "web")), Request{Confirm: 5 * time.Minute})
		r.restart()
		r.now = r.now.Add(down)
		r.begin(file)
		if down < 5*time.Minute {
			r.wantServices("web b")
			r.now = r.now.Add(down * 4)
			r.Tick()
		}
		r.wantServices("web a")
		if v := r.History()[0]; v.Number != 4 || v.Comment != "version 3 was not confirmed in time" {
			t.Errorf("%+v", v)
		}
		r.restart()
		r.begin(file)
		r.wantServices("web a")
		if n := r.Status().Version; n != 4 {
			t.Errorf("version %d", n)
		}
	}
}

// TestUndoThatFails is tried again until it succeeds, and a full disk does not
// stand in its way.
func TestUndoThatFails(t *testing.T) {
	broken := &failing{fileSystem: newMemoryFiles()}
	r := newRig(t, Config{files: broken})
	r.begin(state(pool("web", 1)))
	r.declare(SourceAPI, state(service("b", 2, "web")), Request{Confirm: time.Minute})
	r.now = r.now.Add(time.Minute)
	r.refuse = errors.New("no room")
	r.Tick()
	r.wantServices("b")
	r.wantConditions("rollback_failed")
	r.refuse, broken.err = nil, errors.New("disk full")
	r.Tick() // too soon
	r.wantServices("b")
	r.now = r.now.Add(retryAfter)
	r.Tick()
	r.wantServices("")
	r.wantConditions("not_stored")
	_, err := r.Declare(declaration(SourceAPI, state(service("c", 3, "web"))), Request{})
	wantError(t, err, "the change cannot be written to the state directory and does not take effect: disk full")
	broken.err = nil
	r.now = r.now.Add(retryAfter)
	r.Tick()
	r.wantConditions("")
	r.restart()
	r.begin(state(pool("web", 1)))
	r.wantServices("")
}

// TestRun: time is looked at without anybody asking.
func TestRun(t *testing.T) {
	done := make(chan struct{}, 8)
	s := Open(Config{Parse: parse})
	if _, err := s.Begin(declaration(SourceFile, state(pool("web", 1))), nil); err != nil {
		t.Fatal(err)
	}
	s.Attach(func(*Desired) error { done <- struct{}{}; return nil })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.Run(ctx); close(ended) }()
	if _, err := s.Declare(declaration(SourceAPI, state(pool("own", 1))), Request{Confirm: MinConfirm}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("nothing is undone")
		}
	}
	cancel()
	<-ended
	if h := s.History(); len(h) != 3 {
		t.Errorf("%+v", h)
	}
}

// TestRollback returns to what was declared before, with today's settings and,
// for backends that come back, those of then.
func TestRollback(t *testing.T) {
	r := newRig(t, Config{Directory: t.TempDir()})
	r.begin(state(pool("web", 1, 2), service("web", 1, "web")))
	if _, err := r.Rollback(0, Request{}); !errors.Is(err, ErrUnknownVersion) || err.Error() != "no such version: there is none before version 1" {
		t.Error(err)
	}
	r.declare(SourceAPI, state(service("a", 2, "web")), Request{})
	for _, b := range []string{"198.18.10.1:80", "198.18.10.2"} {
		if _, err := r.SetBackend("web", b, Action{State: model.Disabled}, Request{}); err != nil {
			t.Fatal(err)
		}
	}
	// Version 5 has another file, in which one of the two is gone.
	r.declare(SourceFile, state(pool("web", 1, 3), service("new", 1, "web")), Request{})
	if _, err := r.SetBackend("web", "198.18.10.1", Action{State: model.Enabled}, Request{}); err != nil {
		t.Fatal(err)
	}
	r.wantServices("new a")
	if len(r.inForce.Settings) != 0 {
		t.Errorf("settings %+v", r.inForce.Settings)
	}
	result, err := r.Rollback(4, Request{User: "bob", DryRun: true})
	if err != nil || !result.Changed {
		t.Errorf("%+v, %v", result, err)
	}
	r.wantServices("new a")
	result, err = r.Rollback(4, Request{User: "bob"})
	if err != nil || result.Version.Number != 7 || result.Version.Comment != "rollback to version 4" || result.Version.Author != (Author{Source: AuthorOperator, User: "bob"}) {
		t.Errorf("%+v, %v", result.Version, err)
	}
	r.wantServices("web a")
	if s := r.inForce.Settings; len(s) != 1 || s[0].Endpoint.Addr().String() != "198.18.10.2" || s[0].State != model.Disabled {
		t.Errorf("settings %+v", s)
	}
	r.wantConditions("file_overruled")
	if result, err := r.Rollback(7, Request{}); err != nil || result.Changed {
		t.Errorf("to itself: %+v, %v", result, err)
	}

	// A restart does not put the file in force that was rolled back, a reload does.
	file := state(pool("web", 1, 3), service("new", 1, "web"))
	r.restart()
	r.begin(file)
	r.wantServices("web a")
	r.wantConditions("file_overruled")
	r.declare(SourceFile, file, Request{})
	r.wantServices("new a")
	r.wantConditions("")
	// Nor does one whose file has become another meanwhile fall back.
	if _, err := r.Rollback(7, Request{}); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.begin(state(pool("web", 1, 3), service("newest", 1, "web")))
	r.wantServices("newest a")
	r.wantConditions("")
}

// TestRollbackOfWhatWaits ends the waiting.
func TestRollbackOfWhatWaits(t *testing.T) {
	r := newRig(t, Config{})
	r.begin(state(pool("web", 1)))
	r.declare(SourceAPI, state(service("b", 2, "web")), Request{Confirm: time.Minute})
	if _, err := r.SetBackend("web", "198.18.10.1:80", Action{State: model.Drained}, Request{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Rollback(0, Request{}); err != nil {
		t.Fatal(err)
	}
	r.wantServices("")
	if r.Status().Pending != nil || len(r.inForce.Settings) != 1 {
		t.Errorf("%+v, %+v", r.Status(), r.inForce.Settings)
	}
}

// TestBegin: with a file that cannot be used the node has what was in force
// last, and says so.
func TestBegin(t *testing.T) {
	good := state(pool("web", 1), service("web", 1, "web"))
	dir := filepath.Join(t.TempDir(), "a", "state")
	r := newRig(t, Config{Directory: dir})
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) || r.conditions() != "" {
		t.Errorf("before there is anything to keep: %v, %s", err, r.conditions())
	}
	_, err := r.Begin(nil, errors.New("no such file"))
	wantError(t, err, "no such file")
	_, err = r.Begin(declaration(SourceFile, state(service("web", 1, "web"))), nil)
	wantError(t, err, `file.toml: service[0].pool: service "web": there is no pool "web"`)
	r.begin(good)
	r.declare(SourceAPI, state(service("a", 2, "web")), Request{})
	if _, err := r.SetBackend("web", "198.18.10.1:80", Action{State: model.Drained, Timeout: time.Hour}, Request{}); err != nil {
		t.Fatal(err)
	}
	before := r.inForce
	for _, c := range []struct {
		name string
		file *Declaration
		err  error
		want string
	}{
		{"missing", nil, errors.New("no such file"), "the file cannot be used, version 3 is in force in its place: no such file"},
		{"wrong by itself", declaration(SourceFile, state(service("web", 1, "x"), service("web", 1, "y"), pool("web"))), nil,
			`the file cannot be used, version 3 is in force in its place: file.toml: service[0].pool: service "web": there is no pool "x" (and 3 more)`},
		{"in conflict", declaration(SourceFile, state(pool("web", 1), service("a", 2, "web"))), nil,
			`the file cannot be used, version 3 is in force in its place: api.toml: service[0].name: service "a" of source "api" is declared by source "file" as well`},
	} {
		r.restart()
		r.beginWith(c.file, c.err)
		r.wantServices("web a")
		if got := r.Status().Conditions; len(got) != 1 || got[0].Message != c.want {
			t.Errorf("%s: %+v, want %s", c.name, got, c.want)
		}
		if len(r.inForce.Settings) != 1 || !r.inForce.Settings[0].Deadline.Equal(before.Settings[0].Deadline) || r.inForce.Version.Number != 3 {
			t.Errorf("%s: version %d, settings %+v", c.name, r.inForce.Version.Number, r.inForce.Settings)
		}
		if !strings.Contains(r.log.String(), "THE CONFIGURATION FILE CANNOT BE USED") {
			t.Errorf("%s: the log has\n%s", c.name, r.log.String())
		}
		r.log.Reset()
	}
	r.declare(SourceFile, good, Request{})
	r.wantConditions("")
}

// TestFileOfAnotherRelease: when the persisted file is not understood any more,
// what else was declared is not lost with it.
func TestFileOfAnotherRelease(t *testing.T) {
	r := newRig(t, Config{Directory: t.TempDir()})
	r.begin(state(pool("web", 1), service("web", 1, "web")))
	r.declare(SourceAPI, state(service("a", 2, "web")), Request{})
	if _, err := r.SetBackend("web", "198.18.10.1", Action{State: model.Drained}, Request{}); err != nil {
		t.Fatal(err)
	}
	r.cfg.Parse = func(source, name string, text []byte) (*Declaration, error) {
		if source == SourceFile && !strings.Contains(string(text), "198.18.10.2") {
			return nil, errors.New("unknown key")
		}
		return parse(source, name, text)
	}
	r.restart()
	r.wantConditions("state_damaged")
	if m := r.Status().Conditions[0].Message; m != "version 3 has a configuration file that this release does not understand; what other sources declared is used" {
		t.Error(m)
	}
	_, err := r.Begin(nil, errors.New("no such file"))
	wantError(t, err, "no such file")
	r.begin(state(pool("web", 1, 2), service("web", 1, "web")))
	r.wantServices("web a")
	if len(r.inForce.Settings) != 1 || r.inForce.Version.Number != 4 {
		t.Errorf("%+v", r.inForce)
	}
	_, err = r.Rollback(2, Request{})
	wantError(t, err, "version 2 cannot be read: this release does not understand its configuration file")
	r.wantServices("web a")
}

// TestDirectoryThatIsNone: a node serves without a state directory, says so,
// takes no change, and has one as soon as that is possible.
func TestDirectoryThatIsNone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, Config{Directory: dir})
	r.wantConditions("not_stored")
	r.begin(state(pool("web", 1), service("web", 1, "web")))
	r.wantServices("web")
	r.wantConditions("not_stored")
	r.refused(declaration(SourceAPI, state(service("a", 2, "web"))), Request{},
		"the change cannot be written to the state directory and does not take effect: mkdir "+dir+": not a directory")
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(retryAfter)
	r.Tick()
	r.wantConditions("")
	r.declare(SourceAPI, state(service("a", 2, "web")), Request{})
	r.restart()
	r.begin(state(pool("web", 1), service("web", 1, "web")))
	r.wantServices("web a")
}
