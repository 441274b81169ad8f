package node

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"fairlead/configs"
	"fairlead/controlplane/model"
	"fairlead/controlplane/neighbor"
)

// settleTime is how long the first image, and backends that are new in a
// configuration, wait for MAC addresses, so that the first packet finds its
// way. The kernel asks for an address a second time after one second.
const settleTime = 1200 * time.Millisecond

// retargetEvery is how often, at most, what pods that have gone leave behind is
// found out.
const retargetEvery = 5 * time.Second

// observer passes what the kernel tells of interfaces, routes and neighbours
// on to the reconciler.
type observer struct {
	node    *Node
	watcher *neighbor.Watcher
	first   chan error // how the first image was published

	targeting  sync.Mutex // held while targets are changed; guards the next two
	statics    []neighbor.Static
	draining   int // backends that were draining when the targets were set
	targets    map[netip.Addr]bool
	outdated   bool // some of targets are backends no more
	retargeted time.Time

	mu      sync.Mutex // held while the reconciler is told, so that it is told in order
	latest  *model.Observations
	holding bool          // a configuration is about to be applied, together with latest
	behind  bool          // the reconciler has not taken latest over
	seen    chan struct{} // closed when there is a later view than latest; nil: nobody waits
}

// observe begins to watch, and returns when the first image is published.
func (n *Node) observe(ctx context.Context) (err error) {
	if n.checks, err = newChecks(n); err != nil {
		return err
	}
	o := &observer{node: n, first: make(chan error, 1), statics: statics(n.cfg)}
	c := neighbor.Config{Targets: backends(&n.cfg.State), Static: o.statics, Settle: settleTime, Log: n.log}
	for _, i := range n.cfg.Interfaces {
		c.Interfaces = append(c.Interfaces, neighbor.Interface{Name: i.Name, MAC: i.MAC, MTU: mtuLimit(&i, &n.cfg.Dataplane), Gateway: i.Gateway})
	}
	if o.watcher, err = neighbor.Watch(ctx, c, o.changed); err != nil {
		return err
	}
	n.observer = o
	select {
	case err := <-o.first:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// statics are the next hops that the configuration gives.
func statics(cfg *configs.Config) []neighbor.Static {
	var list []neighbor.Static
	for _, s := range cfg.Neighbors {
		list = append(list, neighbor.Static{Address: s.Address, MAC: s.MAC, Interface: s.Interface})
	}
	return list
}

func backends(s *model.State) []netip.Addr {
	var list []netip.Addr
	for i := range s.Pools {
		for _, b := range s.Pools[i].Backends {
			list = append(list, b.Address)
		}
	}
	return list
}

// changed takes a new view over. The first one publishes the first image.
func (o *observer) changed(view *model.Observations) {
	select {
	case o.node.look <- struct{}{}:
	default: // Run will look anyway
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	first := o.latest == nil
	o.latest = view
	if o.seen != nil {
		close(o.seen)
		o.seen = nil
	}
	o.node.checks.see(view)
	switch {
	case first:
		o.first <- o.start(view)
	case !o.holding:
		o.tell()
	}
}

// tell tells the reconciler of the latest view.
func (o *observer) tell() {
	err := o.node.reconciler.Observe(o.latest)
	if o.behind = err != nil; o.behind {
		o.node.log.Error("what is observed cannot take effect; it is tried again", "error", err)
	}
}

// apply makes a configuration's state the desired one, as soon as the ways to
// its new backends are known, at the latest after settleTime. On an error it has
// not become that.
func (o *observer) apply(cfg *configs.Config, settings []model.BackendSetting) (changed bool, err error) {
	o.targeting.Lock()
	defer o.targeting.Unlock()
	r, given := o.node.reconciler, statics(cfg)
	o.hold()
	ready, err := o.watcher.SetTargets(append(r.Backends(), backends(&cfg.State)...), given)
	if err != nil {
		o.letGo()
		return false, err
	}
	timeout := time.NewTimer(settleTime)
	defer timeout.Stop()
	select {
	case <-ready:
	case <-timeout.C:
	}
	if changed, err = o.release(&cfg.State, settings); err == nil {
		o.statics = given
	}
	if err := o.retarget(); err != nil {
		o.node.log.Error("targets; they are set again", "error", err)
		o.draining = -1
	}
	return changed, err
}

// hold keeps views back from the reconciler.
func (o *observer) hold() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.holding = true
}

// letGo lets views through again.
func (o *observer) letGo() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.holding = false
	o.tell()
}

// release has the reconciler apply a state together with the latest view.
func (o *observer) release(s *model.State, settings []model.BackendSetting) (changed bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.holding = false
	err = o.node.serving.Apply(s, settings, func(s *model.State) (err error) {
		changed, err = o.node.reconciler.ApplyObserved(s, o.latest)
		return err
	})
	if o.behind = err != nil; err == nil {
		changed = o.node.checks.follow(s) || changed
		o.node.announce.setState(s)
	}
	return changed, err
}

// retarget has the ways to all backends watched, those that drain too.
func (o *observer) retarget() error {
	o.draining, o.outdated, o.retargeted = o.node.reconciler.Status().Draining, false, time.Now()
	list := o.node.reconciler.Backends()
	o.targets = make(map[netip.Addr]bool, len(list))
	for _, a := range list {
		o.targets[a] = true
	}
	_, err := o.watcher.SetTargets(list, o.statics)
	return err
}

// tick does what nobody tells us of: backends that have drained are no longer
// watched, and what could not take effect is tried again.
func (o *observer) tick() {
	if o.targeting.TryLock() { // otherwise the targets are being changed anyway
		if o.outdated && time.Since(o.retargeted) > retargetEvery || o.draining != o.node.reconciler.Status().Draining {
			if err := o.retarget(); err != nil {
				o.node.log.Error("targets", "error", err)
			}
		}
		o.targeting.Unlock()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.behind && !o.holding {
		o.tell()
	}
}
