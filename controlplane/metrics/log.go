package metrics

import "github.com/prometheus/client_golang/prometheus"

// LogLines are lines of the log by level: debug, info, warn, error.
type LogLines struct {
	Written, Suppressed [4]uint64
}

var logLevels = [4]string{"debug", "info", "warn", "error"}

// logCollector collects what is counted of the log.
type logCollector struct {
	counts              func() LogLines
	written, suppressed metric
}

// NewLogCollector collects the lines of a log.
func NewLogCollector(counts func() LogLines) prometheus.Collector {
	return &logCollector{
		counts:     counts,
		written:    counter("fairlead_log_lines_total", "Lines of the control process's log that were written.", "level"),
		suppressed: counter("fairlead_log_suppressed_lines_total", "Lines of the log that were left out, there being too many of one message.", "level"),
	}
}

// Describe implements prometheus.Collector.
func (c *logCollector) Describe(to chan<- *prometheus.Desc) {
	to <- c.written.desc
	to <- c.suppressed.desc
}

// Collect implements prometheus.Collector.
func (c *logCollector) Collect(to chan<- prometheus.Metric) {
	n := c.counts()
	for i, level := range logLevels {
		c.written.send(to, float64(n.Written[i]), level)
		c.suppressed.send(to, float64(n.Suppressed[i]), level)
	}
}
