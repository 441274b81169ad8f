package api

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ServeMetrics implements MetricsServer.
func (f *fixed) ServeMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	io.WriteString(w, "fairlead_generation_published 7\n")
}

// LogLevel implements LogLeveler.
func (f *fixed) LogLevel(context.Context) LogLevel {
	return LogLevel{Level: "info", Configured: "info"}
}

// SetLogLevel implements LogLeveler.
func (f *fixed) SetLogLevel(_ context.Context, level string, length time.Duration) (LogLevel, error) {
	l := LogLevel{Level: level, Configured: "info"}
	if length > 0 {
		until := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(length)
		l.Until = &until
	}
	return l, nil
}

// TestLogLevelCrosses asserts that the client's wish reaches the node, and what
// is refused.
func TestLogLevelCrosses(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "fairlead.sock")
	stop := serveFixed(t, socket, newFixed())
	c := NewClient(socket)
	ask(t, c)
	if l, err := c.SetLogLevel(t.Context(), "debug", 10*time.Minute); err != nil || l.Level != "debug" || !l.Until.Equal(time.Date(2026, 1, 2, 3, 14, 5, 0, time.UTC)) {
		t.Errorf("%+v, %v", l, err)
	}
	if l, err := c.SetLogLevel(t.Context(), "warn", 0); err != nil || l.Level != "warn" || l.Until != nil {
		t.Errorf("%+v, %v", l, err)
	}
	if l, err := c.LogLevel(t.Context()); err != nil || l.Level != "info" {
		t.Errorf("%+v, %v", l, err)
	}
	for _, bad := range []struct {
		level  string
		length time.Duration
		want   string
	}{
		{"loud", 0, `level: "loud" is none of debug, info, warn, error`},
		{"", 0, `level: "" is none of debug, info, warn, error`},
		{"info", 25 * time.Hour, "for: 25h is out of range; it must be 0s to 24h"},
		{"info", -time.Second, "for: -1s is out of range; it must be 0s to 24h"},
	} {
		if _, err := c.SetLogLevel(t.Context(), bad.level, bad.length); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%q for %v: %v, want %s", bad.level, bad.length, err, bad.want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestMetricsOnTheSocket asserts that metrics are served as Prometheus wants
// them.
func TestMetricsOnTheSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "fairlead.sock")
	stop := serveConfig(t, Config{Socket: socket, Log: slog.New(slog.DiscardHandler)}, newFixed())
	c := NewClient(socket)
	ask(t, c)
	answer, err := c.Open(t.Context(), http.MethodGet, "/metrics", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer)
	answer.Close()
	if err != nil || string(text) != "fairlead_generation_published 7\n" {
		t.Errorf("%q, %v", text, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
