package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// KubernetesSource is a node that serves a Kubernetes cluster.
type KubernetesSource interface {
	// KubernetesSync is how it does; nil when there is none.
	KubernetesSync() *KubernetesSync
}

// KubernetesSync is how a node is in step with a Kubernetes cluster.
type KubernetesSync struct {
	Connected bool
	Since     time.Time // when Connected became what it is
	Synced    time.Time // when everything was in force for the first time; zero: not yet
	Applied   time.Time // when something was put in force last; zero: never
	Writer    bool      // this node writes to Kubernetes
	Watched   []KubernetesWatched
	Groups    int // objects in force
	Pending   int // objects that have changed and are not in force yet
	Refused   int // groups that are not in force as they are wanted
	Held      int // objects that Kubernetes has forgotten, and that stay in force for a while
	Batches   uint64
	Changes   *KubernetesChanges

	// Failures is how often something could not be written to Kubernetes. What follows
	// is empty unless this node is the writer.
	Failures     uint64
	Unserved     int // Services that have not got all of the addresses that they ask for
	Unprogrammed int // Services with addresses that are not in force on all nodes
	Pools        []KubernetesPool
}

// KubernetesPool is what of the addresses of one family of a pool is used.
type KubernetesPool struct {
	Pool, Family             string // the family is ipv4 or ipv6
	Assigned, Reserved, Free int64
}

// KubernetesWatched is one kind of objects.
type KubernetesWatched struct {
	Resource string
	Objects  int
	Watching bool
}

// KubernetesChanges counts how long changes of Kubernetes' objects take until the
// data path goes by them.
type KubernetesChanges struct{ seconds *prometheus.HistogramVec }

// Where the time of a change begins.
const (
	ChangeFromEvent   = "event"   // this node has learned of it
	ChangeFromTrigger = "trigger" // it has happened, as the EndpointSlice says
)

// NewKubernetesChanges begins to count.
func NewKubernetesChanges() *KubernetesChanges {
	c := &KubernetesChanges{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "fairlead_kubernetes_change_seconds",
		Help:    "How long changes of Kubernetes' objects took until the data path went by them, from: event, when this node learned of one; trigger, when it happened by what the EndpointSlice says.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18), // to 65 s
	}, []string{"from"})}
	for _, from := range []string{ChangeFromEvent, ChangeFromTrigger} {
		c.seconds.WithLabelValues(from) // is there before it has counted anything
	}
	return c
}

// Observe counts a change.
func (c *KubernetesChanges) Observe(from string, took time.Duration) {
	c.seconds.WithLabelValues(from).Observe(took.Seconds())
}

// kubernetesCollector collects what a KubernetesSource says.
type kubernetesCollector struct {
	source KubernetesSource

	connected, since, synced, applied, writer, watching, objects, groups, pending, refused, held, batches, failures, unserved, unprogrammed, pool metric
}

// NewKubernetesCollector collects how a node is in step with a Kubernetes cluster.
func NewKubernetesCollector(s KubernetesSource) prometheus.Collector {
	return &kubernetesCollector{
		source:    s,
		connected: gauge("fairlead_kubernetes_connected", "Whether the API server answers this node. While it does not, everything stays in force."),
		since:     gauge("fairlead_kubernetes_connection_changed_timestamp_seconds", "When the connection to the API server was made or lost."),
		synced:    gauge("fairlead_kubernetes_synced_timestamp_seconds", "When everything that Kubernetes wants was in force for the first time since the start; not there before."),
		applied:   gauge("fairlead_kubernetes_applied_timestamp_seconds", "When something that Kubernetes wants was put in force last; not there before."),
		writer:    gauge("fairlead_kubernetes_writer", "Whether it is this node that writes to Kubernetes."),
		watching:  gauge("fairlead_kubernetes_watching", "Whether objects are followed at the moment, by resource.", "resource"),
		objects:   gauge("fairlead_kubernetes_objects", "Objects that are known, by resource.", "resource"),
		groups:    gauge("fairlead_kubernetes_groups", "Services and Gateways in force."),
		pending:   gauge("fairlead_kubernetes_pending", "Objects that have changed and are not in force yet."),
		refused:   gauge("fairlead_kubernetes_refused", "Groups of Services and Gateways that cannot be in force as they are wanted."),
		held:      gauge("fairlead_kubernetes_held", "Services and Gateways that Kubernetes has forgotten, which nobody has deleted, and that stay in force for a while."),
		batches:   counter("fairlead_kubernetes_batches_total", "Times that something Kubernetes wants was put in force."),

		failures:     counter("fairlead_kubernetes_write_failures_total", "Times that something could not be written to Kubernetes. It is tried again."),
		unserved:     gauge("fairlead_kubernetes_unserved", "Services that have not got all of the addresses that they ask for. Told by the writer alone."),
		unprogrammed: gauge("fairlead_kubernetes_unprogrammed", "Services that have addresses and are not in force on all nodes. Told by the writer alone."),
		pool:         gauge("fairlead_kubernetes_pool_addresses", "Addresses of a pool by state: assigned, reserved or free. Told by the writer alone.", "pool", "family", "state"),
	}
}

func (c *kubernetesCollector) all() []metric {
	return []metric{c.connected, c.since, c.synced, c.applied, c.writer, c.watching, c.objects, c.groups, c.pending, c.refused, c.held, c.batches, c.failures, c.unserved, c.unprogrammed, c.pool}
}

// Describe implements prometheus.Collector.
func (c *kubernetesCollector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range c.all() {
		to <- m.desc
	}
	if k := c.source.KubernetesSync(); k != nil && k.Changes != nil {
		k.Changes.seconds.Describe(to)
	}
}

// Collect implements prometheus.Collector.
func (c *kubernetesCollector) Collect(to chan<- prometheus.Metric) {
	k := c.source.KubernetesSync()
	if k == nil {
		return
	}
	c.connected.send(to, truth(k.Connected))
	for _, at := range []struct {
		metric metric
		time   time.Time
	}{{c.since, k.Since}, {c.synced, k.Synced}, {c.applied, k.Applied}} {
		if !at.time.IsZero() {
			at.metric.send(to, float64(at.time.UnixMilli())/1000)
		}
	}
	c.writer.send(to, truth(k.Writer))
	for _, w := range k.Watched {
		c.watching.send(to, truth(w.Watching), w.Resource)
		c.objects.send(to, float64(w.Objects), w.Resource)
	}
	c.groups.send(to, float64(k.Groups))
	c.pending.send(to, float64(k.Pending))
	c.refused.send(to, float64(k.Refused))
	c.held.send(to, float64(k.Held))
	c.batches.send(to, float64(k.Batches))
	c.failures.send(to, float64(k.Failures))
	if k.Writer {
		c.collectWriter(to, k)
	}
	if k.Changes != nil {
		k.Changes.seconds.Collect(to)
	}
}

// collectWriter collects what the node tells that writes for all.
func (c *kubernetesCollector) collectWriter(to chan<- prometheus.Metric, k *KubernetesSync) {
	c.unserved.send(to, float64(k.Unserved))
	c.unprogrammed.send(to, float64(k.Unprogrammed))
	for _, p := range k.Pools {
		c.pool.send(to, float64(p.Assigned), p.Pool, p.Family, "assigned")
		c.pool.send(to, float64(p.Reserved), p.Pool, p.Family, "reserved")
		c.pool.send(to, float64(p.Free), p.Pool, p.Family, "free")
	}
}
