package k8ssync

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
)

// What an API server tells after its database was put back to an earlier time is
// true of that time. What it does not know of any more is still running, and its
// clients still come. So groups that are missing for no other reason stay for
// holdFor, in which an operator can see what has happened and restore what is
// missing; then the API server is asked once more, and what is still missing is
// removed. What somebody deletes is removed at once.
const holdFor = 5 * time.Minute

// remembers is a sink that knows which groups are in force since before this
// process began.
type remembers interface{ Groups() []string }

// fewRemembered is up to how many groups may be missing at a start without much
// thought.
const fewRemembered = 2

// held are the groups that are held back from being removed.
type held struct {
	since time.Time
	keys  map[kube.Key]bool
}

// holds decides whether what became of an object is not to be believed yet.
func (s *Sync) holds(key kube.Key, e *entry, groups []model.Group, c change) bool {
	gone := len(groups) == 0 || emptied(e, groups)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != nil && s.held.keys[key] {
		if !gone {
			s.unhold(key) // it is there again
		}
		return gone
	}
	if !gone || !c.restored || e == nil {
		return false
	}
	s.hold(key)
	return true
}

// emptied reports whether a pool has lost all its backends, or is gone with them.
func emptied(e *entry, groups []model.Group) bool {
	if e == nil {
		return false
	}
	has := make(map[string]bool)
	for i := range groups {
		for j := range groups[i].Pools {
			p := &groups[i].Pools[j]
			has[p.Name] = len(p.Backends) > 0
		}
	}
	for _, g := range e.groups {
		if g == nil {
			continue
		}
		for i := range g.Pools {
			if p := &g.Pools[i]; len(p.Backends) > 0 && !has[p.Name] {
				return true
			}
		}
	}
	return false
}

// hold holds a group back. The caller holds mu.
func (s *Sync) hold(key kube.Key) {
	if s.held == nil {
		s.held = &held{since: s.now(), keys: map[kube.Key]bool{}}
		s.log.Error("Kubernetes has forgotten objects that nobody has deleted; what they want stays in force for a while", "first", key.String(), "for", s.holdFor)
	}
	s.held.keys[key] = true
}

// unhold lets go of one. The caller holds mu.
func (s *Sync) unhold(key kube.Key) {
	if delete(s.held.keys, key); len(s.held.keys) == 0 {
		s.held = nil
	}
}

func (s *Sync) heldNow() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		return 0
	}
	return len(s.held.keys)
}

// remember looks at what the node's disk remembers when everything has been seen
// for the first time. When most of it is missing in Kubernetes, it is held back.
func (s *Sync) remember(p *planned) {
	sink, can := s.cfg.Sink.(remembers)
	if !can {
		return
	}
	wanted := make(map[string]bool, len(p.set))
	for i := range p.set {
		wanted[p.set[i].Name] = true
	}
	names := sink.Groups()
	var missing []string
	for _, name := range names {
		if !wanted[name] {
			missing = append(missing, name)
		}
	}
	if len(missing) <= fewRemembered || 2*len(missing) <= len(names) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range missing {
		key, ok := KeyOfGroup(name)
		if !ok || p.next[key] != nil {
			continue // there, with fewer groups: that is not forgotten
		}
		if s.held == nil || !s.held.keys[key] {
			s.hold(key)
		}
		if s.entries[key] == nil {
			s.entries[key] = &entry{groups: map[string]*model.Group{}}
		}
		s.entries[key].groups[name] = nil
	}
	if s.held != nil {
		p.remove = stale(missing, s.held.keys)
	}
}

// stale are the names whose objects are not held.
func stale(names []string, held map[kube.Key]bool) (list []string) {
	for _, name := range names {
		if key, ok := KeyOfGroup(name); !ok || !held[key] {
			list = append(list, name)
		}
	}
	return list
}

// confirmHeld lets go of what is held when its time has come and the API server
// still does not know of it.
func (s *Sync) confirmHeld(ctx context.Context) error {
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		due := s.heldDue()
		if len(due) == 0 {
			continue
		}
		there, err := s.named(ctx)
		if err != nil {
			continue // while the API server is away, everything stays
		}
		s.release(due, there)
	}
}

// named asks the API server which objects there are that can be held.
func (s *Sync) named(ctx context.Context) (map[kube.Key]bool, error) {
	there := make(map[kube.Key]bool)
	names, err := s.objects.Services.Names(ctx)
	if err != nil {
		return nil, err
	}
	for n := range names {
		there[kube.Key{Kind: kube.Service, Namespace: n.Namespace, Name: n.Name}] = true
	}
	if s.routes == nil {
		return there, nil
	}
	gateways, err := s.routes.Names(ctx)
	if err != nil {
		return nil, err
	}
	for _, key := range gateways {
		there[key] = true
	}
	return there, nil
}

// copied reports whether the node has a copy of an object.
func (s *Sync) copied(key kube.Key) (there bool) {
	switch {
	case key.Kind == kube.Service:
		_, there = s.objects.Services.Get(key.Namespace, key.Name)
	case s.routes != nil:
		there = s.routes.Has(key)
	}
	return there
}

// heldDue are the objects to let go of: all when their time has come, before that
// those which have what a refused group wants.
func (s *Sync) heldDue() (due []kube.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		return nil
	}
	if s.now().Sub(s.held.since) >= s.holdFor {
		return slices.Collect(maps.Keys(s.held.keys))
	}
	for _, r := range s.refused {
		if clash, is := errors.AsType[*model.ClashError](r.Why); is {
			if key, of := KeyOfGroup(clash.Rival); of && s.held.keys[key] {
				due = append(due, key)
			}
		}
	}
	return due
}

// release lets go of objects that are held, but for those that the API server has just
// named: the copies will have these in a moment.
func (s *Sync) release(due []kube.Key, named map[kube.Key]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := 0
	for _, key := range due {
		if s.held == nil || !s.held.keys[key] {
			continue // it is there again, or was due twice
		}
		if named[key] && !s.copied(key) {
			continue
		}
		gone++
		s.unhold(key)
		s.dirty.mark(key, change{at: s.now()})
	}
	if gone > 0 {
		s.log.Warn("what forgotten objects wanted is given up", "objects", gone)
	}
}
