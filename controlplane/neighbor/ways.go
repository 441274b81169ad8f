package neighbor

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Hop is a neighbour that targets are reached by, as it is now.
type Hop struct {
	Interface string
	Address   netip.Addr // the gateway's, or the target's own
	MAC       [6]byte    // in use; zero when none is known
	Resolved  bool
	// State is the kernel's word for its entry: reachable, stale, delay, probe,
	// incomplete, failed, permanent, noarp, none; static for one that is
	// configured.
	State string
	Lost  bool // it does not answer; a MAC address that is known stays in use
	Since time.Time
	// Weight is against the other hops of the target; 0 when the routes no longer
	// lead there, and it is used until the address of the right hop is known.
	Weight int
}

// Way is how one target is reached.
type Way struct {
	Target netip.Addr
	// Hops are those that the routes give, the one in use first. There are none
	// when there is no way.
	Hops []Hop
	// Outside is the interface, none of ours, that the kernel would use.
	Outside string
	Gateway bool // the target is the configured gateway of an interface
}

// errEnded is the answer to questions after the watcher's end.
var errEnded = errors.New("the watcher of routes and neighbours has ended")

// Ways tells how all targets and static next hops are reached, in the order of
// their addresses.
func (w *Watcher) Ways(ctx context.Context) ([]Way, error) {
	answer := make(chan []Way, 1)
	w.changes.note(func(s *changeSet) {
		if w.changes.ended {
			close(answer)
			return
		}
		s.asked = append(s.asked, answer)
	})
	select {
	case ways, ok := <-answer:
		if !ok {
			return nil, errEnded
		}
		return ways, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// answer tells all who have asked.
func (r *resolver) answer(asked []chan<- []Way) {
	if len(asked) == 0 {
		return
	}
	ways := r.ways()
	for _, answer := range asked {
		answer <- slices.Clone(ways)
	}
}

func (r *resolver) ways() []Way {
	list := make([]Way, 0, len(r.targets)+len(r.statics))
	for a, s := range r.statics {
		list = append(list, Way{Target: a, Hops: []Hop{{Interface: r.ports[s.port].Interface.Name, Address: a, MAC: s.mac, Resolved: true, State: "static", Weight: 1}}})
	}
	for _, t := range r.targets {
		w := Way{Target: t.addr, Gateway: t.gateway}
		if t.hop == nil && t.outside != 0 {
			w.Outside = r.links[t.outside].name
		}
		hops := t.choices
		if t.interim != nil {
			hops = append([]choice{{hop: t.interim}}, hops...)
		}
		for _, c := range hops {
			one := Hop{Interface: r.ports[c.port].Interface.Name, Address: c.addr, MAC: c.mac, Resolved: c.resolved,
				State: stateName(c.hop), Lost: c.lost, Since: c.since, Weight: c.weight}
			if c.hop == t.hop {
				w.Hops = slices.Insert(w.Hops, 0, one)
			} else {
				w.Hops = append(w.Hops, one)
			}
		}
		list = append(list, w)
	}
	slices.SortFunc(list, func(a, b Way) int { return a.Target.Compare(b.Target) })
	return list
}

// stateName is the kernel's word for the state of a hop's entry.
func stateName(h *hop) string {
	switch s := h.entry.state; {
	case h.static:
		return "static"
	case s&unix.NUD_PERMANENT != 0:
		return "permanent"
	case s&unix.NUD_NOARP != 0:
		return "noarp"
	case s&unix.NUD_REACHABLE != 0:
		return "reachable"
	case s&unix.NUD_STALE != 0:
		return "stale"
	case s&unix.NUD_DELAY != 0:
		return "delay"
	case s&unix.NUD_PROBE != 0:
		return "probe"
	case s&unix.NUD_FAILED != 0:
		return "failed"
	case s&unix.NUD_INCOMPLETE != 0:
		return "incomplete"
	}
	return "none"
}
