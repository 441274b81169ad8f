package node

import (
	"net/netip"
	"slices"
	"time"

	"fairlead/controlplane/model"
)

// arrivalTime is how long backends that are new in a pool wait for the ways to
// them. It is shorter than settleTime: pods come and go all the time, and one that
// does not answer is not to hold up the others.
const arrivalTime = 200 * time.Millisecond

// ApplyPools makes other backends those of pools that there are; state is the
// desired state with them. It costs what these pools cost. On an error nothing has
// changed.
func (n *Node) ApplyPools(state *model.State, pools []model.Pool) error {
	return n.observer.applyPools(state, pools)
}

func (o *observer) applyPools(state *model.State, pools []model.Pool) error {
	o.targeting.Lock()
	defer o.targeting.Unlock()
	if o.targets == nil { // nothing was applied since the start
		if err := o.retarget(); err != nil {
			return err
		}
	}
	var arrived []netip.Addr
	checked := false
	for i := range pools {
		checked = checked || pools[i].Check != nil
		for j := range pools[i].Backends {
			if a := pools[i].Backends[j].Address; !o.targets[a] {
				o.targets[a] = true
				arrived = append(arrived, a)
			}
		}
	}
	if len(arrived) > 0 {
		o.watcher.AddTargets(arrived)
		o.await(arrived)
	}
	o.outdated = true // some may have gone; the next tick finds out
	if err := o.node.serving.SetPools(pools); err != nil {
		return err
	}
	if checked {
		o.node.checks.follow(state)
	}
	o.node.announce.setState(state)
	return nil
}

// await waits until the ways to these addresses are known, at the latest for
// arrivalTime.
func (o *observer) await(addresses []netip.Addr) {
	deadline := time.NewTimer(arrivalTime)
	defer deadline.Stop()
	for {
		o.mu.Lock()
		known := !slices.ContainsFunc(addresses, func(a netip.Addr) bool { return !o.latest.NextHops[a].Resolved })
		if o.seen == nil {
			o.seen = make(chan struct{})
		}
		seen := o.seen
		o.mu.Unlock()
		if known {
			return
		}
		select {
		case <-seen:
		case <-deadline.C:
			return
		}
	}
}
