package k8ssync

import (
	"maps"
	"reflect"
	"slices"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
)

// planned is what becomes of the objects that have changed.
type planned struct {
	set    []model.Group
	remove []string
	next   map[kube.Key]*entry // of the objects that set and remove are about; nil: it has no groups any more
}

// apply puts in force what the objects want that have changed. With an error
// nothing has.
func (s *Sync) apply(pending map[kube.Key]change, first bool, through versions) error {
	p := s.plan(pending)
	if first {
		s.remember(p)
	}
	refused, err := s.give(p, first)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = 0
	if err != nil {
		s.pending = len(pending)
		if s.failing != err.Error() {
			s.failing = err.Error()
			s.log.Error("what Kubernetes wants cannot be put in force; it is tried again", "objects", len(pending), "error", err)
		}
		return err
	}
	if s.failing != "" {
		s.failing = ""
		s.log.Info("what Kubernetes wants is in force")
	}
	for key, next := range p.next {
		if next == nil {
			delete(s.entries, key)
		} else {
			s.entries[key] = next
		}
	}
	now := s.now()
	if first {
		s.syncedAt = now
		close(s.inForce)
		s.log.Info("what Kubernetes wants is in force for the first time", "server", s.conn.Server(), "groups", len(s.entries), "refused", len(refused))
	}
	if len(p.next) > 0 {
		s.applied = now
		s.batches++
	}
	s.through = through
	s.refuse(refused)
	if !first {
		for key := range p.next {
			c := pending[key]
			o := Observation{Key: key, Event: now.Sub(c.at)}
			if !c.trigger.IsZero() {
				o.Trigger = max(now.Sub(c.trigger), 1)
			}
			s.cfg.Observe(o)
		}
	}
	return nil
}

// give hands the plan to the sink.
func (s *Sync) give(p *planned, first bool) (map[string]error, error) {
	switch {
	case first && s.heldNow() == 0:
		return s.cfg.Sink.Replace(p.set)
	case !first && len(p.next) == 0:
		return s.refusedNow(), nil // as before
	}
	return s.cfg.Sink.Change(p.set, p.remove)
}

// plan works out what changes. Objects that are held back are not touched.
func (s *Sync) plan(pending map[kube.Key]change) *planned {
	p := &planned{next: make(map[kube.Key]*entry)}
	for _, key := range slices.SortedFunc(maps.Keys(pending), kube.Key.Compare) {
		e, groups := s.entries[key], s.wants(key)
		if s.holds(key, e, groups, pending[key]) {
			continue
		}
		if set, remove := differences(e, groups); len(set)+len(remove) > 0 {
			p.set, p.remove = append(p.set, set...), append(p.remove, remove...)
			p.next[key] = entryOf(groups)
		}
	}
	return p
}

// differences are what makes of the groups that the sink has those that are wanted.
func differences(e *entry, groups []model.Group) (set []model.Group, remove []string) {
	wanted := make(map[string]bool, len(groups))
	for i := range groups {
		g := &groups[i]
		wanted[g.Name] = true
		if e == nil || e.groups[g.Name] == nil || !reflect.DeepEqual(e.groups[g.Name], g) {
			set = append(set, *g)
		}
	}
	if e != nil {
		for name := range e.groups {
			if !wanted[name] {
				remove = append(remove, name)
			}
		}
		slices.Sort(remove)
	}
	return set, remove
}

func entryOf(groups []model.Group) *entry {
	if len(groups) == 0 {
		return nil
	}
	e := &entry{groups: make(map[string]*model.Group, len(groups))}
	for i := range groups {
		e.groups[groups[i].Name] = &groups[i]
	}
	return e
}

// refuse notes what the sink refuses, and logs what is new of it. The caller holds
// mu.
func (s *Sync) refuse(refused map[string]error) {
	next := make(map[string]Refusal, len(refused))
	for name, why := range refused {
		before, there := s.refused[name]
		if !there {
			before.Since = s.now()
		}
		if !there || before.Why.Error() != why.Error() {
			s.log.Warn("what a Kubernetes object wants is refused", "group", name, "reason", why)
		}
		next[name] = Refusal{Why: why, Since: before.Since}
	}
	for name := range s.refused {
		if refused[name] == nil {
			s.log.Info("what a Kubernetes object wants is not refused any more", "group", name)
		}
	}
	s.refused = next
}

func (s *Sync) refusedNow() map[string]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]error, len(s.refused))
	for name, r := range s.refused {
		out[name] = r.Why
	}
	return out
}

// refusing is a sink that tells what it refuses at the moment: operators' changes
// may displace a group, or let one in.
type refusing interface{ Refused() map[string]error }

// refresh asks the sink what it refuses, and tells the other nodes how far this one
// has come.
func (s *Sync) refresh() {
	if sink, can := s.cfg.Sink.(refusing); can && s.Synced() {
		refused := sink.Refused()
		s.mu.Lock()
		s.refuse(refused)
		s.mu.Unlock()
	}
	s.report()
}
