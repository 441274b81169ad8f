package metrics

import (
	"runtime"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

var goVersion = runtime.Version()

// nodeCollector collects what concerns the node as a whole.
type nodeCollector struct {
	source Source
	all    []metric

	info, published, acknowledged, imageBytes, lastBuild metric
	builds                                               *prometheus.Desc
	draining, nextHops                                   metric
	dataUp, dataRestarts                                 metric
	flowCapacity, flows                                  metric
	frames
	workers
	queues
}

func newNodeCollector(s Source) *nodeCollector {
	c := &nodeCollector{
		source: s,
		info: gauge("fairlead_build_info", "Always 1; the labels are the node's name, its version, and the version of Go that it was built with.",
			"node", "version", "goversion"),
		published:    gauge("fairlead_generation_published", "Generation of the forwarding image that was published last."),
		acknowledged: gauge("fairlead_generation_acknowledged", "Lowest generation that a worker decides by."),
		imageBytes:   gauge("fairlead_image_bytes", "Size of the forwarding image in force in bytes."),
		lastBuild:    gauge("fairlead_generation_last_build_duration_seconds", "Time that the last generation took to be worked out and put in force."),
		builds: prometheus.NewDesc("fairlead_generation_build_duration_seconds",
			"Time that generations took to be worked out and put in force, by kind: full images and patches.", []string{"kind"}, nil),
		draining:     gauge("fairlead_backends_draining", "Removed backends whose flows live on."),
		nextHops:     gauge("fairlead_next_hops", "Ways to backends and routers, by whether the Ethernet address is known.", "state"),
		dataUp:       gauge("fairlead_data_process_up", "Whether a data process forwards."),
		dataRestarts: counter("fairlead_data_process_restarts_total", "Times that a data process died and was replaced."),
		flowCapacity: gauge("fairlead_flow_table_capacity_flows", "Flows that the flow table has room for."),
		flows:        gauge("fairlead_flow_table_flows", "Records in use of the flow table by state: flows, and session affinity.", "state"),
	}
	c.all = []metric{c.info, c.published, c.acknowledged, c.imageBytes, c.lastBuild, c.draining, c.nextHops, c.dataUp, c.dataRestarts, c.flowCapacity, c.flows}
	c.all = append(c.all, c.frames.init()...)
	c.all = append(c.all, c.workers.init()...)
	c.all = append(c.all, c.queues.init()...)
	return c
}

// Describe implements prometheus.Collector.
func (c *nodeCollector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range c.all {
		to <- m.desc
	}
	to <- c.builds
}

// Collect implements prometheus.Collector.
func (c *nodeCollector) Collect(to chan<- prometheus.Metric) {
	n := c.source.Metrics()
	c.info.send(to, 1, n.Name, n.Version, goVersion)
	c.published.send(to, float64(n.Published))
	c.acknowledged.send(to, float64(n.Acknowledged))
	c.imageBytes.send(to, float64(n.ImageBytes))
	c.lastBuild.send(to, n.LastBuild.Seconds())
	for _, b := range n.Builds {
		series, err := prometheus.NewConstSummary(c.builds, b.Count, b.Time.Seconds(), nil, b.Kind)
		if err != nil {
			series = prometheus.NewInvalidMetric(c.builds, err)
		}
		to <- series
	}
	c.draining.send(to, float64(n.Draining))
	c.nextHops.send(to, float64(n.NextHops-n.Unresolved), "resolved")
	c.nextHops.send(to, float64(n.Unresolved), "unresolved")
	c.dataUp.send(to, truth(n.DataRunning))
	c.dataRestarts.send(to, float64(n.DataRestarts))
	c.flowCapacity.send(to, float64(n.FlowCapacity))
	for state, count := range n.Flows {
		c.flows.send(to, float64(count), state)
	}
	c.frames.collect(to, &n.Ledger)
	c.workers.collect(to, n.Workers)
	c.queues.collect(to, n)
}

// frames are the metrics of the ledger.
type frames struct {
	received, created, ended, inFlight, difference metric
	bytesReceived, bytesSent                       metric
	stateless, memo                                metric
}

func (f *frames) init() []metric {
	*f = frames{
		received:      counter("fairlead_frames_received_total", "Frames that workers received, those among them that the XDP program forwarded by a flow memo."),
		created:       counter("fairlead_frames_created_total", "Further fragments that workers made of packets too long for their way."),
		ended:         counter("fairlead_frames_ended_total", "Frames whose journey ended, by action (transmit, pass or drop) and reason.", "action", "reason"),
		inFlight:      gauge("fairlead_frames_in_flight", "Frames that workers hold: fragments that wait for their first one."),
		difference:    gauge("fairlead_ledger_difference_frames", "Frames received and created, less those ended and in flight: 0, or there is a bug."),
		bytesReceived: counter("fairlead_received_bytes_total", "Bytes of the frames that workers received."),
		bytesSent:     counter("fairlead_transmitted_bytes_total", "Bytes of the frames that workers transmitted."),
		stateless:     counter("fairlead_flows_stateless_total", "Direct-reply flows that were carried without an entry, the flow table having no room."),
		memo:          counter("fairlead_memo_frames_total", "Frames that went by a flow memo, in the data process (user) and in the XDP program (kernel).", "where"),
	}
	return []metric{f.received, f.created, f.ended, f.inFlight, f.difference, f.bytesReceived, f.bytesSent, f.stateless, f.memo}
}

func (f *frames) collect(to chan<- prometheus.Metric, l *Ledger) {
	f.received.send(to, float64(l.Received))
	f.created.send(to, float64(l.Created))
	for _, e := range l.Ended {
		f.ended.send(to, float64(e.Frames), e.Action, e.Reason)
	}
	f.inFlight.send(to, float64(l.InFlight))
	f.difference.send(to, float64(l.Difference))
	f.bytesReceived.send(to, float64(l.BytesReceived))
	f.bytesSent.send(to, float64(l.BytesSent))
	f.stateless.send(to, float64(l.Stateless))
	f.memo.send(to, float64(l.MemoUser), "user")
	f.memo.send(to, float64(l.MemoKernel), "kernel")
}

// workers are the metrics of single workers.
type workers struct {
	frames, rounds, beat, umem metric
}

func (w *workers) init() []metric {
	*w = workers{
		frames: counter("fairlead_worker_frames_total", "Frames of one worker: received, and by what became of them.", "worker", "event"),
		rounds: counter("fairlead_worker_rounds_total", "Rounds that a worker has finished. An idle one finishes 20 in a second, a stuck one none.", "worker"),
		beat:   gauge("fairlead_worker_beat_age_seconds", "Time since a worker was last seen to finish a round.", "worker"),
		umem: gauge("fairlead_umem_frames", "Frames of a worker's packet memory by who has them: the worker itself, free ones among them (worker), "+
			"and the receiving (receive) and the sending side (send) of its sockets.", "worker", "holder"),
	}
	return []metric{w.frames, w.rounds, w.beat, w.umem}
}

func (w *workers) collect(to chan<- prometheus.Metric, all []Worker) {
	for i := range all {
		one, number := &all[i], strconv.Itoa(i)
		w.frames.send(to, float64(one.Received), number, "received")
		w.frames.send(to, float64(one.Transmitted), number, "transmitted")
		w.frames.send(to, float64(one.Passed), number, "passed")
		w.frames.send(to, float64(one.Dropped), number, "dropped")
		w.rounds.send(to, float64(one.Rounds), number)
		if one.BeatAge >= 0 {
			w.beat.send(to, one.BeatAge.Seconds(), number)
		}
		w.umem.send(to, float64(one.Own), number, "worker")
		w.umem.send(to, float64(one.Receive), number, "receive")
		w.umem.send(to, float64(one.Send), number, "send")
	}
}
