package desired

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"fairlead/controlplane/model"
)

// place is where an object of the merged state comes from: a declaration, and
// the index in its list.
type place struct {
	from  *Declaration
	index int
}

// merged is the state that all declarations come to together.
type merged struct {
	state                        *model.State
	vips, services, pools, snats []place
	conflicts                    []finding
}

// finding is something wrong with an object of one declaration.
type finding struct {
	from *Declaration
	err  *model.Error
}

// sorted lists declarations: the file first, the others by name.
func sorted(declarations map[string]*Declaration) []*Declaration {
	list := slices.Collect(maps.Values(declarations))
	slices.SortFunc(list, func(a, b *Declaration) int {
		if a.Source == SourceFile || b.Source == SourceFile {
			return cmp.Compare(rank(b.Source), rank(a.Source))
		}
		return cmp.Compare(a.Source, b.Source)
	})
	return list
}

func rank(source string) int {
	if source == SourceFile {
		return 1
	}
	return 0
}

// merge puts declarations together. A name of a service or pool, a listed VIP
// and a SNAT address belong to one source: whatever a second one declares of
// them is a conflict and left out.
func merge(declarations map[string]*Declaration) *merged {
	m := &merged{state: &model.State{}}
	services, pools := map[string]string{}, map[string]string{}
	vips, snats := map[netip.Addr]string{}, map[netip.Addr]string{}
	for _, d := range sorted(declarations) {
		m.singletons(d)
		s := d.State
		for i := range s.VIPs {
			if own(m, vips, d, s.VIPs[i].Address, model.KindVIP, i, "address", "VIP "+s.VIPs[i].Address.String()) {
				m.state.VIPs, m.vips = append(m.state.VIPs, s.VIPs[i]), append(m.vips, place{d, i})
			}
		}
		for i := range s.SNATs {
			if own(m, snats, d, s.SNATs[i].Address, model.KindSNAT, i, "address", "SNAT address "+s.SNATs[i].Address.String()) {
				m.state.SNATs, m.snats = append(m.state.SNATs, s.SNATs[i]), append(m.snats, place{d, i})
			}
		}
		for i := range s.Pools {
			if own(m, pools, d, s.Pools[i].Name, model.KindPool, i, "name", fmt.Sprintf("pool %q", s.Pools[i].Name)) {
				m.state.Pools, m.pools = append(m.state.Pools, s.Pools[i]), append(m.pools, place{d, i})
			}
		}
		for i := range s.Services {
			if own(m, services, d, s.Services[i].Name, model.KindService, i, "name", fmt.Sprintf("service %q", s.Services[i].Name)) {
				m.state.Services, m.services = append(m.state.Services, s.Services[i]), append(m.services, place{d, i})
			}
		}
	}
	return m
}

// own notes who declares an object first. The same source declaring it twice is
// the model's to find.
func own[K comparable](m *merged, owners map[K]string, d *Declaration, key K, kind string, index int, field, what string) bool {
	owner, taken := owners[key]
	if taken && owner != d.Source {
		m.conflict(d, kind, index, field, "%s of source %q is declared by source %q as well", what, d.Source, owner)
		return false
	}
	owners[key] = d.Source
	return true
}

// singletons takes what there is one of from the file, and refuses it of any
// other source.
func (m *merged) singletons(d *Declaration) {
	s := d.State
	if d.Source == SourceFile {
		m.state.Tunnel, m.state.Limits, m.state.HashSeed = s.Tunnel, s.Limits, s.HashSeed
		return
	}
	if s.Tunnel != (model.Tunnel{}) {
		m.conflict(d, model.KindTunnel, 0, "source_ipv4", "source %q declares tunnel settings; they belong to the node's file", d.Source)
	}
	if s.Limits != (model.Limits{}) || s.HashSeed != [2]uint64{} {
		m.conflict(d, model.KindLimits, 0, "fragment_hold", "source %q declares limits or a hash seed; they belong to the node's file", d.Source)
	}
}

func (m *merged) conflict(d *Declaration, kind string, index int, field, format string, args ...any) {
	m.conflicts = append(m.conflicts, finding{d, &model.Error{Kind: kind, Index: index, Sub: -1, Field: field, Message: fmt.Sprintf(format, args...)}})
}

// validate returns all that is wrong with the merged state, each thing with
// the declaration it is in; nil when nothing is.
func (m *merged) validate() error {
	found := m.conflicts
	for _, err := range model.Validate(m.state) {
		e, ok := err.(*model.Error) // Validate promises no other
		if !ok {
			return err
		}
		at := m.place(e)
		own := *e
		own.Index = at.index
		found = append(found, finding{at.from, &own})
	}
	if len(found) == 0 {
		return nil
	}
	return &InvalidError{findings: found}
}

// place finds the declaration that a finding about the merged state is about,
// nil where no source has declared it.
func (m *merged) place(e *model.Error) place {
	var list []place
	switch e.Kind {
	case model.KindVIP:
		list = m.vips
	case model.KindSNAT:
		list = m.snats
	case model.KindPool:
		list = m.pools
	case model.KindService:
		list = m.services
	}
	if e.Index < len(list) {
		return list[e.Index]
	}
	return place{}
}
