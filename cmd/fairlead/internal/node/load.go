package node

import (
	"time"

	"fairlead/controlplane/api"
)

// loadAge is over how long rates are taken at least.
const loadAge = 2 * time.Second

// loadMeter has two readings of counters, the later of which is to be the earlier of
// the next two.
type loadMeter struct {
	before, last reading
}

// reading is counters at a moment.
type reading struct {
	at                     time.Time
	received, bytes, drops uint64
}

// observe takes a reading, and gives the rates since an earlier one: the last, or
// where that was a moment ago, the one before it.
func (m *loadMeter) observe(r reading) (packets, bytes, drops float64) {
	since := m.last
	switch {
	case m.last.at.IsZero():
		m.last = r
		return 0, 0, 0
	case r.at.Sub(m.last.at) >= loadAge:
		m.before, m.last = m.last, r
	case !m.before.at.IsZero():
		since = m.before
	}
	seconds := r.at.Sub(since.at).Seconds()
	if seconds <= 0 || r.received < since.received {
		return 0, 0, 0
	}
	return float64(r.received-since.received) / seconds, float64(r.bytes-since.bytes) / seconds, float64(r.drops-since.drops) / seconds
}

// load is what the node carries.
func (n *Node) load(s *api.Summary) api.Load {
	out := api.Load{FlowCapacity: n.cfg.Dataplane.FlowTableSize}
	r := reading{at: time.Now(), received: s.Ledger.Received, drops: s.Ledger.Dropped}
	n.mu.Lock()
	if n.counters != nil {
		total := n.counters.Total()
		total.Add(&n.past)
		r.bytes = total.Bytes
	}
	n.mu.Unlock()
	n.facts.mu.Lock()
	out.PacketsPerSecond, out.BytesPerSecond, out.DropsPerSecond = n.facts.load.observe(r)
	n.facts.mu.Unlock()
	if c := n.recentFlows(); c != nil {
		sum := uint64(0)
		for _, flows := range c.States {
			sum += flows
		}
		out.Flows = &sum
	}
	return out
}
