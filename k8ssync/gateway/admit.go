package gateway

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead/k8ssync/kube"
)

// maxGroupName leaves room for what the names of services and pools add to that of
// their group (model.MaxNameLength).
const maxGroupName = 200

// newGateway reads a Gateway of a class of ours, save for its routes.
func (p *Plan) newGateway(gw *gatewayv1.Gateway, class *gatewayv1.GatewayClass) *gateway {
	g := &gateway{object: gw, key: KeyOf(gw), class: class, routes: make(map[RouteKey]*attached)}
	for i := range gw.Spec.Listeners {
		g.listeners = append(g.listeners, newListener(&gw.Spec.Listeners[i], p.in.Served))
	}
	conflicts(g.listeners)
	g.options, g.problems = p.in.Options(annotationsOf(gw))
	g.options.Method = p.method(g)
	g.refusal = g.admit(p)
	if gw.Spec.TLS != nil {
		g.problems = append(g.problems, kube.Problem{Severity: kube.Warning, Reason: "UnsupportedField", Message: "spec.tls is not followed: TLS passes through as TCP"})
	}
	if a := gw.Spec.AllowedListeners; a != nil && a.Namespaces != nil && a.Namespaces.From != nil && *a.Namespaces.From != gatewayv1.NamespacesFromNone {
		g.problems = append(g.problems, kube.Problem{Severity: kube.Warning, Reason: "UnsupportedField", Message: "spec.allowedListeners is not followed: ListenerSets are not supported"})
	}
	return g
}

// annotationsOf are those that options are read from: the Gateway's own, and those
// of spec.infrastructure, which win.
func annotationsOf(gw *gatewayv1.Gateway) map[string]string {
	out := maps.Clone(gw.Annotations)
	if out == nil {
		out = make(map[string]string)
	}
	if infra := gw.Spec.Infrastructure; infra != nil {
		for k, v := range infra.Annotations {
			out[string(k)] = string(v)
		}
	}
	return out
}

// labelsOf are those that pools select by.
func labelsOf(gw *gatewayv1.Gateway) map[string]string {
	out := maps.Clone(gw.Labels)
	if out == nil {
		out = make(map[string]string)
	}
	if infra := gw.Spec.Infrastructure; infra != nil {
		for k, v := range infra.Labels {
			out[string(k)] = string(v)
		}
	}
	return out
}

// method is how packets get to backends. Nothing on a node of Kubernetes answers
// for the address of a Gateway, so the packet cannot be handed to one as it is:
// where Services would be, Gateways use the nodes' ports.
func (p *Plan) method(g *gateway) kube.Method {
	switch {
	case g.options.Method == kube.Nodes:
		g.problems = append(g.problems, kube.Problem{Severity: kube.Warning, Reason: "UnsupportedMethod",
			Message: "method nodes is not possible for a Gateway, because kube-proxy does not know its address; nodeports is used"})
		return kube.NodePorts
	case g.options.Method != "":
		return g.options.Method
	case p.in.Settings.Method == kube.Nodes, p.in.Settings.Method == kube.NodePorts:
		return kube.NodePorts
	}
	return kube.Pods
}

// admit says why a Gateway is not accepted as a whole; with an empty reason it is.
func (g *gateway) admit(p *Plan) verdict {
	gw := g.object
	if len(g.key.Group()) > maxGroupName {
		return verdict{string(gatewayv1.GatewayReasonInvalid), fmt.Sprintf("namespace and name are %d bytes too long together", len(g.key.Group())-maxGroupName)}
	}
	if v := classVerdict(g.class, p.in.Bundle); v.Reason != string(gatewayv1.GatewayClassReasonAccepted) {
		return verdict{string(gatewayv1.GatewayReasonInvalidParameters), fmt.Sprintf("GatewayClass %s is not accepted: %s", g.class.Name, v.Message)}
	}
	if infra := gw.Spec.Infrastructure; infra != nil && infra.ParametersRef != nil {
		ref := infra.ParametersRef
		return verdict{string(gatewayv1.GatewayReasonInvalidParameters), fmt.Sprintf(
			"spec.infrastructure.parametersRef: there are no parameters of kind %s; options are annotations", kindName(ref.Group, ref.Kind))}
	}
	if v := g.addresses(); v.Reason != "" {
		return v
	}
	var bad []string
	for i := range g.listeners {
		if l := &g.listeners[i]; !l.valid() {
			bad = append(bad, fmt.Sprintf("%s (%s)", l.spec.Name, l.refusal.Message))
		}
	}
	if len(bad) == len(g.listeners) {
		return verdict{string(gatewayv1.GatewayReasonListenersNotValid), "no listener is valid: " + strings.Join(bad, "; ")}
	}
	return verdict{}
}

// addresses reads spec.addresses into the options. Those of the specification take
// the place of any that an annotation asks for.
func (g *gateway) addresses() verdict {
	spec := g.object.Spec.Addresses
	if len(spec) == 0 {
		return verdict{}
	}
	asked, empty := []netip.Addr(nil), 0
	for i, a := range spec {
		if a.Type != nil && *a.Type != gatewayv1.IPAddressType {
			return verdict{string(gatewayv1.GatewayReasonUnsupportedAddress), fmt.Sprintf("spec.addresses[%d]: type %s is not supported; IPAddress is", i, *a.Type)}
		}
		if a.Value == "" {
			empty++
			continue
		}
		addr, err := netip.ParseAddr(a.Value)
		if err != nil || addr.Zone() != "" {
			return verdict{string(gatewayv1.GatewayReasonUnsupportedAddress), fmt.Sprintf("spec.addresses[%d]: %q is not an IP address", i, a.Value)}
		}
		if addr = addr.Unmap(); !slices.Contains(asked, addr) {
			asked = append(asked, addr)
		}
	}
	g.options.Addresses = asked
	return verdict{}
}

// surplus says which family more than one address is asked for of; "" when none.
func (g *gateway) surplus() string {
	var v4, v6 int
	for _, a := range g.options.Addresses {
		if a.Is4() {
			v4++
		} else {
			v6++
		}
	}
	switch {
	case v4 > 1:
		return "IPv4"
	case v6 > 1:
		return "IPv6"
	}
	return ""
}

// kindName is a kind as messages name it: "apps/Deployment", or "Secret" of the
// core group.
func kindName(group gatewayv1.Group, kind gatewayv1.Kind) string {
	if group == "" {
		return string(kind)
	}
	return string(group) + "/" + string(kind)
}
