package api

import "context"

func (f *fixed) Neighbors(context.Context, NeighborQuery) (NeighborPage, error) {
	return NeighborPage{Neighbors: []Neighbor{{Interface: "eth0", Address: "198.18.10.254", MAC: "02:00:00:00:00:fe", State: "reachable", Resolved: true, Answers: true,
		Since: &fixedTime, Targets: 1, For: []string{"198.18.10.101"}}}}, nil
}

func (f *fixed) Routes(context.Context, RouteQuery) (RoutePage, error) {
	return RoutePage{Routes: []Route{{Target: "198.18.10.101", Backends: []string{"web/web1"}, Count: 1, Problem: "no route leads there", Advice: "add one"}}}, nil
}

func (f *fixed) Addresses(context.Context, AddressQuery) (AddressPage, error) {
	return AddressPage{Addresses: []Address{{Address: "198.18.0.10", Kind: "vip", Answered: true, Interfaces: []string{"eth0"}, Announced: 3, Last: &fixedTime,
		Conflict: &AddressConflict{"eth0", "02:00:00:00:00:99", fixedTime, fixedTime}}}}, nil
}
