package compile

import (
	"net/netip"
	"slices"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/maglev"
)

// baseTable makes a pool's base out of its shares: the same table as on every
// node with these shares, with entries that are this pool's members. Where the
// shares are the pool's own, so is the table, unless that refuses some: a base is for
// flows that were not refused. The members are prepared.
func (p *prepared) baseTable(shares []model.Share, refuses bool, tables *maglev.Cache, seed [2]uint64) (*maglev.Table, error) {
	if !slices.ContainsFunc(shares, func(s model.Share) bool { return s.Weight > 0 && s.Withheld < maglev.FullShare }) {
		return nil, nil
	}
	// In the order of members: tables are made of lists.
	shares = slices.Clone(shares)
	slices.SortFunc(shares, func(a, b model.Share) int { return a.Endpoint.Compare(b.Endpoint) })
	if p.table != nil && !refuses && p.current(shares) {
		return p.table, nil
	}
	index := make(map[netip.AddrPort]uint16, len(p.members))
	for i := range p.members {
		index[p.members[i].Endpoint()] = uint16(i)
	}
	mapping := make([]uint16, len(shares))
	input := make([]maglev.Member, len(shares))
	for i, s := range shares {
		input[i] = maglev.Member{Name: s.Endpoint.String(), Weight: s.Weight, Withheld: s.Withheld}
		member, there := index[s.Endpoint]
		if !there {
			member = fib.NoMember
		}
		mapping[i] = member
	}
	return tables.Mapped(input, mapping, seed)
}

// current reports whether shares are, one by one, what the pool's own table is
// made of.
func (p *prepared) current(shares []model.Share) bool {
	if len(shares) != len(p.input) {
		return false
	}
	for i, s := range shares {
		in := &p.input[i]
		if p.members[i].Endpoint() != s.Endpoint || in.Weight != s.Weight || in.Withheld != s.Withheld || in.Down && s.Withheld != maglev.FullShare {
			return false
		}
	}
	return true
}
