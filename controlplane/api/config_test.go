package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"
)

func init() {
	openapi3filter.RegisterBodyDecoder("application/toml", openapi3filter.FileBodyDecoder)
}

func fixedVersion() ConfigVersion {
	return ConfigVersion{
		Number: 4, Time: fixedTime, Source: "api", User: "alice (pid 17)", Comment: "why", Summary: "+1 pool, +1 backend",
		Pending: &PendingChange{Version: 4, Until: fixedTime.Add(5 * time.Minute)},
	}
}

func (f *fixed) change(dry bool) (ConfigResult, error) {
	return ConfigResult{Version: fixedVersion(), Changed: true, DryRun: dry, Changes: []ConfigChange{
		{Op: "added", Kind: "pool", Name: "shop"},
		{Op: "changed", Kind: "backend", Pool: "web", Name: "198.18.10.101:8080", Fields: []ConfigField{{"weight", "1", "2"}}},
	}}, f.configError
}

func (f *fixed) ApplyConfig(_ context.Context, q ApplyConfig) (ConfigResult, error) {
	f.applied = &q
	return f.change(q.DryRun)
}
func (f *fixed) ReloadConfig(_ context.Context, q ChangeConfig) (ConfigResult, error) {
	return f.change(q.DryRun)
}
func (f *fixed) RollbackConfig(_ context.Context, q RollbackConfig) (ConfigResult, error) {
	return f.change(q.DryRun)
}
func (f *fixed) ConfirmConfig(context.Context) (ConfigVersion, error) {
	return fixedVersion(), f.configError
}
func (f *fixed) DiffConfig(_ context.Context, q DiffConfig) (ConfigResult, error) {
	f.compared = &q
	return f.change(true)
}
func (f *fixed) ConfigHistory(context.Context) (ConfigHistory, error) {
	return ConfigHistory{Versions: []ConfigVersion{fixedVersion()}}, nil
}
func (f *fixed) Config(context.Context, uint64) (VersionedConfig, error) {
	s, err := f.BackendSettings(context.Background())
	return VersionedConfig{Version: fixedVersion(), Sources: []ConfigSource{{Source: "file", Name: "f.toml", Text: "# nothing\n"}}, Settings: s.Settings}, err
}
func (f *fixed) BackendSettings(context.Context) (BackendSettings, error) {
	weight := 0
	deadline := fixedTime.Add(time.Hour)
	return BackendSettings{Settings: []BackendSetting{{Pool: "web", Backend: "198.18.10.101:8080", State: "drained", Deadline: &deadline, Weight: &weight}}}, nil
}
func (f *fixed) SetBackend(_ context.Context, q SetBackend) (ConfigResult, error) {
	f.set = &q
	return f.change(false)
}

// TestConfigRequests asserts what reaches the node, and what is refused before.
func TestConfigRequests(t *testing.T) {
	f := newFixed()
	h := inMemory(t, NewRouter(f))
	if a := send(h, Operator, http.MethodPost, "/v1/config/apply?name=a.toml&confirm=5m&comment=c&force=true", "application/toml", "x = 1"); a.StatusCode != http.StatusOK {
		t.Error(a.Status)
	}
	if q := f.applied; q == nil || q.Name != "a.toml" || q.Confirm != Duration(5*time.Minute) || q.Comment != "c" || !q.Force || q.DryRun || string(q.Text) != "x = 1" {
		t.Errorf("%+v", f.applied)
	}
	send(h, ReadOnly, http.MethodPost, "/v1/config/diff?source=file", "application/toml", "")
	if q := f.compared; q == nil || !q.File || q.Text == nil || q.Version != 0 {
		t.Errorf("%+v", f.compared)
	}
	send(h, ReadOnly, http.MethodGet, "/v1/config/diff", "", "")
	if q := f.compared; !q.File || q.Text != nil {
		t.Errorf("%+v", f.compared)
	}
	send(h, Operator, http.MethodPost, "/v1/backend-settings", "application/json", `{"pool":"web","backend":"b","state":"drained","timeout":"90s"}`)
	if q := f.set; q == nil || q.State != "drained" || q.Timeout != Duration(90*time.Second) || q.Weight != nil {
		t.Errorf("%+v", f.set)
	}
	f.applied, f.set = nil, nil
	for _, c := range []struct {
		role                    Role
		method, path, typ, body string
		status                  int
		want                    string
	}{
		{Operator, http.MethodPost, "/v1/config/apply?confirm=soon", "application/toml", "", 400, `"soon" is not a duration`},
		{Operator, http.MethodPost, "/v1/config/apply?dryrun=true", "application/toml", "", 400, `unknown parameter "dryrun"`},
		{Operator, http.MethodPost, "/v1/config/apply", "application/json", "{}", 415, ""},
		{ReadOnly, http.MethodPost, "/v1/config/apply", "application/toml", "", 403, ""},
		{ReadOnly, http.MethodPost, "/v1/config/reload", "", "", 403, ""},
		{ReadOnly, http.MethodGet, "/v1/config", "", "", 403, ""},
		{Operator, http.MethodPost, "/v1/config/rollback?version=-1", "", "", 400, ""},
		{Operator, http.MethodPost, "/v1/config/diff?source=cluster", "application/toml", "", 400, ""},
		{Operator, http.MethodPost, "/v1/backend-settings", "application/json", `{"pool":"web","backend":"b","weight":"heavy"}`, 400, ""},
		{Operator, http.MethodPost, "/v1/backend-settings", "application/json", `{"pool":"web","backend":"b","wieght":1}`, 400, ""},
		{Operator, http.MethodGet, "/v1/config/apply", "", "", 405, ""},
	} {
		a := send(h, c.role, c.method, c.path, c.typ, c.body)
		text, _ := io.ReadAll(a.Body)
		if a.StatusCode != c.status || !strings.Contains(string(text), strings.ReplaceAll(c.want, `"`, `\"`)) {
			t.Errorf("%s %s: %s %s", c.method, c.path, a.Status, text)
		}
	}
	if f.applied != nil || f.set != nil {
		t.Error("a refused request has reached the node")
	}
	f.configError = &Error{Code: NeedsForce, Message: "too much"}
	a := send(h, Operator, http.MethodPost, "/v1/config/reload", "", "")
	var body errorBody
	if err := json.NewDecoder(a.Body).Decode(&body); err != nil || a.StatusCode != http.StatusConflict || body.Error.Code != NeedsForce {
		t.Errorf("%s %+v %v", a.Status, body.Error, err)
	}
}
