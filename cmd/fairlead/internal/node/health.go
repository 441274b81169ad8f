package node

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"fairlead/controlplane/health"
	"fairlead/controlplane/model"
	"fairlead/controlplane/serving"
)

// mostVerdictsLogged is how many verdicts of one report are logged one by one.
const mostVerdictsLogged = 20

// checks are the health checks of the node's backends.
type checks struct {
	node    *Node
	checker *health.Checker
	view    atomic.Pointer[hops]
	divided *divided // nil when this node is alone
}

// hops are the link-layer ways to backends, as the data path has them.
type hops struct {
	seen       *model.Observations
	interfaces map[string]*model.Interface
}

func newChecks(n *Node) (c *checks, err error) {
	c = &checks{node: n, divided: n.divided}
	report := c.report
	if c.divided != nil {
		report = c.divided.found
	}
	c.checker, err = health.New(health.Config{Report: report, Confirm: c.divided != nil, NextHop: c.nextHop, Log: n.log})
	if c.divided != nil && err == nil {
		c.divided.checks = c
	}
	return c, err
}

// see takes over what the node observes.
func (c *checks) see(view *model.Observations) {
	h := &hops{seen: view, interfaces: make(map[string]*model.Interface, len(view.Interfaces))}
	for i := range view.Interfaces {
		h.interfaces[view.Interfaces[i].Name] = &view.Interfaces[i]
	}
	c.view.Store(h)
}

// nextHop is the way that the data path takes to a backend.
func (c *checks) nextHop(backend netip.Addr) (health.Hop, bool) {
	h := c.view.Load()
	if h == nil {
		return health.Hop{}, false
	}
	next, ok := h.seen.NextHops[backend]
	device := h.interfaces[next.Interface]
	if !ok || !next.Resolved || device == nil || device.Index == 0 {
		return health.Hop{}, false
	}
	return health.Hop{Interface: device.Index, Source: device.MAC, Destination: next.MAC}, true
}

// follow checks the backends of a state from now on, and reports whether that
// is otherwise than before.
func (c *checks) follow(s *model.State) (changed bool) {
	list := targets(s)
	if c.divided != nil {
		return c.divided.follow(list)
	}
	c.recall(list)
	changed, err := c.checker.Set(list)
	if err != nil {
		c.node.log.Error("some backends are not checked", "error", err)
	}
	return changed
}

// report has verdicts take effect.
func (c *checks) report(verdicts []health.Verdict) {
	found := make(map[model.BackendKey]serving.Verdict, len(verdicts))
	for i, v := range verdicts {
		found[v.Key] = serving.Verdict{Health: servingHealth[v.State], Since: v.Since}
		if i < mostVerdictsLogged {
			c.node.log.Info("backend is "+v.State.String(), "pool", v.Key.Pool, "backend", endpointText(v.Key.Endpoint), "reason", v.Reason)
		}
	}
	if more := len(verdicts) - mostVerdictsLogged; more > 0 {
		c.node.log.Info("more backends have changed at the same time", "count", more)
	}
	if err := c.node.serving.Report(found); err != nil {
		c.node.log.Error("verdicts of health checks cannot take effect; it is tried again", "error", err)
	}
}

// endpointText is a backend's address, with its port when it has one of its
// own.
func endpointText(e netip.AddrPort) string {
	if e.Port() == 0 {
		return e.Addr().String()
	}
	return e.String()
}

var servingHealth = [...]serving.Health{health.Unknown: serving.Unknown, health.Up: serving.Up, health.Down: serving.Down}

// HealthResult is the result of the health checks of one backend; false when it
// is not checked. In a cluster it is what the nodes have found together, and how the
// checks of this one went, if it is one that checks the backend.
func (n *Node) HealthResult(key model.BackendKey) (health.Result, bool) {
	switch {
	case n.checks == nil:
		return health.Result{}, false
	case n.checks.divided != nil:
		return n.checks.divided.result(key)
	}
	return n.checks.checker.Result(key)
}

// HealthStats are numbers of the health checks as a whole.
func (n *Node) HealthStats() health.Stats {
	if n.checks == nil {
		return health.Stats{}
	}
	return n.checks.checker.Stats()
}

// targets are the backends of a state that are to be checked. What several
// services reach in different ways is checked by each of them.
func targets(s *model.State) []health.Target {
	services := make(map[string][]*model.Service, len(s.Services))
	for i := range s.Services {
		svc := &s.Services[i]
		services[svc.Pool] = append(services[svc.Pool], svc)
	}
	var out []health.Target
	for i := range s.Pools {
		p := &s.Pools[i]
		if p.Check == nil {
			continue
		}
		check := p.Check.WithDefaults()
		for j := range p.Backends {
			b := &p.Backends[j]
			t := health.Target{Key: model.BackendKey{Pool: p.Name, Endpoint: b.Endpoint()}, Check: check}
			t.Ways = ways(s, check, b, services[p.Name])
			if len(t.Ways) > 0 {
				out = append(out, t)
			}
		}
	}
	return out
}

// ways are those by which one backend is checked. There is none when no port is
// known, as in a pool that no service uses.
func ways(s *model.State, check *model.Check, b *model.Backend, services []*model.Service) []health.Way {
	var out []health.Way
	add := func(w health.Way) {
		if (w.Address.Port() != 0 || !check.Type.NeedsPort()) && !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	port := func(of uint16) uint16 {
		switch {
		case check.Type == model.CheckICMP:
			return 0
		case check.Port != 0:
			return check.Port
		case b.Port != 0:
			return b.Port
		}
		return of // 0 of a service for every port
	}
	for _, svc := range services {
		first := port(svc.Ports.First)
		if svc.Method == model.NAT || svc.Method == "" || check.Path == model.PathDirect || check.Type == model.CheckExec {
			add(health.Way{Address: netip.AddrPortFrom(b.Address, first)})
			continue
		}
		w := health.Way{Address: netip.AddrPortFrom(svc.VIP, first), Method: svc.Method}
		if svc.Method != model.L2 {
			w.Tunnel = s.Tunnel
		}
		add(w)
	}
	if len(services) == 0 {
		add(health.Way{Address: netip.AddrPortFrom(b.Address, port(0))})
	}
	return out
}
