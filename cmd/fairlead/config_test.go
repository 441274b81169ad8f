package main_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/api"
)

// TestConfigUsage asserts what is said of command lines that are wrong, and of
// a node that is not there.
func TestConfigUsage(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "f.toml", nil)
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"config apply", 2, "fairlead: accepts 1 arg(s), received 0\n"},
		{"config apply absent.toml", 1, "fairlead: open absent.toml: no such file or directory\n"},
		{"config apply f.toml --confirm 0s", 2, "fairlead: --confirm is to be 1s to 24h\n"},
		{"config apply f.toml --confirm -1m", 2, "fairlead: --confirm is to be 1s to 24h\n"},
		{"config rollback one", 2, "fairlead: \"one\" is no number of a version; `fairlead config history` lists them\n"},
		{"config rollback 0", 2, "fairlead: \"0\" is no number of a version; `fairlead config history` lists them\n"},
		{"config show x", 2, "fairlead: \"x\" is no number of a version; `fairlead config history` lists them\n"},
		{"config show --source api -o json", 2, "fairlead: --source writes the text as it is; leave it out with -o json\n"},
		{"config diff --node-file", 2, "fairlead: --node-file needs a FILE\n"},
		{"config diff absent.toml", 2, "fairlead: open absent.toml: no such file or directory\n"},
		{"backend drain web", 2, "fairlead: accepts 2 arg(s), received 1\n"},
		{"backend drain web 192.0.2.1:80 --timeout 0s", 2, "fairlead: --timeout is to be 1s to 576h\n"},
		{"backend weight web 192.0.2.1:80 heavy", 2, "fairlead: \"heavy\" is no weight: it is 0 to 65535, or \"declared\"\n"},
		{"backend weight web 192.0.2.1:80 65536", 2, "fairlead: \"65536\" is no weight: it is 0 to 65535, or \"declared\"\n"},
		{"backend dry web 192.0.2.1:80", 2, "fairlead: unknown command \"dry\" for \"fairlead backend\""},
		{"config history --socket nobody.sock", 3, "fairlead: ask the node at nobody.sock"},
		{"config diff --socket nobody.sock", 3, "fairlead: ask the node at nobody.sock"},
		{"backend enable web b --socket nobody.sock", 3, "fairlead: ask the node at nobody.sock"},
	} {
		r := fairlead(t, dir, strings.Fields(c.args)...)
		if r.code != c.code || r.stdout != "" || !strings.HasPrefix(r.stderr, c.want) {
			t.Errorf("%s: exit status %d\n%s%swant %d\n%s", c.args, r.code, r.stdout, r.stderr, c.code, c.want)
		}
	}
}

// fakeNode answers every request with one value, on a socket in a folder.
func fakeNode(t *testing.T, dir string, status int, answer any) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(answer)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Shutdown(context.Background())
		<-ended
	})
}

// TestConfigText asserts how changes, refusals and versions are written.
func TestConfigText(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	version := api.ConfigVersion{Number: 7, Time: at, Source: "api", User: "alice (pid 17)", Comment: "why", Summary: "+1 pool"}
	result := api.ConfigResult{Version: version, Changed: true, DryRun: true, Guarded: "this removes 4 of 4 services", Changes: []api.ConfigChange{
		{Op: "changed", Kind: "tunnel", Fields: []api.ConfigField{{Name: "source_ipv4", After: "198.18.9.1"}}},
		{Op: "added", Kind: "pool", Name: "shop", Fields: []api.ConfigField{{Name: "panic_threshold", After: "30"}}},
		{Op: "added", Kind: "backend", Pool: "shop", Name: "198.18.10.1:80", Fields: []api.ConfigField{{Name: "weight", After: "2"}}},
		{Op: "removed", Kind: "backend", Pool: "web", Name: "198.18.10.2:80"},
		{Op: "changed", Kind: "service", Name: "web", Fields: []api.ConfigField{{Name: "port", Before: "80", After: "8000-8010"}}},
		{Op: "removed", Kind: "setting", Pool: "web", Name: "198.18.10.2:80", Fields: []api.ConfigField{{Name: "state", Before: "drained"}}},
	}}
	const changes = `~ tunnel
    source_ipv4: (none) -> 198.18.9.1
+ pool shop
    panic_threshold: 30
    + backend 198.18.10.1:80
        weight: 2
~ pool web
    - backend 198.18.10.2:80
~ service web
    port: 80 -> 8000-8010
- setting of 198.18.10.2:80 in pool web
    state: drained
`
	refusal := map[string]any{"error": api.Error{Code: api.Invalid, Message: "f.toml: 2 errors", Details: []api.Detail{{Line: 3, Column: 4, Message: "wrong"}, {Message: "g.toml:5:6: as well"}}}}
	for _, c := range []struct {
		name, args string
		status     int
		answer     any
		code       int
		out, err   string
	}{
		{"diff", "config diff f.toml", 200, result, 1, changes + "warning: this removes 4 of 4 services\n", ""},
		{"no difference", "config diff f.toml", 200, api.ConfigResult{Version: version}, 0, "", ""},
		{"another text", "config diff", 200, api.ConfigResult{Version: version, Changed: true}, 1, "no object; the text differs\n", ""},
		{"a diff of errors", "config diff f.toml", 422, refusal, 2, "error: f.toml:3:4: wrong\nerror: g.toml:5:6: as well\n", "fairlead: f.toml: 2 errors\n"},
		{"dry run", "config apply f.toml --dry-run", 200, result, 0, changes + "this would be version 7: +1 pool\n", ""},
		{"errors", "config apply f.toml", 422, refusal, 1, "error: f.toml:3:4: wrong\nerror: g.toml:5:6: as well\n", "fairlead: f.toml: 2 errors\n"},
		{"errors of the node's file", "config reload", 422, refusal, 1, "error: f.toml:3:4: wrong\nerror: g.toml:5:6: as well\n", "fairlead: f.toml: 2 errors\n"},
		{"nothing", "config reload", 200, api.ConfigResult{Version: version}, 0, "nothing changes; version 7 is in force\n", ""},
		{"history", "config history", 200, api.ConfigHistory{Versions: []api.ConfigVersion{version}}, 0,
			"VERSION  TIME                 SOURCE  BY              CHANGED  COMMENT\n      7  2026-01-02 03:04:05  api     alice (pid 17)  +1 pool  why\n", ""},
		{"as JSON", "config confirm -o json", 200, version, 0, `{
  "number": 7,
  "time": "2026-01-02T03:04:05Z",
  "source": "api",
  "user": "alice (pid 17)",
  "comment": "why",
  "summary": "+1 pool"
}
`, ""},
		{"a forced one", "config reload", 409, map[string]any{"error": api.Error{Code: api.NeedsForce, Message: "too much"}}, 1, "", "fairlead: too much\n"},
		{"who may not", "config reload", 403, map[string]any{"error": api.Error{Code: api.Forbidden, Message: "no"}}, 4, "", "fairlead: no\n"},
		{"show", "config show", 200, api.VersionedConfig{Version: version, Sources: []api.ConfigSource{{Source: "file", Name: "f.toml", Text: "# x\n", Pools: 1}}}, 0,
			"# version 7 of 2026-01-02 03:04:05\n\n# source file, f.toml: 0 services, 1 pool, 0 backends\n# x\n", ""},
		{"show of no source", "config show --source api", 200, api.VersionedConfig{Version: version}, 1, "", "fairlead: version 7 has no source \"api\"\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("TZ", "UTC")
			dir := t.TempDir()
			write(t, dir, "f.toml", nil)
			fakeNode(t, dir, c.status, c.answer)
			r := fairlead(t, dir, append(strings.Fields(c.args), "--socket", filepath.Join(dir, "s"))...)
			if r.code != c.code || r.stdout != c.out || r.stderr != c.err {
				t.Errorf("exit status %d\n%s%swant %d\n%s%s", r.code, r.stdout, r.stderr, c.code, c.out, c.err)
			}
		})
	}
}
