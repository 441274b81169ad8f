package main

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead/cmd/fairlead/internal/node"
	"fairlead/configs"
	"fairlead/controlplane/logging"
	"fairlead/controlplane/metrics"
)

// newMetrics makes the handler of GET /metrics, and opens the TCP address when
// the configuration gives one; otherwise the listener is nil.
func newMetrics(cfg *configs.Metrics, n *node.Node, logs *logging.Logs) (http.Handler, *metrics.Listener, error) {
	handler, err := metrics.NewHandler(metrics.Config{
		Source: n, Backends: cfg.Backends, BackendLimit: cfg.BackendLimit, Log: logs.Logger(),
		More: []prometheus.Collector{metrics.NewControlCollector(n), metrics.NewQuorumCollector(n), metrics.NewToldCollector(n), metrics.NewOwnerCollector(n), metrics.NewClusterCollector(n), metrics.NewKubernetesCollector(n), metrics.NewLogCollector(func() metrics.LogLines {
			c := logs.Counts()
			return metrics.LogLines{Written: c.Written, Suppressed: c.Suppressed}
		})},
	})
	if err != nil || cfg.Listen == "" {
		return handler, nil, err
	}
	l, err := metrics.Open(metrics.Server{Listen: cfg.Listen, TLSCert: cfg.TLSCert, TLSKey: cfg.TLSKey, Handler: handler})
	return handler, l, err
}
