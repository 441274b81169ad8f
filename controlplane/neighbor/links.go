package neighbor

import (
	"maps"

	"golang.org/x/sys/unix"
)

// readLinks reads all interfaces of the host.
func (r *resolver) readLinks() error {
	var links map[int]link
	err := r.conn.dump(putLinks, func() { links = make(map[int]link) }, func(m *message) {
		if l, ok := parseLink(m.body); ok {
			links[l.index] = l
		}
	})
	if err != nil {
		return err
	}
	r.links = links
	r.findPorts()
	return nil
}

// takeLinks takes changed interfaces over and reports whether routes may have
// changed with them.
func (r *resolver) takeLinks(changed map[int]linkChange) (routes bool) {
	const running = unix.IFF_UP | unix.IFF_RUNNING
	for index, l := range changed {
		before, known := r.links[index]
		if l.gone {
			delete(r.links, index)
			routes = routes || known
			continue
		}
		r.links[index] = l.link
		routes = routes || !known || before.flags&running != l.flags&running
	}
	if len(changed) > 0 && r.findPorts() {
		routes = true
	}
	return routes
}

// findPorts finds our interfaces among the host's and reports whether one is
// another one than before.
func (r *resolver) findPorts() (other bool) {
	for i := range r.ports {
		p := &r.ports[i]
		now := link{}
		for l := range maps.Values(r.links) {
			if l.called(p.Interface.Name) {
				now = l
				break
			}
		}
		if now.index == 0 {
			now.mac, now.mtu = p.link.mac, p.link.mtu
		}
		if now.index != p.index {
			other = true
			r.replaced(i, now.index)
		}
		if now.index != p.index || now.mac != p.link.mac || now.mtu != p.link.mtu {
			r.dirty = true
		}
		p.link = now
	}
	return other
}

// replaced says that an interface has gone or come. What the kernel knew of
// its neighbours is gone; their MAC addresses are remembered.
func (r *resolver) replaced(port, index int) {
	if index == 0 {
		r.log.Warn("interface is gone", "interface", r.ports[port].Interface.Name)
	} else {
		r.log.Info("interface is there", "interface", r.ports[port].Interface.Name, "index", index)
	}
	for _, h := range r.hops {
		if h.port == port && !h.static {
			h.entry, h.asked, h.tries = entry{}, false, 0
			if h.users > 0 {
				r.unread[h] = struct{}{}
			}
		}
	}
}
