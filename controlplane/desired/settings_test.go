package desired

import (
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

func TestSetBackend(t *testing.T) {
	r := newRig(t, Config{Directory: t.TempDir()})
	p := pool("web", 1, 2, 3, 4, 5, 6, 7)
	p.Backends[1].Name = "two"
	p.Backends[2].Port = 0
	p.Backends[4].Address, p.Backends[4].Port = p.Backends[3].Address, 81
	file := state(p, pool("none"), service("web", 1, "none"))
	r.begin(file)
	set := func(backend string, a Action) *Result {
		t.Helper()
		result, err := r.SetBackend("web", backend, a, Request{User: "alice", Comment: "why"})
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	seven := 7
	none := -1
	for _, c := range []struct {
		backend string
		action  Action
		changed bool
		want    string
	}{
		{"198.18.10.1:80", Action{State: model.Drained}, true, "198.18.10.1:80 drained"},
		{"198.18.10.1", Action{State: model.Drained}, false, "198.18.10.1:80 drained"},
		{"198.18.10.1:80", Action{State: model.Drained, Timeout: time.Minute}, true, "198.18.10.1:80 drained until 03:05:05"},
		{"two", Action{State: model.Disabled}, true, "198.18.10.1:80 drained until 03:05:05; 198.18.10.2:80 disabled"},
		{"198.18.10.3", Action{Weight: &seven}, true, "198.18.10.1:80 drained until 03:05:05; 198.18.10.2:80 disabled; 198.18.10.3:0 enabled weight 7"},
		{"two", Action{Weight: &seven}, true, "198.18.10.1:80 drained until 03:05:05; 198.18.10.2:80 disabled weight 7; 198.18.10.3:0 enabled weight 7"},
		{"two", Action{State: model.Enabled}, true, "198.18.10.1:80 drained until 03:05:05; 198.18.10.2:80 enabled weight 7; 198.18.10.3:0 enabled weight 7"},
		{"two", Action{Weight: &none}, true, "198.18.10.1:80 drained until 03:05:05; 198.18.10.3:0 enabled weight 7"},
		{"198.18.10.1:80", Action{State: model.Disabled}, true, "198.18.10.1:80 disabled; 198.18.10.3:0 enabled weight 7"},
		{"198.18.10.1:80", Action{State: model.Enabled, Weight: &none}, true, "198.18.10.3:0 enabled weight 7"},
		{"198.18.10.7", Action{State: model.Enabled}, false, "198.18.10.3:0 enabled weight 7"},
	} {
		before := r.times
		result := set(c.backend, c.action)
		if got := settingsText(r.inForce.Settings); got != c.want || result.Changed != c.changed || (r.times > before) != c.changed {
			t.Errorf("%s %+v: %s, changed %v; want %s, %v", c.backend, c.action, got, result.Changed, c.want, c.changed)
		}
	}
	if v := r.History()[0]; v.Author != (Author{Source: AuthorOperator, User: "alice"}) || v.Comment != "why" || v.Summary.String() != "-1 backend setting" {
		t.Errorf("%+v", v)
	}
	r.restart()
	r.begin(file)
	if got := settingsText(r.Settings()); got != "198.18.10.3:0 enabled weight 7" || settingsText(r.inForce.Settings) != got {
		t.Errorf("after a restart: %s", got)
	}
	// A setting goes with its backend.
	result := r.declare(SourceFile, state(pool("web", 1), service("web", 1, "web")), Request{})
	if len(r.inForce.Settings) != 0 || result.Version.Summary.Settings.Removed != 1 {
		t.Errorf("%+v, %+v", r.inForce.Settings, result.Version.Summary)
	}

	r.declare(SourceFile, file, Request{})
	heavy := 65536
	for _, c := range []struct {
		pool, backend string
		action        Action
		want          string
	}{
		{"wbe", "two", Action{State: model.Drained}, `there is no pool "wbe"`},
		{"none", "two", Action{State: model.Drained}, `pool "none" has no backend "two"; it has none`},
		{"web", "198.18.10.9:80", Action{State: model.Drained}, `pool "web" has no backend "198.18.10.9:80"; it has 198.18.10.1:80, two, 198.18.10.3, 198.18.10.4:80, 198.18.10.4:81 and 2 more`},
		{"web", "198.18.10.4", Action{State: model.Drained}, `pool "web" has 2 backends with the address 198.18.10.4; give the port, too`},
		{"web", "198.18.10.1:81", Action{State: model.Drained}, `pool "web" has no backend "198.18.10.1:81"; it has 198.18.10.1:80, two, 198.18.10.3, 198.18.10.4:80, 198.18.10.4:81 and 2 more`},
		{"web", "two", Action{}, "nothing is to be done: give a state or a weight"},
		{"web", "two", Action{State: "drunk"}, `the state "drunk" is none of enabled, drained, disabled`},
		{"web", "two", Action{State: model.Disabled, Timeout: time.Minute}, "a timeout is for draining alone"},
		{"web", "two", Action{State: model.Drained, Timeout: time.Millisecond}, "the timeout is 1ms; it must be 1s to 576h0m0s"},
		{"web", "two", Action{Weight: &heavy}, "the weight is 65536; it must be 0 to 65535"},
	} {
		_, err := r.SetBackend(c.pool, c.backend, c.action, Request{})
		wantError(t, err, c.want)
	}
	if len(r.inForce.Settings) != 0 {
		t.Errorf("%+v", r.inForce.Settings)
	}
}

func settingsText(list []model.BackendSetting) string {
	var parts []string
	for _, s := range list {
		text := s.Endpoint.String() + " " + string(s.State)
		if !s.Deadline.IsZero() {
			text += " until " + s.Deadline.Format("15:04:05")
		}
		if s.Weight != nil {
			text += " weight " + itoa(*s.Weight)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}
