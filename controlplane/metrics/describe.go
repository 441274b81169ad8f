package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// metric describes one metric and makes its series.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue}
}

// send sends one series.
func (m metric) send(to chan<- prometheus.Metric, value float64, labels ...string) {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\ufffd")
	}
	series, err := prometheus.NewConstMetric(m.desc, m.kind, value, labels...)
	if err != nil {
		series = prometheus.NewInvalidMetric(m.desc, err)
	}
	to <- series
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
