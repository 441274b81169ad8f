package metrics

import (
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// objects gathers the series of services, pools and backends.
type objects struct {
	source   Source
	backends bool
	limit    int
}

// Columns of services.
const (
	servicePackets = iota
	serviceBytes
	serviceNewFlows
	serviceDrops
	serviceActive
	serviceInfo
)

var serviceColumns = []column{
	servicePackets:  {"fairlead_service_packets_total", "Packets of a service that were carried, both directions as far as they pass here.", dto.MetricType_COUNTER},
	serviceBytes:    {"fairlead_service_bytes_total", "Bytes of the frames of a service that were carried, as they came in.", dto.MetricType_COUNTER},
	serviceNewFlows: {"fairlead_service_new_flows_total", "Flows of a service that were begun.", dto.MetricType_COUNTER},
	serviceDrops:    {"fairlead_service_drops_total", "Packets of a service that were dropped.", dto.MetricType_COUNTER},
	serviceActive:   {"fairlead_service_active_flows", "Flows of a service in the flow table.", dto.MetricType_GAUGE},
	serviceInfo:     {"fairlead_service_info", "Always 1; the labels say which pool serves a service, and by which method.", dto.MetricType_GAUGE},
}

// Columns of backends.
const (
	backendPackets = iota
	backendBytes
	backendNewFlows
	backendDrops
	backendActive
	backendUp
	backendWeight
	backendHealthy
	backendLatency
	backendChecks
)

var backendColumns = []column{
	backendPackets:  {"fairlead_backend_packets_total", "Packets to and from a backend that were carried.", dto.MetricType_COUNTER},
	backendBytes:    {"fairlead_backend_bytes_total", "Bytes of the frames to and from a backend that were carried, as they came in.", dto.MetricType_COUNTER},
	backendNewFlows: {"fairlead_backend_new_flows_total", "Flows that a backend was given.", dto.MetricType_COUNTER},
	backendDrops:    {"fairlead_backend_drops_total", "Packets to and from a backend that were dropped.", dto.MetricType_COUNTER},
	backendActive:   {"fairlead_backend_active_flows", "Flows of a backend in the flow table.", dto.MetricType_GAUGE},
	backendUp:       {"fairlead_backend_up", "Whether a backend gets new flows: 0 when it is dead, disabled, draining, or the way to it is unknown.", dto.MetricType_GAUGE},
	backendWeight:   {"fairlead_backend_weight", "Weight of a backend in force.", dto.MetricType_GAUGE},
	backendHealthy:  {"fairlead_backend_healthy", "What the health checks say of a backend: 1 for alive, 0 for dead. Not there before they know.", dto.MetricType_GAUGE},
	backendLatency:  {"fairlead_backend_check_duration_seconds", "Time that the last successful health check of a backend took, on the slowest way to it.", dto.MetricType_GAUGE},
	backendChecks:   {"fairlead_backend_checks_total", "Health checks of a backend, by result.", dto.MetricType_COUNTER},
}

var (
	poolColumns    = []column{{"fairlead_pool_backends", "Backends of a pool by state.", dto.MetricType_GAUGE}}
	omittedColumns = []column{{"fairlead_backend_series_omitted", "1 when backends have no series of their own: by the configuration, or because there are more than its limit.", dto.MetricType_GAUGE}}
)

func (o *objects) gather() []*dto.MetricFamily {
	services := newSeries(serviceColumns)
	o.source.MetricServices(func(s *Service) { addService(services, s) })

	pools, backends := newSeries(poolColumns), newSeries(backendColumns)
	omitted := !o.backends
	states := [StateCount]*dto.LabelPair{}
	for s := range states {
		states[s] = label("state", State(s).String())
	}
	count := 0
	o.source.MetricPools(o.backends, func(p *Pool) {
		name := label("pool", p.Name)
		for s, n := range p.States {
			pools.add(0, []*dto.LabelPair{name, states[s]}, float64(n))
		}
		count += len(p.Backends)
		if omitted = omitted || o.limit > 0 && count > o.limit; omitted {
			backends = newSeries(backendColumns)
			return
		}
		addBackends(backends, name, p.Backends)
	})
	left := newSeries(omittedColumns)
	left.add(0, nil, truth(omitted))
	return append(append(append(services.families(), pools.families()...), backends.families()...), left.families()...)
}

func addService(to *series, s *Service) {
	protocol, vip := label("protocol", s.Protocol), label("vip", s.VIP)
	name, port := label("service", s.Name), label("port", s.Ports)
	labels := []*dto.LabelPair{port, protocol, name, vip}
	to.add(servicePackets, labels, float64(s.Packets))
	to.add(serviceBytes, labels, float64(s.Bytes))
	to.add(serviceNewFlows, labels, float64(s.NewFlows))
	to.add(serviceDrops, labels, float64(s.Drops))
	if s.ActiveFlows != nil {
		to.add(serviceActive, labels, float64(*s.ActiveFlows))
	}
	to.add(serviceInfo, []*dto.LabelPair{label("method", s.Method), label("pool", s.Pool), port, protocol, name, vip}, 1)
}

func addBackends(to *series, pool *dto.LabelPair, backends []Backend) {
	for i := range backends {
		b := &backends[i]
		labels := []*dto.LabelPair{label("backend", b.Name), pool}
		to.add(backendPackets, labels, float64(b.Packets))
		to.add(backendBytes, labels, float64(b.Bytes))
		to.add(backendNewFlows, labels, float64(b.NewFlows))
		to.add(backendDrops, labels, float64(b.Drops))
		if b.ActiveFlows != nil {
			to.add(backendActive, labels, float64(*b.ActiveFlows))
		}
		to.add(backendUp, labels, truth(b.State == StateUp))
		to.add(backendWeight, labels, float64(b.Weight))
		if b.Check != nil {
			addCheck(to, labels, b.Check)
		}
	}
}

var resultSuccess, resultFailure = label("result", "success"), label("result", "failure")

func addCheck(to *series, labels []*dto.LabelPair, c *Check) {
	if c.Known {
		to.add(backendHealthy, labels, truth(c.Healthy))
	}
	if c.Latency > 0 {
		to.add(backendLatency, labels, c.Latency.Seconds())
	}
	to.add(backendChecks, append(labels[:2:2], resultSuccess), float64(c.Succeeded))
	to.add(backendChecks, append(labels[:2:2], resultFailure), float64(c.Failed))
}

// column is one metric of a kind of object.
type column struct {
	name, help string
	kind       dto.MetricType
}

// series are the series of objects of one kind, in the making. The columns of
// one object share its labels, which are in the order of their names.
type series struct {
	columns []column
	metrics [][]*dto.Metric // by column
	slab    []cell
}

// cell is one series with its value, in one piece of memory with others.
type cell struct {
	metric  dto.Metric
	counter dto.Counter
	gauge   dto.Gauge
	value   float64
}

const slabSize = 512

func newSeries(columns []column) *series {
	return &series{columns: columns, metrics: make([][]*dto.Metric, len(columns))}
}

func (s *series) add(column int, labels []*dto.LabelPair, value float64) {
	if len(s.slab) == 0 {
		s.slab = make([]cell, slabSize)
	}
	c := &s.slab[0]
	s.slab = s.slab[1:]
	c.value, c.metric.Label = value, labels
	if s.columns[column].kind == dto.MetricType_COUNTER {
		c.counter.Value, c.metric.Counter = &c.value, &c.counter
	} else {
		c.gauge.Value, c.metric.Gauge = &c.value, &c.gauge
	}
	s.metrics[column] = append(s.metrics[column], &c.metric)
}

// families are the metrics that have a series.
func (s *series) families() []*dto.MetricFamily {
	var all []*dto.MetricFamily
	for i := range s.columns {
		if c := &s.columns[i]; len(s.metrics[i]) > 0 {
			all = append(all, &dto.MetricFamily{Name: &c.name, Help: &c.help, Type: &c.kind, Metric: s.metrics[i]})
		}
	}
	return all
}

func label(name, value string) *dto.LabelPair {
	value = strings.ToValidUTF8(value, "\ufffd")
	return &dto.LabelPair{Name: &name, Value: &value}
}
