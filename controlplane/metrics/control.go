package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ControlSource is the part of a running node that decides what is forwarded.
// Each method returns nil for what the node does not do.
type ControlSource interface {
	Changes() *Changes
	Checks() *Checks
	Announcement() *Announcement
	Routing() *Routing
}

// Changes are the changes of the desired state.
type Changes struct {
	Version                     uint64
	Time                        time.Time // of the version
	Pending                     bool      // it waits to be confirmed
	Changed, Unchanged, Refused uint64    // times that the file was read again, by what came of it
	Conditions                  map[string]bool
}

// Checks are the health checks as a whole.
type Checks struct {
	Targets, Running, Waiting int
	Succeeded, Failed, Late   uint64
}

// Announcement is how addresses are announced by ARP and neighbour discovery.
type Announcement struct {
	Sent, Failed, Rivals uint64
	Addresses            []Address
}

// Address is one address that the node answers for.
type Address struct {
	Address             string
	Announced, Conflict bool
}

// controlCollector collects what a ControlSource says.
type controlCollector struct {
	source ControlSource

	version, changed, pending, reloads, condition metric
	targets, running, waiting, checks, late       metric
	announced, conflict, frames, rivals           metric
	routing                                       routingMetrics
}

// NewControlCollector collects what decides on forwarding: versions of the
// desired state, health checks, announcements.
func NewControlCollector(s ControlSource) prometheus.Collector {
	c := &controlCollector{
		source:    s,
		version:   gauge("fairlead_config_version", "Version of the desired state in force."),
		changed:   gauge("fairlead_config_version_timestamp_seconds", "When the version in force was made, in seconds since 1970."),
		pending:   gauge("fairlead_config_confirmation_pending", "Whether the version in force is rolled back unless it is confirmed."),
		reloads:   counter("fairlead_config_reloads_total", "Times that the configuration file was read again, by result: changed, unchanged or refused.", "result"),
		condition: gauge("fairlead_config_condition", "Whether the desired state has a condition that somebody should look at.", "condition"),

		targets: gauge("fairlead_health_targets", "Backends that are checked."),
		running: gauge("fairlead_health_checks_running", "Health checks under way."),
		waiting: gauge("fairlead_health_checks_waiting", "Health checks that are due and wait for others to end."),
		checks:  counter("fairlead_health_checks_total", "Health checks done, by result.", "result"),
		late:    counter("fairlead_health_checks_late_total", "Health checks that began more than a tenth of their interval after they were due."),

		announced: gauge("fairlead_arp_address_announced", "Whether an address that the node answers for was announced by ARP or neighbour discovery.", "address"),
		conflict:  gauge("fairlead_arp_address_conflict", "Whether another host claims an address that the node answers for.", "address"),
		frames:    counter("fairlead_arp_announcements_total", "Announcements by ARP and neighbour discovery, by result: sent, or failed.", "result"),
		rivals:    counter("fairlead_arp_rival_claims_total", "Claims of other hosts to addresses of the node that were heard."),
	}
	c.routing.init()
	return c
}

// Describe implements prometheus.Collector.
func (c *controlCollector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range append([]metric{
		c.version, c.changed, c.pending, c.reloads, c.condition,
		c.targets, c.running, c.waiting, c.checks, c.late,
		c.announced, c.conflict, c.frames, c.rivals,
	}, new(routingMetrics).init()...) {
		to <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *controlCollector) Collect(to chan<- prometheus.Metric) {
	if v := c.source.Changes(); v != nil {
		c.version.send(to, float64(v.Version))
		if !v.Time.IsZero() {
			c.changed.send(to, float64(v.Time.UnixMilli())/1000)
		}
		c.pending.send(to, truth(v.Pending))
		c.reloads.send(to, float64(v.Changed), "changed")
		c.reloads.send(to, float64(v.Unchanged), "unchanged")
		c.reloads.send(to, float64(v.Refused), "refused")
		for name, is := range v.Conditions {
			c.condition.send(to, truth(is), name)
		}
	}
	if h := c.source.Checks(); h != nil {
		c.targets.send(to, float64(h.Targets))
		c.running.send(to, float64(h.Running))
		c.waiting.send(to, float64(h.Waiting))
		c.checks.send(to, float64(h.Succeeded), "success")
		c.checks.send(to, float64(h.Failed), "failure")
		c.late.send(to, float64(h.Late))
	}
	if a := c.source.Announcement(); a != nil {
		for i := range a.Addresses {
			c.announced.send(to, truth(a.Addresses[i].Announced), a.Addresses[i].Address)
			c.conflict.send(to, truth(a.Addresses[i].Conflict), a.Addresses[i].Address)
		}
		c.frames.send(to, float64(a.Sent), "sent")
		c.frames.send(to, float64(a.Failed), "failed")
		c.rivals.send(to, float64(a.Rivals))
	}
	if r := c.source.Routing(); r != nil {
		c.routing.collect(to, r)
	}
}
