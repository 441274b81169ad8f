package node

import (
	"net/netip"
	"sync"

	"fairlead/cluster/apply"
	"fairlead/controlplane/desired"
	"fairlead/controlplane/health"
	"fairlead/controlplane/metrics"
	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
)

// conditionTypes are those that there are series of, be they so or not.
var conditionTypes = []desired.ConditionType{
	desired.FileRefused, desired.FileOverruled, desired.NotStored, desired.Damaged, desired.RollbackFailed, restartNeeded,
}

// Changes implements metrics.ControlSource.
func (n *Node) Changes() *metrics.Changes {
	d := n.desired
	if d == nil {
		return nil
	}
	s := d.store.Status()
	c := &metrics.Changes{Version: s.Version, Time: s.Time, Pending: s.Pending != nil, Conditions: make(map[string]bool, len(conditionTypes))}
	for _, t := range conditionTypes {
		c.Conditions[string(t)] = false
	}
	for _, one := range s.Conditions {
		c.Conditions[string(one.Type)] = true
	}
	if d.sharing() != nil {
		for _, t := range apply.ConditionTypes {
			c.Conditions[string(t)] = false
		}
		for _, one := range d.clusterConditions() {
			c.Conditions[string(one.Type)] = true
		}
	}
	c.Conditions[restartNeeded] = d.restart.Load() != nil
	d.reloads.mu.Lock()
	defer d.reloads.mu.Unlock()
	c.Changed, c.Unchanged, c.Refused = d.reloads.changed, d.reloads.unchanged, d.reloads.refused
	return c
}

// Checks implements metrics.ControlSource.
func (n *Node) Checks() *metrics.Checks {
	if n.checks == nil {
		return nil
	}
	s := n.checks.checker.Stats()
	return &metrics.Checks{Targets: s.Targets, Running: s.Running, Waiting: s.Waiting, Succeeded: s.Checks - s.Failures, Failed: s.Failures, Late: s.Late}
}

// Announcement implements metrics.ControlSource.
func (n *Node) Announcement() *metrics.Announcement {
	list, counters, ok := n.Announced()
	if !ok {
		return nil
	}
	a := &metrics.Announcement{Sent: counters.Sent, Failed: counters.Failed, Rivals: counters.Rivals}
	for i := range list {
		a.Addresses = append(a.Addresses, metrics.Address{
			Address: list[i].Address.String(), Announced: !list[i].Last.IsZero(), Conflict: list[i].Conflict != nil,
		})
	}
	return a
}

// metricCheck is what the checks of a backend say, nil when it has none.
func (c *checks) metricCheck(pool string, b *fib.Backend) *metrics.Check {
	if c == nil {
		return nil
	}
	r, ok := c.node.HealthResult(model.BackendKey{Pool: pool, Endpoint: netip.AddrPortFrom(b.Addr.Netip(), b.Port)})
	if !ok {
		return nil
	}
	m := &metrics.Check{Healthy: r.State == health.Up, Known: r.State != health.Unknown}
	for i := range r.Ways {
		w := &r.Ways[i]
		m.Latency = max(m.Latency, w.Latency)
		m.Succeeded += w.Checks - w.Failures
		m.Failed += w.Failures
	}
	return m
}

// reloadCounts are how often the file was read again, by what came of it.
type reloadCounts struct {
	mu                          sync.Mutex // guards what follows
	changed, unchanged, refused uint64
}

// countReload counts what has come of reading the file again.
func (d *Desired) countReload(result *desired.Result, err error) {
	d.reloads.mu.Lock()
	defer d.reloads.mu.Unlock()
	switch {
	case err != nil:
		d.reloads.refused++
	case result.Changed:
		d.reloads.changed++
	default:
		d.reloads.unchanged++
	}
}
