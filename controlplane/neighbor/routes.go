package neighbor

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// routeShare bounds the time spent on looking routes up while they keep
// changing, as on a router with a full table: one part of so many.
const routeShare = 5

// target is an address whose way is wanted.
type target struct {
	addr    netip.Addr
	gateway bool     // a configured gateway, whose interface is known
	moved   bool     // to be looked up
	choices []choice // its ways
	hop     *hop     // the one in use; nil: there is no way
	// interim is the hop in use that the routes no longer lead to, until the
	// address of the one that they lead to is known, or that it does not answer.
	interim *hop
	outside int // with no hop: the index of the interface, none of ours, that the route leads out of
}

// addGateways makes targets of the configured gateways.
func (r *resolver) addGateways() {
	for i := range r.ports {
		if a := r.ports[i].gatewayKey(); a.IsValid() {
			r.targets[a] = &target{addr: a, gateway: true}
		}
	}
	r.assignGateways()
}

func (r *resolver) assignGateways() {
	for i := range r.ports {
		if a := r.ports[i].gatewayKey(); a.IsValid() {
			r.assign(r.targets[a], []way{{path{via: a.WithZone(""), weight: 1}, i}})
		}
	}
}

// setStatics changes the static next hops. Every way is found anew then, as
// any may lead by one of them.
func (r *resolver) setStatics(statics map[netip.Addr]static) {
	if maps.Equal(statics, r.statics) {
		return
	}
	r.statics = statics
	for _, t := range r.targets {
		r.leave(t)
		t.moved = !t.gateway
	}
	for key, h := range r.hops {
		if h.static {
			delete(r.hops, key)
		}
	}
	r.assignGateways()
	r.moved, r.dirty, r.routeDue = true, true, time.Time{}
}

// gatewayKey is the address that the interface's gateway is found by among the
// observations: an IPv6 link-local one is told apart by its zone.
func (p *port) gatewayKey() netip.Addr {
	if p.Gateway.Is6() && p.Gateway.IsLinkLocalUnicast() {
		return p.Gateway.WithZone(p.Interface.Name)
	}
	return p.Gateway
}

// retarget changes the set of targets.
func (r *resolver) retarget(addrs []netip.Addr) {
	wanted := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		if _, fixed := r.statics[a]; fixed || !a.IsValid() {
			continue
		}
		wanted[a] = true
		if r.targets[a] == nil {
			r.target(a)
		}
	}
	for a, t := range r.targets {
		if !wanted[a] && !t.gateway {
			r.leave(t)
			delete(r.targets, a)
			r.dirty = true
		}
	}
	r.order = slices.SortedFunc(maps.Values(r.targets), func(a, b *target) int { return a.addr.Compare(b.addr) })
}

// target makes an address one whose way is wanted.
func (r *resolver) target(a netip.Addr) *target {
	t := &target{addr: a, moved: true}
	r.targets[a] = t
	// What is asked for now does not wait for the next round.
	r.moved, r.dirty, r.routeDue = true, true, time.Time{}
	return t
}

// addTargets has the ways to more addresses watched.
func (r *resolver) addTargets(addrs []netip.Addr) {
	for _, a := range addrs {
		if _, fixed := r.statics[a]; fixed || !a.IsValid() || r.targets[a] != nil {
			continue
		}
		at, _ := slices.BinarySearchFunc(r.order, a, func(t *target, a netip.Addr) int { return t.addr.Compare(a) })
		r.order = slices.Insert(r.order, at, r.target(a))
	}
}

// markTargets marks the targets whose route may have changed.
func (r *resolver) markTargets(set *changeSet) {
	mark := func(targets []*target) {
		for _, t := range targets {
			if !t.gateway {
				t.moved, r.moved = true, true
			}
		}
	}
	if set.routes {
		mark(r.order)
		return
	}
	for _, p := range set.prefixes {
		first, _ := slices.BinarySearchFunc(r.order, p, func(t *target, p netip.Prefix) int {
			return t.addr.Compare(p.Addr())
		})
		last := first
		for last < len(r.order) && p.Contains(r.order[last].addr) {
			last++
		}
		mark(r.order[first:last])
	}
}

// route looks up the targets that are marked, unless that has been done too
// recently.
func (r *resolver) route(now time.Time) error {
	if !r.moved || now.Before(r.routeDue) {
		return nil
	}
	var moved []*target
	for _, t := range r.order {
		if t.moved {
			moved = append(moved, t)
		}
	}
	left, err := r.lookUp(moved)
	if err != nil {
		return err
	}
	if err := r.lookInside(left); err != nil {
		return err
	}
	r.warnOfOutsiders()
	for _, t := range moved {
		t.moved = false
	}
	r.moved = false
	end := time.Now()
	r.routeDue = end.Add((routeShare - 1) * end.Sub(now))
	return nil
}

// loopback is the number of the loopback interface in every network namespace.
const loopback = 1

// stray is a target that the kernel would not reach through any of our
// interfaces.
type stray struct {
	*target
	index int // of the interface it would use, 0 when there is no route
}

// lookUp asks the kernel for the way to each target, and returns those that it
// would not reach through any of our interfaces, though perhaps there is a way.
func (r *resolver) lookUp(targets []*target) (left []stray, err error) {
	put := func(i int, e *encoder) { putLookup(e, targets[i].addr, 0) }
	err = r.conn.batch(len(targets), put, func(i int, m *message) {
		t, answer := targets[i], parseRoute(m)
		switch ways := r.inside(&answer); {
		case len(ways) > 0:
			r.assign(t, ways)
		case errors.Is(answer.err, unix.ENETUNREACH):
			left = append(left, stray{t, 0})
		case len(answer.paths) == 0: // a route that forbids
			r.assignNone(t, 0)
		case answer.kind != unix.RTN_UNICAST: // one of the host's own addresses
			r.outside(t, loopback)
		default:
			left = append(left, stray{t, answer.paths[0].index})
		}
	})
	return left, err
}

// lookInside looks for another way for targets that the kernel would not reach
// through any of our interfaces: a route through one of them, in their order,
// or a configured gateway.
func (r *resolver) lookInside(targets []stray) error {
	for i := range r.ports {
		if r.ports[i].index == 0 || len(targets) == 0 {
			continue
		}
		var left []stray
		put := func(j int, e *encoder) { putLookup(e, targets[j].addr, r.ports[i].index) }
		err := r.conn.batch(len(targets), put, func(j int, m *message) {
			answer := parseRoute(m)
			if ways := r.inside(&answer); len(ways) > 0 {
				r.assign(targets[j].target, ways)
				return
			}
			left = append(left, targets[j])
		})
		if err != nil {
			return err
		}
		targets = left
	}
	for _, t := range targets {
		if at, ok := r.gatewayFor(t.addr); ok {
			r.assign(t.target, []way{{path{via: r.ports[at].Gateway, weight: 1}, at}})
			continue
		}
		r.outside(t.target, t.index)
	}
	return nil
}

// outside says that a target is reached through an interface that is none of
// ours, or, with index 0, not at all.
func (r *resolver) outside(t *target, index int) {
	if r.assignNone(t, index) && index != 0 {
		r.outsiders[index] = append(r.outsiders[index], t.addr)
	}
}

// warnOfOutsiders logs what is new among the targets that cannot be reached,
// in one line for each interface.
func (r *resolver) warnOfOutsiders() {
	for index, addrs := range r.outsiders {
		r.log.Warn("a target is behind an interface that is none of ours", "interface", r.links[index].name,
			"address", addrs[0], "more", len(addrs)-1)
	}
	clear(r.outsiders)
}

// inside are the paths of a route that lead out of our interfaces, by their
// gateways: those that carry something, or all when none does.
func (r *resolver) inside(a *route) (ways []way) {
	if a.kind != unix.RTN_UNICAST {
		return nil
	}
	down := true
	for _, p := range a.paths {
		for i := range r.ports {
			if p.index == r.ports[i].index {
				ways = append(ways, way{r.byGateway(p, i), i})
				down = down && p.down
				break
			}
		}
	}
	if !down {
		ways = slices.DeleteFunc(ways, func(w way) bool { return w.down })
	}
	return ways
}

// byGateway is a route's path out of one of our interfaces with the configured
// gateway in place of the route's.
func (r *resolver) byGateway(p path, at int) path {
	if g := r.ports[at].Gateway; g.IsValid() && p.via.IsValid() && g.Is4() == p.via.Is4() {
		p.via = g
	}
	return p
}

// gatewayFor is the first of our interfaces with a configured gateway of the
// address's family.
func (r *resolver) gatewayFor(a netip.Addr) (port int, ok bool) {
	for i := range r.ports {
		if g := r.ports[i].Gateway; g.IsValid() && g.Is4() == a.Is4() && r.ports[i].index != 0 {
			return i, true
		}
	}
	return 0, false
}
