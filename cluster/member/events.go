package member

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"fairlead/cluster"
)

// What memberlist calls is called with its lock held: nothing here calls it back.

// NodeMeta implements memberlist.Delegate.
func (m *Members) NodeMeta(int) []byte { return m.Meta() }

// NotifyMsg implements memberlist.Delegate: a message of another node, by gossip.
func (m *Members) NotifyMsg(message []byte) { m.heard(message) }

// GetBroadcasts implements memberlist.Delegate.
func (m *Members) GetBroadcasts(overhead, limit int) [][]byte {
	return m.spread.queue.GetBroadcasts(overhead, limit)
}

// LocalState implements memberlist.Delegate: what nodes share goes by streams of
// its own.
func (m *Members) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (m *Members) MergeRemoteState([]byte, bool) {}

// Errors of descriptions that are not taken.
var (
	errElsewhere = errors.New("it is said to be elsewhere than it says itself")
	errReplayed  = errors.New("it has said something else since")
	errNamesake  = errors.New("another node has the name, and lives")
)

// NotifyAlive implements memberlist.AliveDelegate: nothing about a member counts
// that it has not said and signed itself. memberlist drops the message when there
// is an error.
func (m *Members) NotifyAlive(n *memberlist.Node) error {
	if err := m.admit(n); err != nil {
		m.count.refused.Add(1)
		return err
	}
	return nil
}

func (m *Members) admit(n *memberlist.Node) error {
	known, ok := m.table.get(n.Name)
	self := n.Name == m.identity.Name()
	if ok && bytes.Equal(known.meta, n.Meta) && at(n) == known.said.Gossip {
		if !self && known.suspected && m.table.suspect(n.Name, false) {
			m.log.Debug("a suspected member is there", "node", n.Name)
		}
		return nil
	}
	d, err := decode(m.identity, n.Name, n.Meta)
	if err != nil {
		return err
	}
	if d.Gossip != at(n) {
		return errElsewhere
	}
	switch {
	case !ok:
		return nil
	case !bytes.Equal(known.said.Key, d.Key):
		if self {
			m.noteConflict(d, &known.said)
			m.meetNamesake(d, true)
			return errNamesake
		}
		if known.state.Serves() {
			m.noteConflict(d, &known.said)
			return errNamesake
		}
	case self:
		// What this node said before its start: memberlist refutes it.
	case known.said.newer(d):
		return errReplayed
	}
	return nil
}

// at is where memberlist takes a node to be.
func at(n *memberlist.Node) netip.AddrPort {
	a, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(a.Unmap(), n.Port)
}

// NotifyConflict implements memberlist.ConflictDelegate: a node that lives is
// said, by itself, to be at another address. Its old process is not known to be
// dead yet, or two machines have one state directory.
func (m *Members) NotifyConflict(existing, other *memberlist.Node) {
	m.log.Warn("a member has come up at another address while the old one is taken for alive; it is let in when that is dead", "node", other.Name, "known", at(existing), "now", at(other))
}

// events are what memberlist has found out.
type events struct{ m *Members }

// NotifyJoin implements memberlist.EventDelegate.
func (e events) NotifyJoin(n *memberlist.Node) { e.m.present(n) }

// NotifyUpdate implements memberlist.EventDelegate.
func (e events) NotifyUpdate(n *memberlist.Node) { e.m.present(n) }

// NotifyLeave implements memberlist.EventDelegate: the node has died or left.
func (e events) NotifyLeave(n *memberlist.Node) {
	m := e.m
	if n.Name == m.identity.Name() {
		return
	}
	r, ok := m.table.get(n.Name)
	if !ok {
		return
	}
	state := cluster.Dead
	if r.said.Leaving {
		state = cluster.Left
	}
	if m.table.gone(n.Name, state) {
		if state == cluster.Left {
			m.count.left.Add(1)
			m.log.Info("a member has left the cluster", "node", n.Name)
		} else {
			m.count.died.Add(1)
			m.log.Warn("a member of the cluster is dead", "node", n.Name, "address", r.said.Gossip)
		}
	}
}

// present notes a member that is there and has been admitted.
func (m *Members) present(n *memberlist.Node) {
	if n.Name == m.identity.Name() {
		return
	}
	d, err := decode(m.identity, n.Name, n.Meta)
	if err != nil { // it was admitted a moment ago: its key has been revoked since
		m.log.Warn("a member is not taken any more", "node", n.Name, "error", err)
		return
	}
	back := m.table.alive(d, n.Meta)
	m.mu.Lock()
	m.joined = true
	m.mu.Unlock()
	switch {
	case back:
		m.count.joined.Add(1)
		m.log.Info("a member is in the cluster", "node", d.Name, "address", d.Gossip, "stream", d.Stream, "version", d.Software)
	case d.Leaving:
		m.log.Info("a member is about to leave the cluster", "node", d.Name)
	}
}

// AckPayload implements memberlist.PingDelegate.
func (m *Members) AckPayload() []byte { return nil }

// NotifyPingComplete implements memberlist.PingDelegate.
func (m *Members) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, _ []byte) {
	m.count.rtt(rtt)
	m.table.suspect(n.Name, false)
}

// probeFailed notes that no way to a member had an answer in time.
func (m *Members) probeFailed(name string) {
	if m.table.suspect(name, true) {
		m.count.suspected.Add(1)
		m.log.Debug("a member does not answer", "node", name)
	}
}

// String names the members for messages of tests and logs.
func (m *Members) String() string {
	return fmt.Sprintf("%s at %s", m.identity.Name(), m.guard.address)
}
