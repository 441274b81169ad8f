package desired

import (
	"net/netip"

	"fairlead/controlplane/model"
)

// guardedFrom is how many of a kind there must be before their removal is
// guarded: of three backends two may go without a question.
const guardedFrom = 4

// guard refuses a change that removes more than so many per cent of the
// services, of the virtual addresses, or of the backends.
func guard(before, after *model.State, changes []Change, percent int) error {
	e := &GuardError{Percent: percent}
	gone := summarize(changes)
	e.check("services", gone.Services.Removed, len(before.Services))
	had, has := addresses(before), addresses(after)
	removed, backends := 0, 0
	for a := range had {
		if !has[a] {
			removed++
		}
	}
	for i := range before.Pools {
		backends += len(before.Pools[i].Backends)
	}
	e.check("VIPs", removed, len(had))
	e.check("backends", gone.Backends.Removed, backends)
	if len(e.Removed) == 0 {
		return nil
	}
	return e
}

// check adds one kind to the error when too much of it is removed.
func (e *GuardError) check(kind string, removed, of int) {
	if of >= guardedFrom && removed*100 > e.Percent*of {
		e.Removed = append(e.Removed, Removal{kind, removed, of})
	}
}

// addresses are the virtual addresses, of services and listed ones.
func addresses(s *model.State) map[netip.Addr]bool {
	set := make(map[netip.Addr]bool, len(s.VIPs)+len(s.Services))
	for i := range s.VIPs {
		set[s.VIPs[i].Address] = true
	}
	for i := range s.Services {
		set[s.Services[i].VIP] = true
	}
	return set
}
