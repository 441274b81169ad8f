package main

import (
	"context"
	"fmt"
	"slices"

	"fairlead/perf/rig"
)

// contestant is a way of forwarding frames that takes part in the comparison.
type contestant struct {
	name string
	// what is one line on what it does with a packet.
	what string
	// sink is where its frames are dropped at the least cost.
	sink sinkKind
	// inKernel says that frames are forwarded where they are received, not by
	// a process: their CPU is that of the NAPI thread.
	inKernel bool
	// memo says that it needs a Fairlead with a flow memo.
	memo bool
	// midstream has TCP flows begin with any segment, without a SYN.
	midstream bool
	// refuse says why a case cannot be run, "" if it can.
	refuse func(*kit, Case) string
	// start begins to forward in a world.
	start func(context.Context, *kit, *world, Case) (*forwarder, error)
}

// forwarder is a contestant at work.
type forwarder struct {
	// pids are the processes whose CPU time is its own.
	pids []int
	// node is the contestant's Fairlead, if it is one.
	node *rig.Node
	// settle returns when the forwarder does with the stream what it will go on
	// doing, if that takes longer than to begin the flows.
	settle func(context.Context) error
	// dropped are frames by the reason they were not forwarded for, if it can tell.
	dropped func(context.Context) (map[string]uint64, error)
	stop    func() error
}

// contestants are all there are, in the order of the table.
func contestants() []contestant {
	return []contestant{
		cForwarder, plainForwarder, asavieForwarder, asavieByReadme,
		fairleadBy("nat"), fairleadBy("ipip"), fairleadBy("gue"), fairleadBy("l2"),
		fairleadWithMemo("nat"), fairleadWithMemo("ipip"), fairleadWithMemo("gue"), fairleadWithMemo("l2"),
		nftablesDNAT, xdpEncapsulation,
	}
}

// contestantNames are their names, in the same order.
func contestantNames() []string {
	var names []string
	for _, c := range contestants() {
		names = append(names, c.name)
	}
	return names
}

// baseline is the contestant that ratios refer to.
var baseline = cForwarder.name

// chosen are the contestants and proxies with the names given, all for none.
func chosen(names []string) ([]contestant, []proxy, error) {
	who, carriers := contestants(), proxies()
	if len(names) == 0 {
		return who, carriers, nil
	}
	for _, name := range names {
		if !slices.Contains(contestantNames(), name) && !slices.ContainsFunc(carriers, func(p proxy) bool { return p.name == name }) {
			return nil, nil, fmt.Errorf("there is no contestant %q", name)
		}
	}
	who = slices.DeleteFunc(who, func(c contestant) bool { return !slices.Contains(names, c.name) })
	carriers = slices.DeleteFunc(carriers, func(p proxy) bool { return !slices.Contains(names, p.name) })
	return who, carriers, nil
}
