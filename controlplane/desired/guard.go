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
func guard(before, after *model.State, percent int) error {
	e := &GuardError{Percent: percent}
	compare(e, "services", serviceNames(before), serviceNames(after))
	compare(e, "VIPs", addresses(before), addresses(after))
	compare(e, "backends", backendKeys(before), backendKeys(after))
	if len(e.Removed) == 0 {
		return nil
	}
	return e
}

// compare adds one kind to the error when too much of it is removed.
func compare[K comparable](e *GuardError, kind string, before, after map[K]bool) {
	removed := 0
	for k := range before {
		if !after[k] {
			removed++
		}
	}
	if len(before) >= guardedFrom && removed*100 > e.Percent*len(before) {
		e.Removed = append(e.Removed, Removal{kind, removed, len(before)})
	}
}

func serviceNames(s *model.State) map[string]bool {
	set := make(map[string]bool, len(s.Services))
	for i := range s.Services {
		set[s.Services[i].Name] = true
	}
	return set
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

func backendKeys(s *model.State) map[model.BackendKey]bool {
	set := make(map[model.BackendKey]bool)
	for i := range s.Pools {
		p := &s.Pools[i]
		for j := range p.Backends {
			set[model.BackendKey{Pool: p.Name, Endpoint: p.Backends[j].Endpoint()}] = true
		}
	}
	return set
}
