package gateway

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/allocate"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/ledger"
)

// Requests are what Gateways ask of the allocation of addresses, sorted by key.
func (p *Plan) Requests() []allocate.Request {
	var out []allocate.Request
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
func (p *Plan) Request(key kube.Key) (r allocate.Request, ok bool) {
	g := p.gateways[key]
	if g == nil {
		return r, false
	}
	namespace, _ := p.in.Namespace(key.Namespace)
	r = allocate.Request{
		Key: key, UID: string(g.object.UID), Options: g.options, Labels: labelsOf(g.object), NamespaceLabels: namespace,
		Held: recorded(g.object), Created: g.object.CreationTimestamp.Time,
	}
	if g.refusal.Reason != "" || g.surplus() != "" || g.object.DeletionTimestamp != nil {
		r.Options.Addresses, r.Options.Hold = nil, true
		for _, a := range r.Held {
			r.Families = append(r.Families, ledgerFamily(familyOf(a.Is4())))
		}
		return r, len(r.Held) > 0
	}
	families := p.families(g)
	if r.One = len(families) == 0; r.One {
		first := p.firstFamily()
		families = []corev1.IPFamily{first, familyOf(first == corev1.IPv6Protocol)}
	}
	for _, f := range families {
		r.Families = append(r.Families, ledgerFamily(f))
	}
	r.Required = !r.One
	for i := range g.listeners {
		l := &g.listeners[i]
		if !l.valid() {
			continue
		}
		protocol := corev1.ProtocolTCP
		if l.protocol == model.UDP {
			protocol = corev1.ProtocolUDP
		}
		r.Ports = append(r.Ports, ledger.Port{Protocol: string(protocol), Port: uint16(l.spec.Port)})
	}
	slices.SortFunc(r.Ports, func(a, b ledger.Port) int {
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

func ledgerFamily(f corev1.IPFamily) ledger.Family {
	if f == corev1.IPv6Protocol {
		return ledger.IPv6
	}
	return ledger.IPv4
}

// families are those of the addresses that are asked for; none: any will do. Each
// entry of spec.addresses without a value asks for an address of a family that none
// is asked of yet, beginning with the cluster's first one.
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
	if len(out) == 0 && open == 1 {
		return nil
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
