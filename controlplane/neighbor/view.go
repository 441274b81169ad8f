package neighbor

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"fairlead/controlplane/model"
)

// news is the present view if it is to be told of, nil otherwise.
func (r *resolver) news(now time.Time) *model.Observations {
	if r.last == nil && !r.complete() && now.Before(r.settled) {
		return nil
	}
	if r.last != nil && !r.dirty {
		return nil
	}
	view := r.view()
	r.dirty = false
	if r.last != nil && slices.Equal(view.Interfaces, r.last.Interfaces) && maps.Equal(view.NextHops, r.last.NextHops) {
		return nil
	}
	r.last = view
	return view
}

// complete reports whether every target that has a way has a MAC address, or
// is known not to answer.
func (r *resolver) complete() bool {
	for h := range r.waiting {
		if !h.resolved && !h.lost {
			return false
		}
	}
	return !r.moved && len(r.unread) == 0
}

// view is what is known now.
func (r *resolver) view() *model.Observations {
	o := &model.Observations{NextHops: make(map[netip.Addr]model.NextHop, len(r.targets)+len(r.statics))}
	for i := range r.ports {
		o.Interfaces = append(o.Interfaces, r.ports[i].observed())
	}
	for a, s := range r.statics {
		o.NextHops[a] = model.NextHop{Interface: r.ports[s.port].Interface.Name, MAC: s.mac, Resolved: true}
	}
	for a, t := range r.targets {
		switch {
		case t.hop != nil:
			o.NextHops[a] = model.NextHop{Interface: r.ports[t.hop.port].Interface.Name, MAC: t.hop.mac, Resolved: t.hop.resolved}
		case t.outside != 0:
			o.NextHops[a] = model.NextHop{Interface: r.links[t.outside].name}
		}
	}
	return o
}

// observed is the interface as it is seen, and as it is configured where that
// stands in front.
func (p *port) observed() model.Interface {
	out := model.Interface{Name: p.Interface.Name, Index: p.index, MAC: p.link.mac, MTU: p.link.mtu, Gateway: p.gatewayKey()}
	if p.Interface.MAC != [6]byte{} {
		out.MAC = p.Interface.MAC
	}
	if p.Interface.MTU != 0 {
		out.MTU = p.Interface.MTU
		if p.link.mtu != 0 {
			out.MTU = min(out.MTU, p.link.mtu)
		}
	}
	return out
}
