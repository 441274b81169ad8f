package gateway

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
)

// Requests are what Gateways ask of the allocation of addresses, sorted by key.
func (p *Plan) Requests() []Request {
	var out []Request
	for _, key := range p.order {
		if r, ok := p.Request(key); ok {
			out = append(out, r)
		}
	}
	return out
}

// Request is what one Gateway asks; ok is false when it asks for nothing and has
// nothing. One that is not accepted, or that is being deleted, asks to keep what it
// has.
func (p *Plan) Request(key kube.Key) (r Request, ok bool) {
	g := p.gateways[key]
	if g == nil {
		return Request{}, false
	}
	r = Request{Key: key, UID: g.object.UID, Options: g.options, Labels: labelsOf(g.object), Held: recorded(g.object)}
	if g.refusal.Reason != "" || g.surplus() != "" || g.object.DeletionTimestamp != nil {
		r.Options.Addresses, r.Options.Hold = nil, true
		for _, a := range r.Held {
			r.Families = append(r.Families, familyOf(a.Is4()))
		}
		return r, len(r.Held) > 0
	}
	r.Families = p.families(g)
	r.Required = len(g.object.Spec.Addresses) > 0
	for i := range g.listeners {
		l := &g.listeners[i]
		if !l.valid() {
			continue
		}
		protocol := corev1.ProtocolTCP
		if l.protocol == model.UDP {
			protocol = corev1.ProtocolUDP
		}
		r.Ports = append(r.Ports, corev1.ServicePort{Name: string(l.spec.Name), Protocol: protocol, Port: l.spec.Port})
	}
	slices.SortFunc(r.Ports, func(a, b corev1.ServicePort) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	return r, true
}

func familyOf(v4 bool) corev1.IPFamily {
	if v4 {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// families are those of the addresses that are asked for. Each entry of
// spec.addresses without a value asks for one of a family that none is asked of yet,
// beginning with the cluster's first one; that is also what a Gateway gets that asks
// for nothing.
func (p *Plan) families(g *gateway) []corev1.IPFamily {
	var out []corev1.IPFamily
	for _, a := range g.options.Addresses {
		if f := familyOf(a.Is4()); !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	open := 0
	for _, a := range g.object.Spec.Addresses {
		if a.Value == "" {
			open++
		}
	}
	if len(out) == 0 {
		open = max(open, 1)
	}
	first := p.firstFamily()
	for _, f := range []corev1.IPFamily{first, familyOf(first == corev1.IPv6Protocol)} {
		if open > 0 && !slices.Contains(out, f) {
			out = append(out, f)
			open--
		}
	}
	return out
}

// firstFamily is the cluster's: that of the Service of its own API server.
func (p *Plan) firstFamily() corev1.IPFamily {
	svc := p.in.Service(types.NamespacedName{Namespace: corev1.NamespaceDefault, Name: "kubernetes"})
	if svc != nil && len(svc.Spec.IPFamilies) > 0 {
		return svc.Spec.IPFamilies[0]
	}
	return corev1.IPv4Protocol
}
