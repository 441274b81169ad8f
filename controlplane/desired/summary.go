package desired

import (
	"fmt"
	"strings"
)

// Summary counts what a version changed against the one before.
type Summary struct {
	Services Counts   `json:"services,omitzero"`
	Pools    Counts   `json:"pools,omitzero"`
	Backends Counts   `json:"backends,omitzero"`
	VIPs     Counts   `json:"vips,omitzero"`
	SNATs    Counts   `json:"snats,omitzero"`
	Settings Counts   `json:"settings,omitzero"` // of backends, by operators
	Other    []string `json:"other,omitempty"`   // "tunnel", "limits", "hash_seed"
}

// Counts are how many of a kind a change added, removed and altered.
type Counts struct {
	Added   int `json:"added,omitempty"`
	Removed int `json:"removed,omitempty"`
	Changed int `json:"changed,omitempty"`
}

func summarize(changes []Change) Summary {
	var s Summary
	for i := range changes {
		c := &changes[i]
		counts := map[string]*Counts{
			KindService: &s.Services, KindPool: &s.Pools, KindBackend: &s.Backends,
			KindVIP: &s.VIPs, KindSNAT: &s.SNATs, KindSetting: &s.Settings,
		}[c.Kind]
		switch {
		case counts == nil:
			s.Other = append(s.Other, c.Kind)
		case c.Op == Added:
			counts.Added++
		case c.Op == Removed:
			counts.Removed++
		default:
			counts.Changed++
		}
	}
	return s
}

// String is the summary in a line: "+2 services, -1 pool, ~3 backends".
func (s Summary) String() string {
	var parts []string
	for _, k := range []struct {
		counts    Counts
		one, many string
	}{
		{s.Services, "service", "services"}, {s.Pools, "pool", "pools"}, {s.Backends, "backend", "backends"},
		{s.VIPs, "VIP", "VIPs"}, {s.SNATs, "SNAT address", "SNAT addresses"}, {s.Settings, "backend setting", "backend settings"},
	} {
		for _, n := range []struct {
			sign  string
			count int
		}{{"+", k.counts.Added}, {"-", k.counts.Removed}, {"~", k.counts.Changed}} {
			if n.count == 1 {
				parts = append(parts, n.sign+"1 "+k.one)
			} else if n.count > 0 {
				parts = append(parts, fmt.Sprintf("%s%d %s", n.sign, n.count, k.many))
			}
		}
	}
	for _, o := range s.Other {
		parts = append(parts, "~"+o)
	}
	if len(parts) == 0 {
		return "no object"
	}
	return strings.Join(parts, ", ")
}
