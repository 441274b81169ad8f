package node

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"fairlead/controlplane/model"
)

// linksEvery is how often it is looked at whether interfaces have carrier.
const linksEvery = 250 * time.Millisecond

// links are the node's ways into the network, as the announcer has to know them.
type links struct {
	at   time.Time                    // when the interfaces were looked at
	able bool                         // a data process forwards, and not all interfaces are down
	down []string                     // interfaces that are gone or have no carrier
	ways map[netip.Addr]model.NextHop // while an interface is down
}

// look looks at the data process, and from time to time at the interfaces. Only
// the announcer's own goroutine calls it, without its lock: those who hold the
// node's may want it.
func (a *announcer) look(now time.Time) {
	n, l := a.node, a.links
	n.mu.Lock()
	l.able = n.data != nil && n.image.generation > 0
	names := make([]string, len(n.ports))
	for i := range n.ports {
		names[i] = n.ports[i].Name
	}
	n.mu.Unlock()
	if now.Sub(l.at) >= linksEvery {
		l.at, l.down = now, withoutCarrier(names)
	}
	l.able = l.able && len(l.down) < len(names)
	l.ways = nil
	if len(l.down) > 0 {
		l.ways = n.ways()
	}
	a.mu.Lock()
	a.links = l
	a.mu.Unlock()
}

// withoutCarrier are those of some interfaces that are gone or carry nothing.
func withoutCarrier(names []string) (down []string) {
	all, err := net.Interfaces()
	if err != nil {
		return nil // better to announce what cannot be reached than to withdraw what can
	}
	for _, name := range names {
		i := slices.IndexFunc(all, func(ifc net.Interface) bool { return ifc.Name == name })
		if i < 0 || all[i].Flags&net.FlagRunning == 0 {
			down = append(down, name)
		}
	}
	return down
}

// ways are the next hops that the node sees.
func (n *Node) ways() map[netip.Addr]model.NextHop {
	o := n.observer
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.latest == nil {
		return nil
	}
	return o.latest.NextHops
}
