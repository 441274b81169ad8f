package node

import (
	"context"
	"net"
	"net/netip"

	"fairlead/controlplane/announce/l2announce"
	"fairlead/controlplane/api"
	"fairlead/xdp/steer"
)

// Addresses implements api.WayProvider.
func (n *Node) Addresses(_ context.Context, q api.AddressQuery) (api.AddressPage, error) {
	n.mu.Lock()
	locals := n.owned(n.image.locals)
	n.mu.Unlock()
	announced := make(map[netip.Addr]*l2announce.AddressStatus)
	statuses, _, _ := n.Announced()
	for i := range statuses {
		announced[statuses[i].Address] = &statuses[i]
	}
	list := make([]api.Address, 0, len(locals))
	for _, l := range locals {
		one := api.Address{Address: l.Addr.Unmap().String(), Kind: l.Kind.String(), Answered: l.AnswerARP}
		if l.Kind == steer.VIP {
			one.Owner = n.VIPOwner(l.Addr)
		}
		if s := announced[l.Addr.Unmap()]; s != nil {
			one.Interfaces, one.Announced = s.Interfaces, s.Announced
			if !s.Last.IsZero() {
				one.Last = &s.Last
			}
			if c := s.Conflict; c != nil {
				one.Conflict = &api.AddressConflict{Interface: c.Interface, MAC: net.HardwareAddr(c.MAC[:]).String(), First: c.First, Last: c.Last}
			}
		}
		list = append(list, one)
	}
	page, next, err := pageOf(list, q.After, q.Limit, func(one *api.Address) cursor {
		return cursor{addr: netip.MustParseAddr(one.Address)}
	})
	return api.AddressPage{Addresses: page, Next: next}, err
}
