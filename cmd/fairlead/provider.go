package main

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"fairlead/cluster/view"
	"fairlead/cmd/fairlead/internal/node"
	"fairlead/controlplane/api"
	"fairlead/controlplane/logging"
)

// provider is a node with what belongs to its process: the admin API speaks to
// it.
type provider struct {
	*node.Node
	*upgrader
	*view.View
	metrics http.Handler
	logs    *logging.Logs
}

var _ api.Provider = (*provider)(nil)

// ServeMetrics implements api.MetricsServer.
func (p *provider) ServeMetrics(w http.ResponseWriter, r *http.Request) { p.metrics.ServeHTTP(w, r) }

// LogLevel implements api.LogLeveler.
func (p *provider) LogLevel(context.Context) api.LogLevel {
	s := p.logs.Level()
	l := api.LogLevel{Level: strings.ToLower(s.Level.String()), Configured: strings.ToLower(s.Configured.String())}
	if !s.Until.IsZero() {
		l.Until = &s.Until
	}
	return l
}

// RecentLog implements api.LogKeeper.
func (p *provider) RecentLog() []string { return p.logs.Recent() }

// SetLogLevel implements api.LogLeveler.
func (p *provider) SetLogLevel(ctx context.Context, level string, length time.Duration) (api.LogLevel, error) {
	var to slog.Level
	if err := to.UnmarshalText([]byte(level)); err != nil {
		return api.LogLevel{}, api.Errorf(api.BadRequest, "%v", err)
	}
	p.logs.SetLevel(to, length)
	return p.LogLevel(ctx), nil
}
