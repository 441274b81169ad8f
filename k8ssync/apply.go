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
	groups map[kube.Key]*model.Group // that set and remove are about; nil: removed
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
	for key, group := range p.groups {
		if group == nil {
			delete(s.entries, key)
		} else {
			s.entries[key] = &entry{group: group}
		}
	}
	now := s.now()
	if first {
		s.syncedAt = now
		close(s.inForce)
		s.log.Info("what Kubernetes wants is in force for the first time", "server", s.conn.Server(), "groups", len(s.entries), "refused", len(refused))
	}
	if len(p.groups) > 0 {
		s.applied = now
		s.batches++
	}
	s.through = through
	s.refuse(refused)
	if !first {
		for key := range p.groups {
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
	case !first && len(p.groups) == 0:
		return s.refusedNow(), nil
	}
	return s.cfg.Sink.Change(p.set, p.remove)
}

// plan works out what changes. Objects that are held back are not touched.
func (s *Sync) plan(pending map[kube.Key]change) *planned {
	p := &planned{groups: make(map[kube.Key]*model.Group)}
	for _, key := range slices.SortedFunc(maps.Keys(pending), kube.Key.Compare) {
		e := s.entries[key]
		group := s.wants(key)
		if s.holds(key, e, group, pending[key]) {
			continue
		}
		switch {
		case group == nil && e != nil:
			p.remove = append(p.remove, key.Group())
		case group != nil && (e == nil || e.group == nil || !reflect.DeepEqual(e.group, group)):
			p.set = append(p.set, *group)
		default:
			continue
		}
		p.groups[key] = group
	}
	return p
}

// refuse notes what the sink refuses, and logs what is new of it. The caller holds
// mu.
func (s *Sync) refuse(refused map[string]error) {
	for name, why := range refused {
		if before := s.refused[name]; before == nil || before.Error() != why.Error() {
			s.log.Warn("what a Kubernetes object wants is refused", "group", name, "reason", why)
		}
	}
	for name := range s.refused {
		if refused[name] == nil {
			s.log.Info("what a Kubernetes object wants is not refused any more", "group", name)
		}
	}
	s.refused = refused
}

func (s *Sync) refusedNow() map[string]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
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
