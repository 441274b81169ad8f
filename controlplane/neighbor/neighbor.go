// Package neighbor finds the link-layer way to addresses: it asks the kernel,
// through rtnetlink, for interfaces, routes and neighbours, has it resolve the
// neighbours that backends are reached by, keeps them resolved although the
// kernel sends nothing to them, and tells of every change.
//
// Two goroutines do the work. The listener (listen.go) reads the kernel's
// notifications into a set of changes (changes.go). The other one takes that
// set, a few milliseconds of it at a time, keeps the tables of interfaces,
// targets and hops (resolver.go, routes.go, hops.go), and hands every new view
// (view.go) to its owner.
//
//	target 10.0.7.4 --route--> interface eth1, gateway 10.0.1.254 --neighbour--> MAC
//	       (target)                       (hop)                                (entry)
package neighbor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"fairlead/controlplane/model"
)

// Interface is one interface that next hops may be behind. What is set here
// stands in front of what the kernel says.
type Interface struct {
	Name string
	// MAC is used in place of the interface's own address unless it is zero.
	MAC [6]byte
	// MTU bounds the interface's own unless it is zero.
	MTU int
	// Gateway is used in place of the gateway of every route of its family
	// that leads out of this interface, and for addresses of its family that
	// no route leads to. The zero Addr leaves both to the routing table.
	Gateway netip.Addr
}

// Static is a next hop that is known and never looked up: the MAC address of a
// target, or of a gateway.
type Static struct {
	Address   netip.Addr
	MAC       [6]byte
	Interface string // name of one of Config.Interfaces
}

// Config says what to watch.
type Config struct {
	// Interfaces are those of the node, in the order of its ports. The order
	// of the observed ones is the same, whatever becomes of them.
	Interfaces []Interface
	// Targets are the addresses to resolve at first, and Static the next hops
	// that are known; SetTargets changes both.
	Targets []netip.Addr
	Static  []Static
	// Settle is how long the first view may be held back for targets that have
	// a route and no known MAC address. Zero: not at all.
	Settle time.Duration
	// Log may be nil.
	Log *slog.Logger
}

// Watcher watches the kernel's tables until it is closed or its context ends.
type Watcher struct {
	changes *changes
	names   map[string]int // of the interfaces: their places
	cancel  context.CancelFunc
	done    chan struct{}
	err     error // of the end; written before done is closed
}

// Watch begins to watch in the network namespace of the calling thread.
//
// changed is called with every new view, from one goroutine, so that one call
// ends before the next begins; the first one is complete (see Config.Settle).
// Changes that come close together, or during a call, are told of in one. A
// view never changes after it was given, and its receiver must not change it.
//
// Watch returns an error when netlink cannot be used, an interface is listed
// twice, or a static next hop is behind none of the interfaces.
func Watch(ctx context.Context, cfg Config, changed func(*model.Observations)) (*Watcher, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	names := make(map[string]int, len(cfg.Interfaces))
	for i, in := range cfg.Interfaces {
		if _, twice := names[in.Name]; twice {
			return nil, fmt.Errorf("interface %s is listed twice", in.Name)
		}
		names[in.Name] = i
	}
	w := &Watcher{changes: newChanges(), names: names, done: make(chan struct{})}
	if _, err := w.SetTargets(cfg.Targets, cfg.Static); err != nil {
		return nil, err
	}
	// Notifications come first and the tables after: nothing is missed between.
	l, err := openListener()
	if err != nil {
		return nil, err
	}
	c, err := dial()
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	r, err := newResolver(&cfg, c)
	if err != nil {
		return nil, errors.Join(err, l.close(), c.close())
	}
	ctx, w.cancel = context.WithCancel(ctx)
	var listening sync.WaitGroup
	listening.Go(func() { l.run(w.changes, cfg.Log) })
	go func() {
		defer close(w.done)
		defer w.cancel()
		r.run(ctx, w.changes, changed)
		w.err = errors.Join(l.close(), r.releaseAll(), c.close())
		listening.Wait()
	}()
	return w, nil
}

// SetTargets changes the addresses to resolve, which are looked up at once,
// and the static next hops. The caller may change the slices afterwards.
//
// ready is closed when changed has been called with a view in which all of
// this has taken effect and every target either has a MAC address, or has no
// way, or is known not to answer, which takes the kernel some three seconds to
// find out; also when the watcher ends.
//
// The error says that a static next hop is behind none of the interfaces;
// nothing changes then.
func (w *Watcher) SetTargets(targets []netip.Addr, statics []Static) (ready <-chan struct{}, err error) {
	want := &wanted{targets: slices.Clone(targets), statics: make(map[netip.Addr]static, len(statics)), ready: make(chan struct{})}
	for _, s := range statics {
		port, ok := w.names[s.Interface]
		if !ok {
			return nil, fmt.Errorf("static next hop %s is behind %s, which is none of the interfaces", s.Address, s.Interface)
		}
		want.statics[s.Address] = static{port, s.MAC}
	}
	w.changes.want(want)
	return want.ready, nil
}

// AddTargets has the ways to more addresses watched, until the next SetTargets. Views
// tell when they are known.
func (w *Watcher) AddTargets(targets []netip.Addr) { w.changes.add(targets) }

// Wait returns when the watcher has ended; changed is not called after that.
// The error says what could not be given back to the kernel.
func (w *Watcher) Wait() error {
	<-w.done
	return w.err
}

// Close ends the watcher and waits for its end, which must not be done within
// changed. Neighbours are left to the kernel's own care again.
func (w *Watcher) Close() error {
	w.cancel()
	return w.Wait()
}
