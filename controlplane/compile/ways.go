package compile

import (
	"fmt"
	"maps"
	"net/netip"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
)

// ways knows how frames reach an address: what is observed, and what has
// changed since. Any number of goroutines may ask.
type ways struct {
	ports      map[string]uint16 // by interface name: index in interfaces
	interfaces []fib.Interface
	observed   map[netip.Addr]model.NextHop
	changed    map[netip.Addr]changedWay // what stands in front of observed
}

// changedWay is a way that was observed later.
type changedWay struct {
	model.NextHop
	lost bool // there is none any more
}

func (w *ways) observedWay(a netip.Addr) (model.NextHop, bool) {
	if len(w.changed) > 0 {
		if c, ok := w.changed[a]; ok {
			return c.NextHop, !c.lost
		}
	}
	way, ok := w.observed[a]
	return way, ok
}

// merged is everything observed, in a map of its own when something changed.
func (w *ways) merged() map[netip.Addr]model.NextHop {
	if len(w.changed) == 0 {
		return w.observed
	}
	out := maps.Clone(w.observed)
	if out == nil {
		out = make(map[netip.Addr]model.NextHop)
	}
	for a, c := range w.changed {
		if c.lost {
			delete(out, a)
		} else {
			out[a] = c.NextHop
		}
	}
	return out
}

// nextHop is the way to an address as a record, and what keeps packets from
// going it, "" when nothing does.
func (w *ways) nextHop(a netip.Addr) (hop fib.NextHop, exists bool, problem string) {
	way, ok := w.observedWay(a)
	if !ok {
		return fib.NextHop{}, false, "has no route"
	}
	port, ok := w.ports[way.Interface]
	if !ok {
		return fib.NextHop{}, false, fmt.Sprintf("is behind %s, which is none of the node's interfaces", way.Interface)
	}
	in := &w.interfaces[port]
	hop = fib.NextHop{SrcMAC: in.MAC, Port: port, MTU: in.MTU}
	if way.Resolved {
		hop.DstMAC, hop.Resolved = way.MAC, 1
	} else {
		problem = "has no known MAC address"
	}
	return hop, true, problem
}

// interner gives equal next hops one record.
type interner struct {
	index  map[fib.NextHop]uint32
	last   fib.NextHop // of at; most backends are reached as the one before
	at     uint32
	filled bool
}

// intern is the index of a next hop in the builder.
func (n *interner) intern(out *fib.Builder, hop *fib.NextHop) uint32 {
	if n.filled && n.last == *hop {
		return n.at
	}
	at, ok := n.index[*hop]
	if !ok {
		at = uint32(len(out.NextHops))
		out.NextHops = append(out.NextHops, *hop)
		if n.index == nil {
			n.index = make(map[fib.NextHop]uint32)
		}
		n.index[*hop] = at
	}
	n.last, n.at, n.filled = *hop, at, true
	return at
}
