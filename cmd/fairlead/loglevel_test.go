package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/api"
	"fairlead/controlplane/logging"
)

// TestLogLevelArguments asserts what is refused before the node is asked.
func TestLogLevelArguments(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"log-level loud", `"loud" is none of debug, info, warn, error`},
		{"log-level debug --for 25h", "--for 25h0m0s is out of range; it must be 0s to 24h"},
		{"log-level debug --for -1s", "--for -1s is out of range; it must be 0s to 24h"},
		{"log-level --for 1m", "--for is for a level to set"},
		{"log-level debug info", "accepts at most 1 arg(s), received 2"},
	} {
		root := newRoot()
		root.SetArgs(strings.Fields(c.args))
		root.SetOut(new(bytes.Buffer))
		root.SetErr(new(bytes.Buffer))
		if err := root.Execute(); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.args, err, c.want)
		}
	}
}

// TestLogLevelOfTheProvider asserts that the API changes the level of the log
// that the node writes, and says so.
func TestLogLevelOfTheProvider(t *testing.T) {
	var out bytes.Buffer
	logs := logging.New(logging.Config{Out: &out, Level: slog.LevelWarn})
	defer logs.Close()
	p := &provider{metrics: http.NotFoundHandler(), logs: logs}
	if got := p.LogLevel(t.Context()); got != (api.LogLevel{Level: "warn", Configured: "warn"}) {
		t.Errorf("%+v", got)
	}
	got, err := p.SetLogLevel(t.Context(), "debug", time.Hour)
	if err != nil || got.Level != "debug" || got.Until == nil {
		t.Errorf("%+v, %v", got, err)
	}
	logs.Logger().Debug("now it is written")
	if !strings.Contains(out.String(), "now it is written") {
		t.Error("nothing is written")
	}
	for _, c := range []struct {
		level api.LogLevel
		want  string
	}{
		{api.LogLevel{Level: "info", Configured: "info"}, "info\n"},
		{api.LogLevel{Level: "debug", Configured: "info"}, "debug, until the node starts again; configured is info\n"},
		{api.LogLevel{Level: "debug", Configured: "info", Until: got.Until}, "debug, until " + got.Until.Local().Format(time.DateTime) + "; then info\n"},
	} {
		var text bytes.Buffer
		if err := writeLogLevel(&text, &c.level); err != nil || text.String() != c.want {
			t.Errorf("%q, %v, want %q", &text, err, c.want)
		}
	}
}
