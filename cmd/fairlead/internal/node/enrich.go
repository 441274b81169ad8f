package node

import (
	"context"
	"net/netip"

	"fairlead/controlplane/api"
	"fairlead/controlplane/health"
	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
)

// activeFlows counts flows for a list, when it is asked for.
func (n *Node) activeFlows(ctx context.Context, asked bool) (*FlowCounts, error) {
	if !asked {
		return nil, nil
	}
	return n.FlowCounts(ctx)
}

// ofService is how many active flows a service has; nil when nobody has counted.
func (c *FlowCounts) ofService(id fib.ID) *uint64 {
	if c == nil {
		return nil
	}
	flows := c.Service(id)
	return &flows
}

// ofBackend is how many active flows a backend has; nil when nobody has counted.
func (c *FlowCounts) ofBackend(id fib.ID) *uint64 {
	if c == nil {
		return nil
	}
	flows := c.Backend(id)
	return &flows
}

// checked adds what checks say to the backends of a pool.
func (n *Node) checked(pool string, backends []api.Backend) {
	for i := range backends {
		b := &backends[i]
		addr, err := netip.ParseAddr(b.Address)
		if err != nil {
			continue
		}
		if r, is := n.HealthResult(model.BackendKey{Pool: pool, Endpoint: netip.AddrPortFrom(addr, b.Port)}); is {
			b.Health = healthOf(&r)
			b.Health.Nodes = n.nodesOn(r.Key)
		}
	}
}

// healthOf puts the ways of a backend's checks together: the worst latency, the
// first error, all checks.
func healthOf(r *health.Result) *api.BackendHealth {
	h := &api.BackendHealth{State: r.State.String(), Since: r.Since, Type: string(r.Type)}
	for i := range r.Ways {
		w := &r.Ways[i]
		h.LatencyUS = max(h.LatencyUS, w.Latency.Microseconds())
		h.Checks += w.Checks
		h.Failures += w.Failures
		if h.Error == "" {
			h.Error = w.Error
		}
		if w.Last.After(h.Last) {
			h.Last = w.Last
		}
	}
	return h
}
