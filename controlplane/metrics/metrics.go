// Package metrics serves what a running node counts to Prometheus. It keeps no
// numbers of its own: every scrape reads the node, so that what a scrape says of
// frames is what the ledger says.
package metrics

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// maxScrapes is how many scrapes are answered at a time; others are told to come
// again (503). Each holds the whole answer in memory.
const maxScrapes = 2

// DefaultTimeout is how long an answer may take to be written.
const DefaultTimeout = 30 * time.Second

// Config says what is served.
type Config struct {
	Source Source

	// Backends says whether there are series of single backends. Those of
	// pools and services are always there.
	Backends bool
	// BackendLimit is how many backends may have series of their own. When there
	// are more, none has: half a list would mislead. 0: no limit.
	BackendLimit int
	// Timeout is how long an answer may take to be written; 0: DefaultTimeout.
	Timeout time.Duration

	// More are collectors of parts of the node that have their own.
	More []prometheus.Collector
	Log  *slog.Logger
}

// NewHandler makes the handler of GET /metrics. Errors while numbers are
// collected are logged and counted; what could be collected is served.
func NewHandler(cfg Config) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	for _, c := range append([]prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		dataProcessCollector(cfg.Source),
		newNodeCollector(cfg.Source),
	}, cfg.More...) {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	g := &gatherer{registry: registry, objects: objects{source: cfg.Source, backends: cfg.Backends, limit: cfg.BackendLimit}}
	timeout := cfg.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	serve := promhttp.HandlerForTransactional(g, promhttp.HandlerOpts{
		ErrorLog: errorLog{cfg.Log}, ErrorHandling: promhttp.ContinueOnError, Registry: registry, MaxRequestsInFlight: maxScrapes,
	})
	bounded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve.ServeHTTP(&hurried{ResponseWriter: w, timeout: timeout}, r)
	})
	return promhttp.InstrumentMetricHandler(registry, bounded), nil
}

// hurried is an answer that must be written in some time, counted from its first
// byte: a reader that does not read holds it in memory only for so long.
type hurried struct {
	http.ResponseWriter
	timeout time.Duration
	begun   bool
}

// Write implements http.ResponseWriter.
func (h *hurried) Write(p []byte) (int, error) {
	if !h.begun {
		h.begun = true
		err := http.NewResponseController(h.ResponseWriter).SetWriteDeadline(time.Now().Add(h.timeout))
		if err != nil && !errors.Is(err, http.ErrNotSupported) {
			return 0, err
		}
	}
	return h.ResponseWriter.Write(p)
}

// dataProcessCollector has the kernel's numbers of the data process, under
// fairlead_data_process_. While there is none, or where the control process may
// not look at it, its series are missing.
func dataProcessCollector(s Source) prometheus.Collector {
	return collectors.NewProcessCollector(collectors.ProcessCollectorOpts{
		Namespace: "fairlead_data",
		PidFn: func() (int, error) {
			if pid := s.DataProcess(); pid > 0 {
				return pid, nil
			}
			return 0, errors.New("there is no data process at the moment")
		},
	})
}

// gatherer puts together what the registry has and the series of services,
// pools and backends, which are too many for it: it would make several objects
// of each and compare all with all.
type gatherer struct {
	registry *prometheus.Registry
	objects  objects
}

// Gather implements prometheus.TransactionalGatherer.
func (g *gatherer) Gather() ([]*dto.MetricFamily, func(), error) {
	families, err := g.registry.Gather()
	families = append(families, g.objects.gather()...)
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int {
		switch {
		case a.GetName() < b.GetName():
			return -1
		case a.GetName() > b.GetName():
			return 1
		}
		return 0
	})
	return families, func() {}, err
}

// errorLog hands promhttp's errors to the node's log.
type errorLog struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (l errorLog) Println(v ...any) {
	args := make([]any, 0, 2*len(v))
	for _, e := range v {
		if err, ok := e.(error); ok {
			args = append(args, "error", err)
		}
	}
	l.log.Log(context.Background(), slog.LevelWarn, "metrics are incomplete", args...)
}
