package neighbor

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A neighbour that does not answer is asked for again after firstRetry, then
// ever more seldom, at last every lastRetry.
const (
	firstRetry = time.Second
	lastRetry  = 10 * time.Second
)

// hopKey is what a hop is found by. Interfaces count by their place in the
// configuration: one that is made anew has another index and the same
// neighbours.
type hopKey struct {
	port int
	addr netip.Addr
}

// hop is a neighbour on one of our interfaces that targets are reached by:
// a gateway, or the target itself.
type hop struct {
	hopKey
	users int // targets that may be reached by it; without any, it is remembered until everything is read again
	// rivals is how many of them have other hops to choose from: it is worth
	// knowing soon that it is not there.
	rivals int

	// resolved means that mac is known. Once known, it stays until another one
	// is: packets never wait for the neighbour to be asked again.
	resolved bool
	mac      [6]byte
	static   bool // configured: the kernel is not asked

	entry entry // the kernel's; its state is 0 when there is none
	asked bool  // since everything was read
	lost  bool  // it has been logged that the neighbour does not answer
	tries int   // without an answer
	next  time.Time
	since time.Time // when the kernel's state or the address became what it is
}

// isOurs reports whether an entry is managed for us, by this process or one
// before it.
func (n *entry) isOurs() bool {
	return n.managed && n.protocol == ourProtocol && n.state&fixedStates == 0
}

// hopBy is the hop of a target's way through one of our interfaces.
func (r *resolver) hopBy(t *target, p path, port int) *hop {
	key := hopKey{port, p.via}
	if !p.via.IsValid() {
		key.addr = t.addr
	}
	s, fixed := r.statics[key.addr]
	if fixed {
		key.port = s.port
	}
	h := r.hops[key]
	if h == nil {
		h = &hop{hopKey: key}
		r.hops[key] = h
	}
	if fixed {
		h.static, h.resolved, h.mac = true, true, s.mac
	}
	return h
}

// assign makes paths through our interfaces, of which there is one at least,
// the ways to a target.
func (r *resolver) assign(t *target, ways []way) {
	var list []choice
	for _, w := range ways {
		h := r.hopBy(t, w.path, w.port)
		if at := slices.IndexFunc(list, func(c choice) bool { return c.hop == h }); at >= 0 {
			list[at].weight += w.weight
			continue
		}
		list = append(list, choice{h, max(w.weight, 1)})
	}
	if slices.Equal(list, t.choices) {
		return
	}
	for _, c := range list {
		if c.users++; c.users == 1 && !c.static {
			r.unread[c.hop] = struct{}{}
		}
		if len(list) > 1 {
			if c.rivals++; c.rivals == 1 {
				r.contested++
			}
		}
	}
	before := t.hop
	if before != nil {
		before.users++
	}
	r.leave(t)
	t.choices, t.outside, t.hop, t.interim = list, 0, before, before
	if before != nil {
		r.bridged++
	}
	r.choose(t)
	if t.hop != before {
		r.dirty = true
		r.log.Debug("way found", "address", t.addr, "interface", r.ports[t.hop.port].Interface.Name, "by", t.hop.addr, "of", len(list))
	}
}

// assignNone says that there is no way to a target through our interfaces, but
// perhaps through another one. It reports whether that is new.
func (r *resolver) assignNone(t *target, outside int) (isNew bool) {
	isNew = t.hop != nil || t.outside != outside
	if t.hop != nil {
		r.log.Debug("way lost", "address", t.addr, "interface", r.ports[t.hop.port].Interface.Name, "by", t.hop.addr)
	}
	r.leave(t)
	t.outside = outside
	r.dirty = r.dirty || isNew
	return isNew
}

// leave takes all ways from a target.
func (r *resolver) leave(t *target) {
	r.endInterim(t)
	for _, c := range t.choices {
		if len(t.choices) > 1 {
			if c.rivals--; c.rivals == 0 {
				r.contested--
			}
		}
		r.release(c.hop)
	}
	t.hop, t.choices = nil, nil
}

// release says that one target less is reached by a hop.
func (r *resolver) release(h *hop) {
	if h.users--; h.users == 0 {
		delete(r.unread, h)
		delete(r.waiting, h)
	}
}

// endInterim lets the hop go that was in use until the right one is known.
func (r *resolver) endInterim(t *target) {
	if t.interim != nil {
		r.release(t.interim)
		t.interim = nil
		r.bridged--
	}
}

// forget drops the hops that no target is reached by.
func (r *resolver) forget() error {
	var unused []*hop
	for key, h := range r.hops {
		if h.users == 0 {
			delete(r.hops, key)
			unused = append(unused, h)
		}
	}
	return r.leaveToKernel(unused)
}

// hopOf is the hop that an entry of the kernel's table is about, nil for none.
func (r *resolver) hopOf(n *entry) *hop {
	for i := range r.ports {
		if r.ports[i].index == n.index {
			return r.hops[hopKey{i, n.addr}]
		}
	}
	return nil
}

// take takes over the kernel's entry for a hop.
func (r *resolver) take(h *hop, n *entry, now time.Time) {
	if h.entry.state != n.state || h.entry.mac != n.mac {
		h.since = now
	}
	h.entry = *n
	if h.static || h.users == 0 {
		return
	}
	delete(r.unread, h)
	if n.usable() {
		r.resolve(h, n.mac)
	} else if n.state&unix.NUD_FAILED != 0 && !h.lost {
		h.lost = true
		r.choosing = r.choosing || h.rivals > 0 || r.bridged > 0
		r.logLost(h)
	}
	if n.state&fixedStates != 0 || n.usable() && (n.managed || h.asked) {
		delete(r.waiting, h)
		return
	}
	if _, already := r.waiting[h]; !already {
		r.waiting[h] = struct{}{}
		h.next = now
	}
}

// resolve makes mac the address of a hop.
func (r *resolver) resolve(h *hop, mac [6]byte) {
	back := h.lost
	h.tries, h.lost = 0, false
	if h.resolved && h.mac == mac && !back {
		return
	}
	attrs := []any{"address", h.addr, "interface", r.ports[h.port].Interface.Name, "mac", net.HardwareAddr(mac[:]).String()}
	switch {
	case h.resolved && h.mac != mac:
		r.log.Info("neighbour has another MAC address", append(attrs, "before", net.HardwareAddr(h.mac[:]).String())...)
	case back:
		r.log.Info("neighbour answers", attrs...)
	default:
		r.log.Debug("neighbour resolved", attrs...)
	}
	r.choosing = r.choosing || (h.rivals > 0 || r.bridged > 0) && (back || !h.resolved)
	h.resolved, h.mac = true, mac
	r.dirty = true
}

func (r *resolver) logLost(h *hop) {
	attrs := []any{"address", h.addr, "interface", r.ports[h.port].Interface.Name}
	if h.resolved {
		r.log.Warn("neighbour does not answer; its last MAC address stays in use", append(attrs, "mac", net.HardwareAddr(h.mac[:]).String())...)
		return
	}
	r.log.Warn("neighbour does not answer; its MAC address is not known", attrs...)
}

// readEntries reads the kernel's entries of hops that are new or doubtful.
func (r *resolver) readEntries(now time.Time) error {
	var list []*hop
	for h := range r.unread {
		if r.ports[h.port].index == 0 {
			delete(r.unread, h)
			delete(r.waiting, h)
			continue
		}
		list = append(list, h)
	}
	put := func(i int, e *encoder) { putEntry(e, r.ports[list[i].port].index, list[i].addr) }
	return r.conn.batch(len(list), put, func(i int, m *message) {
		n := entry{index: r.ports[list[i].port].index, addr: list[i].addr}
		if m.kind == unix.RTM_NEWNEIGH {
			if have, ok := parseEntry(m.body); ok {
				n = have
			}
		}
		r.take(list[i], &n, now) // an error answer says that there is no entry
	})
}

// ask has the kernel resolve the hops that are waiting and whose time has
// come.
func (r *resolver) ask(now time.Time) error {
	var list []*hop
	for h := range r.waiting {
		if !now.Before(h.next) {
			list = append(list, h)
		}
	}
	put := func(i int, e *encoder) { putManage(e, r.ports[list[i].port].index, list[i].addr) }
	var failed error
	err := r.conn.batch(len(list), put, func(i int, m *message) {
		h := list[i]
		h.asked = true
		if h.tries++; h.entry.usable() {
			delete(r.waiting, h)
		}
		h.next = now.Add(min(firstRetry<<min(h.tries-1, 8), lastRetry))
		switch err := m.err(); {
		case err == nil:
			h.entry.managed, h.entry.protocol = true, ourProtocol
		case !gone(err):
			failed = err
		}
	})
	if failed != nil {
		r.log.Warn("the kernel refuses to resolve a neighbour", "error", failed)
	}
	return err
}

// leaveToKernel gives neighbours that are managed for us back to the kernel's
// own care.
func (r *resolver) leaveToKernel(hops []*hop) error {
	var entries []entry
	for _, h := range hops {
		if h.entry.isOurs() && r.ports[h.port].index != 0 {
			entries = append(entries, entry{index: r.ports[h.port].index, addr: h.addr})
		}
	}
	return r.releaseEntries(entries)
}

func (r *resolver) releaseEntries(entries []entry) error {
	put := func(i int, e *encoder) { putRelease(e, entries[i].index, entries[i].addr) }
	var failed error
	err := r.conn.batch(len(entries), put, func(i int, m *message) {
		if err := m.err(); err != nil && !gone(err) {
			failed = err
		}
	})
	return errors.Join(err, failed)
}

// gone reports whether an error says that the entry or its interface is there
// no longer, of which the kernel notifies in due course.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENETDOWN)
}

// releaseAll gives back all neighbours.
func (r *resolver) releaseAll() error {
	hops := make([]*hop, 0, len(r.hops))
	for _, h := range r.hops {
		hops = append(hops, h)
	}
	return r.leaveToKernel(hops)
}

// releaseForeign gives back the neighbours that a process before this one has
// left managed and that are no longer wanted.
func (r *resolver) releaseForeign() error {
	var all []entry
	err := r.conn.dump(putEntries, func() { all = nil }, func(m *message) {
		if n, ok := parseEntry(m.body); ok && n.isOurs() && r.hopOf(&n) == nil {
			all = append(all, n)
		}
	})
	if err != nil {
		return err
	}
	return r.releaseEntries(all)
}
