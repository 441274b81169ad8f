package gateway

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// ref is a backendRef that names a port of a Service.
type ref struct {
	name    types.NamespacedName
	service *corev1.Service
	port    corev1.ServicePort
	weight  int64
}

// lostRef is a backendRef that cannot be followed. What is due to it is refused.
type lostRef struct {
	weight int64
	verdict
}

// resolveRefs follows the backendRefs of a route.
func (p *Plan) resolveRefs(r *route, grants grants) {
	for i := range r.backends {
		b := &r.backends[i]
		weight := int64(1)
		if b.Weight != nil {
			weight = max(0, int64(*b.Weight))
		}
		out, why := p.follow(r, i, b, grants)
		if why.Reason != "" {
			r.lost = append(r.lost, lostRef{weight, why})
			continue
		}
		out.weight = weight
		r.refs = append(r.refs, out)
	}
}

func (p *Plan) follow(r *route, index int, b *gatewayv1.BackendRef, grants grants) (ref, verdict) {
	bad := func(reason gatewayv1.RouteConditionReason, format string, args ...any) (ref, verdict) {
		return ref{}, verdict{string(reason), fmt.Sprintf("backendRefs[%d]: ", index) + fmt.Sprintf(format, args...)}
	}
	group, kind := gatewayv1.Group(""), gatewayv1.Kind("Service")
	if b.Group != nil {
		group = *b.Group
	}
	if b.Kind != nil {
		kind = *b.Kind
	}
	if group != "" || kind != "Service" {
		return bad(gatewayv1.RouteReasonInvalidKind, "kind %s is not supported; Service is", kindName(group, kind))
	}
	name := types.NamespacedName{Namespace: r.key.Namespace, Name: string(b.Name)}
	if b.Namespace != nil {
		name.Namespace = string(*b.Namespace)
	}
	if name.Namespace != r.key.Namespace && !grants.allow(r.key, name) {
		// Whether there is such a Service is not for everybody to know.
		return bad(gatewayv1.RouteReasonRefNotPermitted, "no ReferenceGrant in namespace %s lets a %s of namespace %s refer to Service %s",
			name.Namespace, r.key.Kind, r.key.Namespace, name.Name)
	}
	svc := p.in.Service(name)
	if svc == nil {
		return bad(gatewayv1.RouteReasonBackendNotFound, "there is no Service %s", name)
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return bad(gatewayv1.RouteReasonInvalidKind, "Service %s is of type ExternalName, which is not supported", name)
	}
	if b.Port == nil {
		return bad(gatewayv1.RouteReasonBackendNotFound, "the port of Service %s is missing", name)
	}
	other := ""
	for _, port := range svc.Spec.Ports {
		protocol := port.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		switch {
		case port.Port == *b.Port && protocol == r.protocol:
			return ref{name: name, service: svc, port: port}, verdict{}
		case port.Port == *b.Port:
			other = string(protocol)
		}
	}
	if other != "" {
		return bad(gatewayv1.RouteReasonUnsupportedProtocol, "port %d of Service %s is of protocol %s, the route is of %s", *b.Port, name, other, r.protocol)
	}
	return bad(gatewayv1.RouteReasonBackendNotFound, "Service %s has no port %d", name, *b.Port)
}

// resolved is what the condition ResolvedRefs of a route says.
func (r *route) resolved() (ok bool, v verdict) {
	if len(r.lost) == 0 {
		return true, verdict{string(gatewayv1.RouteReasonResolvedRefs), "all backendRefs are resolved"}
	}
	v = verdict{Reason: r.lost[0].Reason}
	for i, l := range r.lost {
		if i > 0 {
			v.Message += "; "
		}
		v.Message += l.Message
	}
	return false, v
}

// grants are the ReferenceGrants that let routes refer to Services, by the namespace
// of the Services.
type grants map[string][]grant

type grant struct {
	kind      gatewayv1.Kind // of the route
	namespace string         // of the route
	service   string         // "": all of the namespace
}

func newGrants(objects []*gatewayv1.ReferenceGrant) grants {
	out := make(grants)
	for _, o := range objects {
		for _, from := range o.Spec.From {
			if from.Group != gatewayv1.GroupName || from.Kind != KindTCPRoute && from.Kind != KindUDPRoute {
				continue
			}
			for _, to := range o.Spec.To {
				if to.Group != "" || to.Kind != "Service" {
					continue
				}
				g := grant{kind: from.Kind, namespace: string(from.Namespace)}
				if to.Name != nil {
					g.service = string(*to.Name)
				}
				out[o.Namespace] = append(out[o.Namespace], g)
			}
		}
	}
	return out
}

func (g grants) allow(r RouteKey, service types.NamespacedName) bool {
	for _, grant := range g[service.Namespace] {
		if grant.kind == r.Kind && grant.namespace == r.Namespace && (grant.service == "" || grant.service == service.Name) {
			return true
		}
	}
	return false
}
