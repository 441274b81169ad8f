package model

import "slices"

// Equal reports whether two services are the same in every field.
func (s *Service) Equal(o *Service) bool {
	return s.Name == o.Name && s.VIP == o.VIP && s.Protocol == o.Protocol && s.Ports == o.Ports && s.Pool == o.Pool &&
		s.Method == o.Method && s.Affinity == o.Affinity && s.Gone == o.Gone && s.Timeouts == o.Timeouts &&
		s.DisableMSS == o.DisableMSS && s.DrainTimeout == o.DrainTimeout && slices.Equal(s.SourceRanges, o.SourceRanges)
}

// Serves reports whether two pools have the same backends, which serve the same
// way, refuse as much, and have the same bases: whether the data path sees any
// difference.
func (p *Pool) Serves(o *Pool) bool {
	return slices.Equal(p.Backends, o.Backends) && p.Refused == o.Refused && slices.Equal(p.Base, o.Base) && slices.Equal(p.Also, o.Also)
}

// EqualButPools reports whether two states are the same but for their pools.
func (s *State) EqualButPools(o *State) bool {
	return s.Tunnel == o.Tunnel && s.HashSeed == o.HashSeed && s.Limits == o.Limits &&
		slices.Equal(s.VIPs, o.VIPs) && slices.Equal(s.SNATs, o.SNATs) &&
		slices.EqualFunc(s.Services, o.Services, func(a, b Service) bool { return a.Equal(&b) })
}
