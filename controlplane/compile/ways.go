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

	index    *wayIndex // of observed, nil when there is none; then nothing is changed
	resolved []wayTo   // by index.distinct
}

// wayTo is a way as a record.
type wayTo struct {
	hop     fib.NextHop
	exists  bool
	problem string // what keeps packets from going it, "" when nothing does
}

// use has the index asked from now on. The interfaces are known.
func (w *ways) use(x *wayIndex) {
	w.index = x
	w.resolved = make([]wayTo, len(x.distinct))
	for i := range x.distinct {
		w.resolved[i] = w.resolve(&x.distinct[i])
	}
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

// nextHop is the way to an address.
func (w *ways) nextHop(a netip.Addr) wayTo {
	if w.index != nil {
		if i, ok := w.index.find(addr(a)); ok {
			return w.resolved[i]
		}
		return wayTo{problem: noRoute}
	}
	if way, ok := w.observedWay(a); ok {
		return w.resolve(&way)
	}
	return wayTo{problem: noRoute}
}

const noRoute = "has no route"

func (w *ways) resolve(way *model.NextHop) wayTo {
	port, ok := w.ports[way.Interface]
	if !ok {
		return wayTo{problem: fmt.Sprintf("is behind %s, which is none of the node's interfaces", way.Interface)}
	}
	in := &w.interfaces[port]
	to := wayTo{hop: fib.NextHop{SrcMAC: in.MAC, Port: port, MTU: in.MTU}, exists: true}
	if way.Resolved {
		to.hop.DstMAC, to.hop.Resolved = way.MAC, 1
	} else {
		to.problem = "has no known MAC address"
	}
	return to
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
