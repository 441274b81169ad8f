package api

import (
	"net/http"
	"reflect"
)

// MetricsServer answers Prometheus.
type MetricsServer interface {
	// ServeMetrics answers a scrape in the format that it asks for.
	ServeMetrics(w http.ResponseWriter, r *http.Request)
}

func registerMetrics(r *Router, node MetricsServer) {
	t := r.add(Endpoint{
		Method: http.MethodGet, Path: "/metrics", Role: ReadOnly, Tag: "node",
		Summary:     "Metrics for Prometheus",
		Description: "The same as on the address that [metrics] listen gives. docs/metrics.md explains each.",
		Examples:    []Example{{Path: "/metrics"}},
	}, reflect.TypeFor[struct{}]())
	t.content = "text/plain"
	t.serve = func(w http.ResponseWriter, req *http.Request) error {
		var in struct{}
		if err := t.decode(w, req, reflect.ValueOf(&in).Elem()); err != nil {
			return err
		}
		node.ServeMetrics(w, req)
		return nil
	}
}
