package desired

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"fairlead/controlplane/model"
)

func compareLiveKeys(a, b liveKey) int {
	return cmp.Or(cmp.Compare(a.source, b.source), cmp.Compare(a.name, b.name))
}

// LiveSource is how one live source says what it wants.
type LiveSource struct {
	store *Store
	name  string
}

// Live is the way of a live source into the store. It must be one of
// Config.Live.
func (s *Store) Live(source string) *LiveSource { return &LiveSource{s, source} }

// errNotYet says that changes do not go through yet.
var errNotYet = errors.New("the node does not take changes yet")

// Replace makes groups all that the source wants. Those that cannot be in force
// are refused, by name; an earlier group of the same name stays then, if it can.
// With an error nothing has changed.
func (l *LiveSource) Replace(groups []model.Group) (refused map[string]error, err error) {
	s := l.store
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := make(map[string]bool, len(groups))
	for i := range groups {
		wanted[groups[i].Name] = true
	}
	var remove []string
	if s.current != nil {
		for _, key := range s.current.alive().keys() {
			if key.source == l.name && !wanted[key.name] {
				remove = append(remove, key.name)
			}
		}
	}
	return l.change(groups, remove)
}

// Change sets some groups and removes others; the rest stays. Groups that were
// refused are tried again with every change of more than backends. With an error
// nothing has changed.
func (l *LiveSource) Change(set []model.Group, remove []string) (refused map[string]error, err error) {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	return l.change(set, remove)
}

// Refused are the groups of the source that are not in force as it wants them,
// and why.
func (l *LiveSource) Refused() map[string]error {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	if l.store.current == nil {
		return nil
	}
	return l.refused(l.store.current.alive())
}

// Groups are the names of all groups that the source has wanted and not taken back,
// whether they are in force or wait to be. At the start these are what the disk
// remembers.
func (l *LiveSource) Groups() []string {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	if l.store.current == nil {
		return nil
	}
	var names []string
	for _, key := range l.store.current.alive().keys() {
		if key.source == l.name {
			names = append(names, key.name)
		}
	}
	return names
}

// InForce reports whether a group of that name is in force, as it is wanted now or
// as it was wanted before.
func (l *LiveSource) InForce(group string) bool {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	if l.store.current == nil {
		return false
	}
	_, is := l.store.current.alive().at[liveKey{l.name, group}]
	return is
}

func (l *LiveSource) refused(now *live) map[string]error {
	out := map[string]error{}
	for key, w := range now.waiting {
		if key.source == l.name {
			out[key.name] = w.why
		}
	}
	return out
}

func (l *LiveSource) change(set []model.Group, remove []string) (map[string]error, error) {
	s := l.store
	if s.current == nil || s.publish == nil {
		return nil, errNotYet
	}
	next := *s.current
	now := s.current.alive()
	keyed := make([]*liveGroup, len(set))
	for i := range set {
		keyed[i] = &liveGroup{liveKey{l.name, set[i].Name}, &set[i]}
	}
	only, small, err := next.setBackends(now, keyed, remove)
	if err != nil {
		return nil, err
	}
	if !small {
		only = nil
		if next.live, next.total, err = now.with(next.merged.state, keyed, l.name, remove); err != nil {
			return nil, err
		}
	}
	if next.live == now {
		return l.refused(now), nil
	}
	d := next.desired()
	d.Pools = only
	if small || !sameGroups(now, next.live) {
		if err := s.publish(d); err != nil {
			return nil, fmt.Errorf("cannot be put in force: %w", err)
		}
	}
	s.current = &next
	s.liveKept.changed(s.cfg.Now())
	s.report()
	return l.refused(next.live), nil
}

// sameGroups reports whether the same groups are in force.
func sameGroups(a, b *live) bool {
	return slices.EqualFunc(a.groups, b.groups, func(a, b *liveGroup) bool { return a.Group == b.Group })
}

// with is l after a change that may be of any kind.
func (l *live) with(declared *model.State, set []*liveGroup, source string, remove []string) (*live, *total, error) {
	gone := make(map[liveKey]bool, len(remove))
	stale := make(map[liveKey]bool, len(remove)+len(set)) // whatever has waited under these keys
	for _, name := range remove {
		gone[liveKey{source, name}], stale[liveKey{source, name}] = true, true
	}
	changed := make(map[liveKey]*liveGroup, len(set))
	for _, g := range set {
		changed[g.key], stale[g.key] = g, true
	}
	instead := map[liveKey]*model.Group{}
	groups := make([]*liveGroup, 0, len(l.groups)+len(set))
	for _, g := range l.groups {
		to := changed[g.key]
		switch {
		case gone[g.key]:
		case to == nil:
			groups = append(groups, g)
		case sameGroup(g.Group, to.Group):
			delete(changed, g.key)
			groups = append(groups, g)
		case sameFrame(g.Group, to.Group):
			delete(changed, g.key)
			groups = append(groups, to)
			instead[g.key] = g.Group
		default:
			instead[g.key] = g.Group
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(l.waiting), compareLiveKeys) {
		if !stale[key] {
			if at, inForce := l.at[key]; inForce {
				// What has waited takes the place of what was in force instead.
				groups = slices.DeleteFunc(groups, func(g *liveGroup) bool { return g.key == key })
				instead[key] = l.groups[at].Group
			}
			changed[key] = &liveGroup{key, l.waiting[key].group}
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(changed), compareLiveKeys) {
		groups = append(groups, changed[key])
	}
	return l.fit(declared, groups, instead)
}

// setBackends makes a change that is of nothing but backends, at a cost that
// follows from what changes. It is not small when more changes; then nothing has
// happened.
func (w *whole) setBackends(now *live, set []*liveGroup, remove []string) (only []model.Pool, small bool, err error) {
	if len(remove) > 0 || w.total == nil {
		return nil, false, nil
	}
	next := &live{revision: now.revision + 1, groups: slices.Clone(now.groups), at: now.at, waiting: now.waiting}
	t := *w.total
	state := *t.state
	state.Pools = slices.Clone(state.Pools)
	t.state = &state
	for _, g := range set {
		at, there := now.at[g.key]
		if _, waits := now.waiting[g.key]; waits || !there || !sameFrame(now.groups[at].Group, g.Group) {
			return nil, false, nil
		}
		was := now.groups[at]
		if sameGroup(was.Group, g.Group) {
			continue
		}
		next.groups[at] = g
		for i := range g.Pools {
			p := &g.Pools[i]
			if sameBackends(&was.Pools[i], p) {
				continue
			}
			index := t.poolAt[p.Name]
			if bad := t.checker.Check(index, p); len(bad) > 0 {
				return nil, false, nil // the long way finds out what is to blame
			}
			t.backends += len(p.Backends) - len(was.Pools[i].Backends)
			state.Pools[index] = *p
			only = append(only, *p)
		}
	}
	if t.backends > model.MaxBackends {
		return nil, false, nil
	}
	if len(only) > 0 {
		w.live, w.total = next, &t
	}
	return only, true, nil
}

// sameFrame reports whether two groups differ in nothing but the backends of their
// pools, and what these refuse.
func sameFrame(a, b *model.Group) bool {
	return slices.Equal(a.VIPs, b.VIPs) &&
		slices.EqualFunc(a.Services, b.Services, func(a, b model.Service) bool { return a.Equal(&b) }) &&
		slices.EqualFunc(a.Pools, b.Pools, func(a, b model.Pool) bool {
			return a.Name == b.Name && a.PanicThreshold == b.PanicThreshold && a.SlowStart == b.SlowStart && a.Check.Equal(b.Check)
		})
}

// sameGroup reports whether two groups want the same.
func sameGroup(a, b *model.Group) bool {
	return sameFrame(a, b) && slices.EqualFunc(a.Pools, b.Pools, func(a, b model.Pool) bool { return sameBackends(&a, &b) })
}

func sameBackends(a, b *model.Pool) bool {
	return slices.Equal(a.Backends, b.Backends) && a.Refused == b.Refused
}

// keys are those of all groups, in force and waiting.
func (l *live) keys() (list []liveKey) {
	for _, g := range l.all() {
		list = append(list, g.key)
	}
	return list
}
