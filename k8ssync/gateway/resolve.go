package gateway

import (
	"cmp"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
)

// Plan is what all objects together mean. It does not change, and does not depend
// on the order in which objects are listed.
type Plan struct {
	in       Input
	classes  map[string]*gatewayv1.GatewayClass // that are ours
	gateways map[kube.Key]*gateway
	order    []kube.Key // of gateways, sorted
	routes   map[RouteKey]*route
	sequence []RouteKey // of routes: the oldest first
	services map[types.NamespacedName][]kube.Key
}

// gateway is a Gateway of ours.
type gateway struct {
	object    *gatewayv1.Gateway
	key       kube.Key
	class     *gatewayv1.GatewayClass
	listeners []listener // as spec.listeners
	options   kube.Options
	problems  []kube.Problem
	refusal   verdict // why it is not accepted as a whole; its Reason is empty when it is
	routes    map[RouteKey]*attached
}

// attached is a route that is to carry at least one listener of a Gateway.
type attached struct {
	route     *route
	listeners []int // indexes, of those it carries
}

// verdict is what a condition says.
type verdict struct{ Reason, Message string }

// Resolve works out what the objects of an input mean.
func Resolve(in Input) *Plan {
	p := &Plan{
		in:       in,
		classes:  make(map[string]*gatewayv1.GatewayClass),
		gateways: make(map[kube.Key]*gateway),
		routes:   make(map[RouteKey]*route),
		services: make(map[types.NamespacedName][]kube.Key),
	}
	for _, c := range in.Classes {
		if c.Spec.ControllerName == ControllerName {
			p.classes[c.Name] = c
		}
	}
	for _, gw := range in.Gateways {
		if class := p.classes[string(gw.Spec.GatewayClassName)]; class != nil {
			g := p.newGateway(gw, class)
			p.gateways[g.key] = g
		}
	}
	p.order = slices.SortedFunc(maps.Keys(p.gateways), kube.Key.Compare)
	p.addRoutes()
	for _, key := range p.sequence {
		p.attach(p.routes[key])
	}
	p.indexServices()
	return p
}

func (p *Plan) addRoutes() {
	for _, r := range p.in.TCPRoutes {
		p.addRoute(tcpRoute(r))
	}
	for _, r := range p.in.UDPRoutes {
		p.addRoute(udpRoute(r))
	}
	p.sequence = slices.SortedFunc(maps.Keys(p.routes), func(a, b RouteKey) int { return p.routes[a].older(p.routes[b]) })
	grants := newGrants(p.in.Grants)
	for _, r := range p.routes {
		p.resolveRefs(r, grants)
	}
}

func (p *Plan) addRoute(r *route) { p.routes[r.key] = r }

// indexServices remembers which Gateways depend on the endpoints of a Service.
func (p *Plan) indexServices() {
	for _, key := range p.order {
		g := p.gateways[key]
		seen := make(map[types.NamespacedName]bool)
		for _, a := range g.routes {
			for i := range a.route.refs {
				if name := a.route.refs[i].name; !seen[name] {
					seen[name] = true
					p.services[name] = append(p.services[name], key)
				}
			}
		}
	}
}

// Keys are the Gateways that are ours, sorted.
func (p *Plan) Keys() []kube.Key { return slices.Clone(p.order) }

// Routes are all TCPRoutes and UDPRoutes, the oldest first.
func (p *Plan) Routes() []RouteKey { return slices.Clone(p.sequence) }

// Classes are the names of the GatewayClasses that are ours, sorted.
func (p *Plan) Classes() []string { return slices.Sorted(maps.Keys(p.classes)) }

// Gateways are those whose group depends on the endpoints of a Service.
func (p *Plan) Gateways(service types.NamespacedName) []kube.Key {
	return slices.Clone(p.services[service])
}

// Problems are what whoever made a Gateway should know.
func (p *Plan) Problems(key kube.Key) []kube.Problem {
	g := p.gateways[key]
	if g == nil {
		return nil
	}
	out := slices.Clone(g.problems)
	if g.refusal.Reason != "" {
		out = append(out, kube.Problem{Severity: kube.Warning, Reason: g.refusal.Reason, Message: g.refusal.Message})
	}
	for i := range g.listeners {
		if l := &g.listeners[i]; l.refusal.Reason != "" {
			out = append(out, kube.Problem{Severity: kube.Warning, Reason: l.refusal.Reason, Message: "listener " + string(l.spec.Name) + ": " + l.refusal.Message})
		}
	}
	return out
}

// older orders routes as the Gateway API has it: by age, then by namespace and
// name; and by kind, so that the order is total.
func (r *route) older(o *route) int {
	return cmp.Or(r.meta.CreationTimestamp.Compare(o.meta.CreationTimestamp.Time),
		cmp.Compare(r.key.Namespace, o.key.Namespace),
		cmp.Compare(r.key.Name, o.key.Name),
		cmp.Compare(r.key.Kind, o.key.Kind))
}

// protocols of listeners that are served, and the kind of route each takes.
var protocols = map[gatewayv1.ProtocolType]struct {
	kind     gatewayv1.Kind
	protocol model.Protocol
}{
	gatewayv1.TCPProtocolType: {KindTCPRoute, model.TCP},
	gatewayv1.UDPProtocolType: {KindUDPRoute, model.UDP},
}
