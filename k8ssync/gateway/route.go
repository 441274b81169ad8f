package gateway

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead/k8ssync/kube"
)

// route is a TCPRoute or a UDPRoute.
type route struct {
	key      RouteKey
	meta     *metav1.ObjectMeta
	protocol corev1.Protocol
	parents  []gatewayv1.ParentReference
	backends []gatewayv1.BackendRef // of its rule; the API allows one
	status   *gatewayv1.RouteStatus

	refs     []ref           // those of backends that can be followed
	lost     []lostRef       // those that cannot
	verdicts []parentVerdict // for each parent that is a Gateway of ours
}

// parentVerdict is what a route is told about one parent.
type parentVerdict struct {
	ref      gatewayv1.ParentReference
	accepted bool
	verdict
}

func tcpRoute(r *gatewayv1.TCPRoute) *route {
	out := &route{
		key:  RouteKey{KindTCPRoute, types.NamespacedName{Namespace: r.Namespace, Name: r.Name}},
		meta: &r.ObjectMeta, protocol: corev1.ProtocolTCP, parents: r.Spec.ParentRefs, status: &r.Status.RouteStatus,
	}
	for i := range r.Spec.Rules {
		out.backends = append(out.backends, r.Spec.Rules[i].BackendRefs...)
	}
	return out
}

func udpRoute(r *gatewayv1.UDPRoute) *route {
	out := &route{
		key:  RouteKey{KindUDPRoute, types.NamespacedName{Namespace: r.Namespace, Name: r.Name}},
		meta: &r.ObjectMeta, protocol: corev1.ProtocolUDP, parents: r.Spec.ParentRefs, status: &r.Status.RouteStatus,
	}
	for i := range r.Spec.Rules {
		out.backends = append(out.backends, r.Spec.Rules[i].BackendRefs...)
	}
	return out
}

// attach finds the listeners that a route's parents mean. Routes are attached in the
// order of their age: a listener sends to the first.
func (p *Plan) attach(r *route) {
	attachedTo := make(map[*listener]bool)
	for i := range r.parents {
		ref := &r.parents[i]
		g := p.parent(r, ref)
		if g == nil {
			continue
		}
		r.verdicts = append(r.verdicts, p.attachTo(r, g, ref, attachedTo))
	}
}

// parent is the Gateway of ours that a reference names, nil when it names none.
func (p *Plan) parent(r *route, ref *gatewayv1.ParentReference) *gateway {
	if ref.Group != nil && *ref.Group != gatewayv1.GroupName || ref.Kind != nil && *ref.Kind != KindGateway {
		return nil
	}
	namespace := r.key.Namespace
	if ref.Namespace != nil {
		namespace = string(*ref.Namespace)
	}
	return p.gateways[kube.Key{Kind: kube.Gateway, Namespace: namespace, Name: string(ref.Name)}]
}

func (p *Plan) attachTo(r *route, g *gateway, ref *gatewayv1.ParentReference, attachedTo map[*listener]bool) parentVerdict {
	out := parentVerdict{ref: *ref}
	nsLabels, _ := p.in.Namespace(r.key.Namespace)
	var matching, allowing []string
	var behind []string
	for i := range g.listeners {
		l := &g.listeners[i]
		if !l.selected(ref) {
			continue
		}
		matching = append(matching, string(l.spec.Name))
		if !l.takes(r, g.key.Namespace, labels.Set(nsLabels)) {
			continue
		}
		allowing = append(allowing, string(l.spec.Name))
		if !attachedTo[l] {
			attachedTo[l] = true
			l.accepted++
			if l.carries == nil {
				l.carries = r
				g.carry(r, i)
			}
		}
		if l.carries != r {
			behind = append(behind, fmt.Sprintf("%s (%s)", l.spec.Name, l.carries.key))
		}
	}
	switch {
	case len(matching) == 0:
		out.verdict = verdict{string(gatewayv1.RouteReasonNoMatchingParent), fmt.Sprintf("Gateway %s/%s has no listener%s", g.key.Namespace, g.key.Name, wanted(ref))}
	case len(allowing) == 0:
		out.verdict = verdict{string(gatewayv1.RouteReasonNotAllowedByListeners), fmt.Sprintf("no %s in namespace %s is allowed by listener %s",
			r.key.Kind, r.key.Namespace, strings.Join(matching, ", "))}
	default:
		out.accepted = true
		out.verdict = verdict{string(gatewayv1.RouteReasonAccepted), "attached to listener " + strings.Join(allowing, ", ")}
		if len(behind) > 0 {
			out.Message += "; an older route has the traffic of listener " + strings.Join(behind, ", ")
		}
	}
	return out
}

// carry notes that a route's backends are what a listener sends to.
func (g *gateway) carry(r *route, listener int) {
	a := g.routes[r.key]
	if a == nil {
		a = &attached{route: r}
		g.routes[r.key] = a
	}
	a.listeners = append(a.listeners, listener)
	slices.Sort(a.listeners)
}

// wanted is what a parent reference asks of a listener, for messages.
func wanted(ref *gatewayv1.ParentReference) string {
	switch {
	case ref.SectionName != nil && *ref.SectionName != "" && ref.Port != nil:
		return fmt.Sprintf(" %s at port %d", *ref.SectionName, *ref.Port)
	case ref.SectionName != nil && *ref.SectionName != "":
		return " " + string(*ref.SectionName)
	case ref.Port != nil:
		return fmt.Sprintf(" at port %d", *ref.Port)
	}
	return ""
}
