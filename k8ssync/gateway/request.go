package gateway

import (
	"slices"

	"fairlead/k8ssync/kube"
)

// Requests are what accepted Gateways ask of the allocation of addresses, sorted by
// key. What a Gateway that is not accepted holds stays its own: it asks for that and
// for nothing else.
func (p *Plan) Requests() []Request {
	var out []Request
	for _, key := range p.order {
		if r, ok := p.Request(key); ok {
			out = append(out, r)
		}
	}
	return out
}

// Request is what one Gateway asks; ok is false when it asks for nothing.
func (p *Plan) Request(key kube.Key) (r Request, ok bool) {
	g := p.gateways[key]
	if g == nil || g.object.DeletionTimestamp != nil {
		return Request{}, false
	}
	r = Request{Key: key, Options: g.options, Labels: labelsOf(g.object)}
	for _, a := range recorded(g.object) {
		r.Held = append(r.Held, a.String())
	}
	if g.refusal.Reason != "" || g.surplus() != "" {
		r.Options.Addresses = nil
		return r, len(r.Held) > 0
	}
	r.Any = len(r.Options.Addresses) == 0
	for i := range g.listeners {
		if l := &g.listeners[i]; l.valid() {
			r.Ports = append(r.Ports, Port{l.protocol, uint16(l.spec.Port)})
		}
	}
	slices.SortFunc(r.Ports, func(a, b Port) int {
		if a.Protocol != b.Protocol {
			if a.Protocol < b.Protocol {
				return -1
			}
			return 1
		}
		return int(a.Port) - int(b.Port)
	})
	return r, true
}
