package node

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync"

	"fairlead/controlplane/announce"
	"fairlead/controlplane/announce/l2announce"
	"fairlead/xdp/steer"
)

// Owner says whether a VIP that this node may answer for is this node's at the
// moment: its ARP requests and neighbour solicitations are answered, and it is
// announced. It is asked whenever addresses change, and by Reown.
type Owner func(vip netip.Addr) bool

// ownership is which addresses this node answers for on the wire, and their
// announcements.
type ownership struct {
	announcer *l2announce.Announcer // nil when nothing is announced, and before Start
	cluster   *owning               // nil for a node that is alone
	continued bool                  // the process before has said that this one goes on

	mu     sync.Mutex
	owns   Owner               // nil: every one
	routed map[netip.Addr]bool // VIPs that BGP peers are told of, now or when they serve
	stale  bool                // routed is another than what is announced by
}

// startAnnouncing begins to announce addresses by ARP and neighbour discovery.
func (n *Node) startAnnouncing(ctx context.Context) error {
	c := &n.cfg.ARP
	if !c.Announce {
		return nil
	}
	l2 := l2announce.Config{
		Place: l2announce.Place(c.Interfaces), Repeat: c.Repeat, RepeatInterval: c.RepeatInterval,
		Refresh: c.Refresh, Rate: c.Rate, Detect: c.DetectConflicts, Log: n.log,
	}
	if n.ownership.cluster != nil {
		l2.Grace = takenBy
	}
	for _, i := range n.cfg.Interfaces {
		l2.Interfaces = append(l2.Interfaces, l2announce.Interface{Name: i.Name, MAC: i.MAC})
	}
	a, err := l2announce.Start(ctx, l2)
	if err != nil {
		return err
	}
	n.OnAnnounce(n.setRouted)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ownership.announcer = a
	n.announceOwned()
	return nil
}

// setRouted is told which VIPs there are and whether BGP peers are told of them.
// It only takes that down: the node looks at it soon.
func (n *Node) setRouted(vips []announce.VIP) {
	routed := make(map[netip.Addr]bool)
	for i := range vips {
		if vips[i].Withheld != announce.Off {
			routed[vips[i].Address] = true
		}
	}
	n.ownership.mu.Lock()
	defer n.ownership.mu.Unlock()
	n.ownership.stale = n.ownership.stale || !maps.Equal(routed, n.ownership.routed)
	n.ownership.routed = routed
}

// SetOwner says which VIPs are this node's from now on; nil stands for all. It
// takes effect before it returns: what is no longer ours is no longer answered
// for, and what has become ours is answered for and announced. Packets to all
// VIPs are forwarded all the same.
func (n *Node) SetOwner(owns Owner) error {
	n.ownership.mu.Lock()
	n.ownership.owns = owns
	n.ownership.mu.Unlock()
	return n.Reown()
}

// Reown asks the Owner again.
func (n *Node) Reown() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.data == nil && !n.used {
		return nil // nothing is steered yet
	}
	if _, _, err := n.steer.SetLocals(n.owned(n.image.locals)); err != nil {
		return fmt.Errorf("answer for other addresses: %w", err)
	}
	n.announceOwned()
	return nil
}

// owned are locals, of which those VIPs that are not this node's at the moment
// are not answered for. The XDP program leaves questions for them to the host,
// which does not answer, as it does not have them.
func (n *Node) owned(locals []steer.Local) []steer.Local {
	n.ownership.mu.Lock()
	owns := n.ownership.owns
	n.ownership.mu.Unlock()
	if n.announce.silent.Load() {
		owns = func(netip.Addr) bool { return false }
	}
	if owns == nil {
		return locals
	}
	out := make([]steer.Local, len(locals))
	for i, l := range locals {
		if l.Kind == steer.VIP && l.AnswerARP {
			l.AnswerARP = owns(l.Addr)
		}
		out[i] = l
	}
	return out
}

// announceOwned has the addresses announced that are answered for now, without
// those of tunnels, which are the host's own. The node's lock is held.
func (n *Node) announceOwned() {
	if n.ownership.announcer == nil {
		return
	}
	n.ownership.mu.Lock()
	routed := n.ownership.routed
	n.ownership.stale = false
	n.ownership.mu.Unlock()
	var addrs []l2announce.Address
	for _, l := range n.owned(n.image.locals) {
		if l.AnswerARP && l.Kind != steer.Tunnel {
			addrs = append(addrs, l2announce.Address{Addr: l.Addr, Routed: l.Kind == steer.VIP && routed[l.Addr]})
		}
	}
	n.ownership.announcer.SetAddresses(addrs)
	n.ownership.announcer.SetActive(n.data != nil)
}

// announceWhileForwarding has nothing announced while no data process forwards,
// and follows what BGP peers are told.
func (n *Node) announceWhileForwarding() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ownership.announcer == nil {
		return
	}
	n.ownership.mu.Lock()
	stale := n.ownership.stale
	n.ownership.mu.Unlock()
	if stale {
		n.announceOwned()
	}
	n.ownership.announcer.SetActive(n.data != nil)
}

// conflicts are warnings of other hosts that claim addresses of this node.
func (n *Node) conflicts() (warnings []string) {
	if n.ownership.announcer == nil {
		return nil
	}
	for _, a := range n.ownership.announcer.Conflicts() {
		warnings = append(warnings, fmt.Sprintf("address %s is also claimed by %s on interface %s", a.Address, net.HardwareAddr(a.Conflict.MAC[:]), a.Conflict.Interface))
	}
	return warnings
}

// Announced tells how addresses are announced by ARP and neighbour discovery;
// ok is false when they are not.
func (n *Node) Announced() (list []l2announce.AddressStatus, counters l2announce.Counters, ok bool) {
	n.mu.Lock()
	a := n.ownership.announcer
	n.mu.Unlock()
	if a == nil {
		return nil, counters, false
	}
	list, counters = a.Status()
	return list, counters, true
}
