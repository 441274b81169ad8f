package desired

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"fairlead/controlplane/model"
)

// live is what live sources want: sources such as a Kubernetes cluster, which have
// a record of their own, and change too often for versions to be made of it. Their
// groups are not part of versions: a rollback leaves them alone. What sources of
// versions declare comes first; a group is in force as far as that allows.
//
// It is never changed, nor are the groups in it.
type live struct {
	revision uint64
	groups   []*liveGroup        // in force; one that has changed in more than its backends is the last
	at       map[liveKey]int     // index in groups
	waiting  map[liveKey]waiting // that were refused, to be tried again
}

// liveKey is which group it is.
type liveKey struct{ source, name string }

type liveGroup struct {
	key liveKey
	*model.Group
}

// waiting is a group that cannot be in force.
type waiting struct {
	group *model.Group
	why   error
}

var noLive = &live{}

// GroupError says why a group cannot be in force.
type GroupError struct {
	Source, Group string
	Err           error
}

// Error names the group.
func (e *GroupError) Error() string {
	return fmt.Sprintf("%q of source %q: %v", e.Group, e.Source, e.Err)
}

// Unwrap gives the cause.
func (e *GroupError) Unwrap() error { return e.Err }

// total is what versions and live sources want together.
type total struct {
	state *model.State
	// From these indexes on, what a live group wants; and which one it is.
	services, pools, vips    int
	serviceOf, poolOf, vipOf []int
	poolAt                   map[string]int // by name, of all
	checker                  *model.PoolChecker
	backends                 int
}

// combine puts what versions declare and what groups want together. It does not
// look whether that is valid, but for VIPs that are listed twice: the first one
// who lists a VIP says how it is treated.
func combine(declared *model.State, groups []*liveGroup) (t *total, clashes map[int]error) {
	state := *declared
	t = &total{services: len(state.Services), pools: len(state.Pools), vips: len(state.VIPs)}
	services, pools := 0, 0
	for _, g := range groups {
		services, pools = services+len(g.Services), pools+len(g.Pools)
	}
	state.Services = append(make([]model.Service, 0, t.services+services), state.Services...)
	state.Pools = append(make([]model.Pool, 0, t.pools+pools), state.Pools...)
	state.VIPs = slices.Clone(state.VIPs)
	listed := make(map[netip.Addr]int, len(state.VIPs))
	for i := range state.VIPs {
		listed[state.VIPs[i].Address] = i
	}
	for i, g := range groups {
		for _, v := range g.VIPs {
			at, there := listed[v.Address]
			switch {
			case !there:
				listed[v.Address] = len(state.VIPs)
				state.VIPs, t.vipOf = append(state.VIPs, v), append(t.vipOf, i)
			case at >= t.vips && state.VIPs[at] != v:
				if clashes == nil {
					clashes = map[int]error{}
				}
				rival := groups[t.vipOf[at-t.vips]].Name
				clashes[i] = &model.ClashError{Rival: rival, Message: fmt.Sprintf("VIP %s is to be treated otherwise than %q wants", v.Address, rival)}
			}
		}
		for range g.Services {
			t.serviceOf = append(t.serviceOf, i)
		}
		for range g.Pools {
			t.poolOf = append(t.poolOf, i)
		}
		state.Services, state.Pools = append(state.Services, g.Services...), append(state.Pools, g.Pools...)
	}
	t.poolAt = make(map[string]int, len(state.Pools))
	for i := range state.Pools {
		t.poolAt[state.Pools[i].Name] = i
		t.backends += len(state.Pools[i].Backends)
	}
	t.state = &state
	return t, clashes
}

// blame finds the group that a finding is about, -1 when it is about what versions
// declare.
func (t *total) blame(e *model.Error) int {
	list, first := []int(nil), 0
	switch e.Kind {
	case model.KindService:
		list, first = t.serviceOf, t.services
	case model.KindPool:
		list, first = t.poolOf, t.pools
	case model.KindVIP:
		list, first = t.vipOf, t.vips
	}
	if at := e.Index - first; at >= 0 && at < len(list) {
		return list[at]
	}
	return -1
}

// findings are what is wrong with the state, by the group that is to blame. An
// error stands for what no group is to blame for.
func (t *total) findings(groups []*liveGroup) (map[int]error, error) {
	found := map[int]error{}
	own := ownAddresses(t, t.state)
	for i, g := range groups {
		for _, a := range addressesOf(g.Group) {
			if role, taken := own[a]; taken && found[i] == nil {
				found[i] = fmt.Errorf("VIP %s is also a %s", a, role)
			}
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	for _, err := range model.Validate(t.state) {
		e, ok := err.(*model.Error) // Validate promises no other
		if !ok {
			return nil, err
		}
		at := t.blame(e)
		if at < 0 {
			return nil, e
		}
		if found[at] != nil {
			continue
		}
		if found[at] = errors.New(e.Message); e.Rival != "" {
			found[at] = &model.ClashError{Rival: e.Rival, Message: e.Message}
		}
	}
	return found, nil
}

// ownAddresses are those that versions declare for something else than VIPs.
func ownAddresses(t *total, s *model.State) map[netip.Addr]string {
	own := map[netip.Addr]string{}
	for i := range s.SNATs {
		own[s.SNATs[i].Address] = "SNAT address of this node"
	}
	for _, a := range []netip.Addr{s.Tunnel.Source4, s.Tunnel.Source6} {
		if a.IsValid() {
			own[a] = "tunnel source of this node"
		}
	}
	for i := range s.Pools[:t.pools] {
		for j := range s.Pools[i].Backends {
			own[s.Pools[i].Backends[j].Address] = fmt.Sprintf("backend of pool %q", s.Pools[i].Name)
		}
	}
	return own
}

func addressesOf(g *model.Group) (list []netip.Addr) {
	for i := range g.VIPs {
		list = append(list, g.VIPs[i].Address)
	}
	for i := range g.Services {
		list = append(list, g.Services[i].VIP)
	}
	return list
}

// fit makes l what can be in force beside what versions declare: the groups in
// order, as many as possible, earlier ones first. Those of wanted that cannot be
// are replaced by what is in instead under their key, if that can be. What is
// refused waits.
func (l *live) fit(declared *model.State, groups []*liveGroup, instead map[liveKey]*model.Group) (*live, *total, error) {
	next := &live{revision: l.revision + 1, waiting: map[liveKey]waiting{}}
	for {
		t, refused := combine(declared, groups)
		if len(refused) == 0 {
			var err error
			if refused, err = t.findings(groups); err != nil {
				return nil, nil, err
			}
		}
		if len(refused) == 0 {
			next.groups, next.at = groups, make(map[liveKey]int, len(groups))
			for i, g := range groups {
				next.at[g.key] = i
			}
			t.checker = model.NewPoolChecker(t.state.WithDefaults())
			return next, t, nil
		}
		kept := make([]*liveGroup, 0, len(groups))
		var again []*liveGroup
		for i, g := range groups {
			why := refused[i]
			if why == nil {
				kept = append(kept, g)
				continue
			}
			if _, known := next.waiting[g.key]; !known {
				next.waiting[g.key] = waiting{g.Group, why}
			}
			if before := instead[g.key]; before != nil {
				again = append(again, &liveGroup{g.key, before})
				delete(instead, g.key)
			}
		}
		// What was in force goes before what is new, so that it can stay.
		groups = append(again, kept...)
	}
}

// alive is what live sources want, which may be nothing.
func (w *whole) alive() *live {
	if w == nil || w.live == nil {
		return noLive
	}
	return w.live
}

// wanted is what versions and live sources want together.
func (w *whole) wanted() *model.State {
	switch {
	case w == nil:
		return &model.State{}
	case w.total != nil:
		return w.total.state
	}
	return w.merged.state
}

// refit has live groups in force as far as what versions declare now allows. Unless
// that is meant, none goes for it that was in force.
func (w *whole) refit(meant bool) error {
	before := w.alive()
	if len(before.groups)+len(before.waiting) == 0 {
		w.total = nil
		return nil
	}
	next, t, err := before.with(w.merged.state, nil, "", nil)
	if err != nil {
		return err
	}
	if !meant {
		var gone DisplacedError
		for _, g := range before.groups {
			if _, stays := next.at[g.key]; !stays {
				gone.Groups = append(gone.Groups, GroupError{g.key.source, g.key.name, next.waiting[g.key].why})
			}
		}
		if len(gone.Groups) > 0 {
			return &gone
		}
	}
	w.live, w.total = next, t
	return nil
}

// DisplacedError says that a change leaves no room for groups of live sources that
// are in force.
type DisplacedError struct{ Groups []GroupError }

// Error names the first ones.
func (e *DisplacedError) Error() string {
	lines := make([]string, 0, len(e.Groups))
	for i := range e.Groups[:min(len(e.Groups), namesShown)] {
		lines = append(lines, e.Groups[i].Error())
	}
	text := "this takes out of force " + strings.Join(lines, "; ")
	if more := len(e.Groups) - namesShown; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text + "; use --force if it is meant"
}

// all are the groups in force, and those that wait, which are tried again.
func (l *live) all() []*liveGroup {
	groups := slices.Clone(l.groups)
	for _, key := range slices.SortedFunc(maps.Keys(l.waiting), compareLiveKeys) {
		if _, inForce := l.at[key]; !inForce {
			groups = append(groups, &liveGroup{key, l.waiting[key].group})
		}
	}
	return groups
}
