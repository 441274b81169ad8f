package neighbor

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"fairlead/controlplane/model"
)

const (
	// coalesce is how long changes are collected before they are worked on.
	coalesce = 2 * time.Millisecond
	// readAgainEvery bounds how long something that the kernel did not notify
	// of stays unnoticed.
	readAgainEvery = 60 * time.Second
	// retryAfter is how long to wait when netlink itself fails.
	retryAfter = time.Second
)

// resolver keeps what is known of interfaces, targets and hops. It belongs to
// one goroutine.
type resolver struct {
	conn *conn
	log  *slog.Logger

	ports   []port
	links   map[int]link // all of the host, by index
	statics map[netip.Addr]static

	targets   map[netip.Addr]*target
	order     []*target            // by address
	moved     bool                 // some targets are to be looked up
	routeDue  time.Time            // not before this, while routes keep changing
	outsiders map[int][]netip.Addr // newly found outside, by interface: to be logged

	hops    map[hopKey]*hop
	unread  map[*hop]struct{} // whose entry in the kernel's table is to be read
	waiting map[*hop]struct{} // which the kernel is to be asked to resolve

	contested int       // hops that have rivals
	bridged   int       // targets with an interim hop
	choosing  bool      // targets with several ways are to choose anew
	probeDue  time.Time // when hops that others stand beside are asked next

	readDue time.Time // when everything is read again
	cleaned bool      // what an earlier process left has been seen to
	settled time.Time // when the first view is told of at the latest
	dirty   bool      // the view has changed
	last    *model.Observations
	unready []*wanted // in force and not settled
}

// port is one of our interfaces. Without the interface its index is 0, and
// MAC and MTU are the last ones known.
type port struct {
	Interface
	link
}

// static is a next hop that is known.
type static struct {
	port int
	mac  [6]byte
}

func newResolver(cfg *Config, c *conn) (*resolver, error) {
	r := &resolver{
		conn: c, log: cfg.Log, links: make(map[int]link), targets: make(map[netip.Addr]*target),
		outsiders: make(map[int][]netip.Addr), hops: make(map[hopKey]*hop), unread: make(map[*hop]struct{}), waiting: make(map[*hop]struct{}),
	}
	for _, in := range cfg.Interfaces {
		r.ports = append(r.ports, port{Interface: in})
	}
	if err := r.readLinks(); err != nil {
		return nil, err
	}
	r.addGateways()
	r.settled = time.Now().Add(cfg.Settle)
	return r, nil
}

// run works until ctx ends.
func (r *resolver) run(ctx context.Context, c *changes, changed func(*model.Observations)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer c.end()
	defer r.endWaiting()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
			if !pause(ctx, coalesce) {
				return
			}
		case <-timer.C:
		}
		set := c.take()
		if err := r.work(set, time.Now()); err != nil {
			r.log.Error("routes and neighbours cannot be read; it is tried again", "error", err, "again_in", retryAfter)
			r.readDue = time.Now().Add(retryAfter)
		}
		if view := r.news(time.Now()); view != nil {
			changed(view)
		}
		if r.complete() {
			r.endWaiting()
		}
		r.answer(set.asked)
		timer.Reset(max(0, time.Until(r.due())))
	}
}

// endWaiting lets go whoever waits for a settled view.
func (r *resolver) endWaiting() {
	for _, w := range r.unready {
		close(w.ready)
	}
	r.unready = nil
}

// pause reports whether ctx has outlasted it.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// work takes changes over and does what is due.
func (r *resolver) work(set changeSet, now time.Time) error {
	if n := len(set.wanted); n > 0 {
		r.setStatics(set.wanted[n-1].statics)
		r.retarget(set.wanted[n-1].targets)
		r.unready = append(r.unready, set.wanted...)
	}
	r.addTargets(set.added)
	if !now.Before(r.readDue) {
		set.readAgain()
	}
	if set.everything {
		if err := r.readEverything(); err != nil {
			return err
		}
		r.readDue = now.Add(readAgainEvery)
	} else if r.takeLinks(set.links) {
		set.routes = true
	}
	r.markTargets(&set)
	if err := r.route(now); err != nil {
		return err
	}
	for _, n := range set.entries {
		if h := r.hopOf(&n); h != nil {
			r.take(h, &n, now)
		}
	}
	if err := r.readEntries(now); err != nil {
		return err
	}
	if set.everything {
		if err := r.cleanUp(); err != nil {
			return err
		}
	}
	r.chooseAll()
	if err := r.ask(now); err != nil {
		return err
	}
	return r.probeRivals(now)
}

// readEverything reads the interfaces, and marks everything else to be read.
func (r *resolver) readEverything() error {
	if err := r.readLinks(); err != nil {
		return err
	}
	for _, h := range r.hops {
		if h.users > 0 {
			h.asked = false
			r.unread[h] = struct{}{}
		}
	}
	return nil
}

// cleanUp gives back the neighbours that are no longer wanted, the first time
// also those that a process before this one has left managed.
func (r *resolver) cleanUp() error {
	if err := r.forget(); err != nil || r.cleaned {
		return err
	}
	r.cleaned = true
	return r.releaseForeign()
}

// due is when there is something to do although nothing changes.
func (r *resolver) due() time.Time {
	at := r.readDue
	sooner := func(t time.Time) {
		if t.Before(at) {
			at = t
		}
	}
	if r.moved {
		sooner(r.routeDue)
	}
	for h := range r.waiting {
		sooner(h.next)
	}
	if r.last == nil {
		sooner(r.settled)
	}
	if r.contested > 0 {
		sooner(r.probeDue)
	}
	return at
}
