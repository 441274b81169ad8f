package gateway

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead/k8ssync/kube"
)

// set puts a condition among others, which stay as they are.
func set[T ~string](conditions *[]metav1.Condition, now metav1.Time, generation int64, kind T, status metav1.ConditionStatus, v verdict) {
	meta.SetStatusCondition(conditions, metav1.Condition{
		Type: string(kind), Status: status, Reason: v.Reason, Message: clip(v.Message),
		ObservedGeneration: generation, LastTransitionTime: now,
	})
}

// clip keeps a message within what a condition takes.
func clip(message string) string {
	const most, more = 32768, " ..."
	if len(message) <= most {
		return message
	}
	return strings.ToValidUTF8(message[:most-len(more)], "") + more
}

func truth(b bool) metav1.ConditionStatus {
	if b {
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}

// ClassStatus is the status that a GatewayClass of ours is to have; ok is false for
// one that is not ours.
func (p *Plan) ClassStatus(name string, m Moment) (status gatewayv1.GatewayClassStatus, ok bool) {
	c := p.classes[name]
	if c == nil {
		return status, false
	}
	c.Status.DeepCopyInto(&status)
	v := classVerdict(c, p.in.Bundle)
	set(&status.Conditions, m.Now, c.Generation, gatewayv1.GatewayClassConditionStatusAccepted, truth(v.Reason == string(gatewayv1.GatewayClassReasonAccepted)), v)
	supported, version := versionVerdict(p.in.Bundle)
	set(&status.Conditions, m.Now, c.Generation, gatewayv1.GatewayClassConditionStatusSupportedVersion, truth(supported), version)
	status.SupportedFeatures = supportedFeatures(p.in.Served)
	return status, true
}

// GatewayStatus is the status that a Gateway of ours is to have, save for its
// addresses, which stay as they are; ok is false for one that is not ours.
func (p *Plan) GatewayStatus(key kube.Key, m Moment) (status gatewayv1.GatewayStatus, ok bool) {
	g := p.gateways[key]
	if g == nil {
		return status, false
	}
	g.object.Status.DeepCopyInto(&status)
	generation := g.object.Generation

	accepted, v := g.refusal.Reason == "", g.refusal
	var bad, unresolved []string
	for i := range g.listeners {
		l := &g.listeners[i]
		if !l.valid() {
			bad = append(bad, fmt.Sprintf("%s (%s)", l.spec.Name, l.refusal.Message))
		}
		if len(l.badKinds) > 0 {
			unresolved = append(unresolved, string(l.spec.Name))
		}
	}
	switch {
	case accepted && len(bad) > 0:
		v = verdict{string(gatewayv1.GatewayReasonListenersNotValid), "served without listener " + strings.Join(bad, "; ")}
	case accepted:
		v = verdict{string(gatewayv1.GatewayReasonAccepted), "all listeners are valid"}
	}
	set(&status.Conditions, m.Now, generation, gatewayv1.GatewayConditionAccepted, truth(accepted), v)

	programmed, force := g.programmed(m)
	set(&status.Conditions, m.Now, generation, gatewayv1.GatewayConditionProgrammed, truth(programmed), force)

	v = verdict{string(gatewayv1.GatewayReasonResolvedRefs), "all references are resolved"}
	if len(unresolved) > 0 {
		v = verdict{string(gatewayv1.GatewayReasonListenersNotResolved), "listener " + strings.Join(unresolved, ", ") + " allows kinds of routes that it cannot take"}
	}
	set(&status.Conditions, m.Now, generation, gatewayv1.GatewayConditionResolvedRefs, truth(len(unresolved) == 0), v)

	status.Listeners = nil
	for i := range g.listeners {
		status.Listeners = append(status.Listeners, g.listenerStatus(i, programmed, force, m))
	}
	return status, true
}

// programmed says whether a Gateway is in force.
func (g *gateway) programmed(m Moment) (bool, verdict) {
	vips := recorded(g.object)
	var why Addressing
	if m.Addressing != nil {
		why = m.Addressing(g.key)
	}
	switch {
	case g.refusal.Reason != "":
		return false, verdict{string(gatewayv1.GatewayReasonInvalid), "the Gateway is not accepted: " + g.refusal.Message}
	case g.surplus() != "":
		return false, verdict{string(gatewayv1.GatewayReasonAddressNotUsable), "more than one " + g.surplus() + " address is asked for; a Gateway has at most one of each family"}
	case why.Reason != "":
		return false, verdict(why)
	case len(vips) == 0:
		return false, verdict{string(gatewayv1.GatewayReasonAddressNotAssigned), "no address has been assigned yet"}
	}
	progress := Progress{}
	if m.Progress != nil {
		progress = m.Progress(g.key)
	}
	before := meta.FindStatusCondition(g.object.Status.Conditions, string(gatewayv1.GatewayConditionProgrammed))
	switch {
	case progress.Of == 0:
		return true, verdict{string(gatewayv1.GatewayReasonProgrammed), "addresses are assigned"}
	case progress.Nodes < progress.Of && !progress.Settled && before != nil && before.Status == metav1.ConditionTrue && before.ObservedGeneration == g.object.Generation:
		return true, verdict{before.Reason, before.Message}
	case progress.Nodes < progress.Of:
		message := fmt.Sprintf("in force on %d of %d nodes", progress.Nodes, progress.Of)
		if len(progress.Why) > 0 {
			message += ": " + strings.Join(progress.Why, "; ")
		}
		return false, verdict{string(gatewayv1.GatewayReasonPending), message}
	}
	return true, verdict{string(gatewayv1.GatewayReasonProgrammed), fmt.Sprintf("in force on %d of %d nodes", progress.Nodes, progress.Of)}
}

func (g *gateway) listenerStatus(index int, programmed bool, force verdict, m Moment) gatewayv1.ListenerStatus {
	l, generation := &g.listeners[index], g.object.Generation
	out := gatewayv1.ListenerStatus{Name: l.spec.Name, AttachedRoutes: int32(l.accepted), SupportedKinds: []gatewayv1.RouteGroupKind{}}
	if i := slices.IndexFunc(g.object.Status.Listeners, func(s gatewayv1.ListenerStatus) bool { return s.Name == l.spec.Name }); i >= 0 {
		out.Conditions = slices.Clone(g.object.Status.Listeners[i].Conditions)
	}
	group := gatewayv1.Group(gatewayv1.GroupName)
	for _, kind := range l.kinds {
		out.SupportedKinds = append(out.SupportedKinds, gatewayv1.RouteGroupKind{Group: &group, Kind: kind})
	}

	v := l.refusal
	if l.valid() {
		v = verdict{string(gatewayv1.ListenerReasonAccepted), "the listener is valid"}
	}
	set(&out.Conditions, m.Now, generation, gatewayv1.ListenerConditionAccepted, truth(l.valid()), v)

	v = verdict{string(gatewayv1.ListenerReasonNoConflicts), "no other listener has its port"}
	if l.conflict != "" {
		v = verdict{string(gatewayv1.ListenerReasonProtocolConflict), l.conflict}
	}
	set(&out.Conditions, m.Now, generation, gatewayv1.ListenerConditionConflicted, truth(l.conflict != ""), v)

	v = verdict{string(gatewayv1.ListenerReasonResolvedRefs), "all kinds of routes that it allows are supported"}
	if len(l.badKinds) > 0 {
		v = verdict{string(gatewayv1.ListenerReasonInvalidRouteKinds), fmt.Sprintf("allowedRoutes.kinds: a listener of protocol %s takes no %s", l.spec.Protocol, strings.Join(l.badKinds, ", no "))}
	}
	set(&out.Conditions, m.Now, generation, gatewayv1.ListenerConditionResolvedRefs, truth(len(l.badKinds) == 0), v)

	ok := false
	switch {
	case !l.valid():
		v = verdict{string(gatewayv1.ListenerReasonInvalid), l.refusal.Message}
	case len(l.kinds) == 0:
		v = verdict{string(gatewayv1.ListenerReasonInvalid), "no kind of route can attach"}
	case g.refusal.Reason != "":
		v = verdict{string(gatewayv1.ListenerReasonInvalid), "the Gateway is not accepted: " + g.refusal.Message}
	case !programmed:
		v = verdict{string(gatewayv1.ListenerReasonPending), force.Message}
	default:
		ok, v = true, verdict{string(gatewayv1.ListenerReasonProgrammed), force.Message}
		if l.carries == nil {
			v.Message = "no route is attached: packets to it are dropped"
		}
	}
	set(&out.Conditions, m.Now, generation, gatewayv1.ListenerConditionProgrammed, truth(ok), v)
	return out
}

// RouteStatus is the status that a route is to have. What other controllers say of
// its parents stays; what we said of parents that are none of ours any more goes.
func (p *Plan) RouteStatus(key RouteKey, m Moment) (status gatewayv1.RouteStatus, ok bool) {
	r := p.routes[key]
	if r == nil {
		return status, false
	}
	var ours []gatewayv1.RouteParentStatus
	status.Parents = []gatewayv1.RouteParentStatus{}
	for _, s := range r.status.Parents {
		if s.ControllerName == ControllerName {
			ours = append(ours, s)
		} else {
			status.Parents = append(status.Parents, *s.DeepCopy())
		}
	}
	resolved, resolution := r.resolved()
	for _, v := range r.verdicts {
		out := gatewayv1.RouteParentStatus{ParentRef: *v.ref.DeepCopy(), ControllerName: ControllerName}
		for i := range ours {
			if sameParent(&ours[i].ParentRef, &v.ref) {
				out.Conditions = slices.Clone(ours[i].Conditions)
				break
			}
		}
		set(&out.Conditions, m.Now, r.meta.Generation, gatewayv1.RouteConditionAccepted, truth(v.accepted), v.verdict)
		set(&out.Conditions, m.Now, r.meta.Generation, gatewayv1.RouteConditionResolvedRefs, truth(resolved), resolution)
		status.Parents = append(status.Parents, out)
	}
	return status, true
}

// sameParent reports whether two references say the same.
func sameParent(a, b *gatewayv1.ParentReference) bool {
	return equal(a.Group, b.Group) && equal(a.Kind, b.Kind) && equal(a.Namespace, b.Namespace) && a.Name == b.Name &&
		equal(a.SectionName, b.SectionName) && equal(a.Port, b.Port)
}

func equal[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
