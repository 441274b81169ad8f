package health

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

// TestChange: some targets begin and end; all others stay as they are.
func TestChange(t *testing.T) {
	w := watch(t)
	stays, goes, comes := newDoor(t), newDoor(t), newDoor(t)
	check := fast(nil)
	a, b, c := target("web", check, stays.addr), target("web", check, goes.addr), target("web", check, comes.addr)
	w.set([]Target{a, b})
	before := w.untilState(a.Key, Up)
	w.untilState(b.Key, Up)
	must(t, w.Change([]Target{c}, []model.BackendKey{b.Key, {Pool: "unknown"}}))
	w.untilState(c.Key, Up)
	if _, known := w.Result(b.Key); known || len(w.Results()) != 2 {
		t.Error("what was removed is known")
	}
	if after, _ := w.Result(a.Key); !after.Since.Equal(before.Since) || after.Ways[0].Checks < before.Ways[0].Checks {
		t.Errorf("what stays was %+v, is %+v", before, after)
	}
	must(t, w.Change([]Target{b}, nil))
	w.untilState(b.Key, Up)
	must(t, w.Close())
	if err := w.Change([]Target{b}, nil); err == nil || err.Error() != "the checker is closed" {
		t.Error(err)
	}
}

// TestConfirm: a verdict that a target began with is its own, and reported, once a
// check has agreed; a doubted one is down after one failure.
func TestConfirm(t *testing.T) {
	var mu sync.Mutex
	reports := map[model.BackendKey][]Verdict{}
	c, err := New(Config{Confirm: true, Log: slog.New(slog.DiscardHandler), Report: func(verdicts []Verdict) {
		mu.Lock()
		defer mu.Unlock()
		for _, v := range verdicts {
			reports[v.Key] = append(reports[v.Key], v)
		}
	}})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	up, dead := newDoor(t), closedPort(t)
	since := time.Now().Add(-time.Hour).Round(0)
	slow := fast(func(c *model.Check) { c.Fall = 1000 })
	as := func(pool string, to *door, initial State, doubted bool) Target {
		addr := dead
		if to != nil {
			addr = to.addr
		}
		one := target(pool, slow, addr)
		one.Initial, one.Since, one.Doubted = initial, since, doubted
		return one
	}
	agrees, agreesDown := as("agrees", up, Up, true), as("agrees-down", nil, Down, false)
	wrong, fresh := as("doubted", nil, Up, true), as("new", up, Unknown, false)
	recovers := as("recovers", up, Down, false)
	_, err = c.Set([]Target{agrees, agreesDown, wrong, fresh, recovers})
	must(t, err)
	type seen struct {
		state State
		own   bool
	}
	for one, want := range map[*Target][]seen{
		&agrees: {{Up, true}}, &agreesDown: {{Down, true}}, &wrong: {{Down, true}}, &fresh: {{Up, true}}, &recovers: {{Up, true}},
	} {
		got := func() (list []seen) {
			mu.Lock()
			defer mu.Unlock()
			for _, v := range reports[one.Key] {
				list = append(list, seen{v.State, v.Own})
			}
			return list
		}
		until(t, one.Key.Pool+" is reported", func() bool { return len(got()) >= len(want) })
		if list := got(); !slices.Equal(list, want) {
			t.Errorf("%s: reported %v, want %v", one.Key.Pool, list, want)
		}
	}
	if r, _ := c.Result(wrong.Key); r.Ways[0].Failures >= 1000 {
		t.Errorf("a doubted backend was found down after %d failures", r.Ways[0].Failures)
	}
	if r, _ := c.Result(agrees.Key); !r.Since.Equal(since) || !r.Own {
		t.Errorf("%+v", r)
	}
}

// TestUnable: a checker that cannot make a check says so, once it has tried as often
// as it takes to find a backend down, and again when it can.
func TestUnable(t *testing.T) {
	var mu sync.Mutex
	var reports []Verdict
	c, err := New(Config{Confirm: true, Log: slog.New(slog.DiscardHandler), Report: func(verdicts []Verdict) {
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, verdicts...)
	}})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	last := func() (v Verdict, n int) {
		mu.Lock()
		defer mu.Unlock()
		if n = len(reports); n > 0 {
			v = reports[n-1]
		}
		return v, n
	}
	program := filepath.Join(t.TempDir(), "check")
	check := (&model.Check{Type: model.CheckExec, Exec: []string{program}, Interval: 50 * time.Millisecond, Timeout: long}).WithDefaults()
	one := target("web", check, closedPort(t))
	one.Initial, one.Since = Up, time.Now()
	_, err = c.Set([]Target{one})
	must(t, err)
	until(t, "it says that it cannot", func() bool { v, _ := last(); return v.Unable != "" })
	if v, n := last(); v.State != Up || v.Own || n != 1 || !strings.HasPrefix(v.Unable, "cannot be checked: ") {
		t.Errorf("%d reports, the last %+v", n, v)
	}
	must(t, os.WriteFile(program, []byte("#!/bin/sh\nexit 0\n"), 0o755))
	until(t, "it can again", func() bool { v, _ := last(); return v.Unable == "" && v.Own && v.State == Up })
}
