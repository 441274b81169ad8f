package peer

import (
	"context"
	"crypto/ed25519"
	"net/netip"

	"fairlead/cluster"
)

// Visit is a connection for calls to a node that need not be a member, nor take
// this node for one: for what is asked before a node joins.
type Visit struct{ s *session }

// Dial connects to whichever node of the cluster takes streams at an address.
// ErrSelf says that it is this node. That another node has this node's name does
// not keep it from asking.
func (p *Peers) Dial(ctx context.Context, addr netip.AddrPort) (*Visit, error) {
	if !p.enter() {
		return nil, errClosing
	}
	defer p.leave()
	l, err := p.connect(ctx, "", addr, useVisit)
	if err != nil {
		return nil, err
	}
	s := p.newSession(l)
	s.visiting = true
	if err := s.start(nil); err != nil {
		return nil, err
	}
	return &Visit{s}, nil
}

// Node is who is there, as it has proved.
func (v *Visit) Node() string { return v.s.name }

// Key is that node's.
func (v *Visit) Key() ed25519.PublicKey { return v.s.link.key }

// Call is as cluster.Peers.Call.
func (v *Visit) Call(ctx context.Context, topic cluster.Topic, request []byte) ([]byte, error) {
	if err := checkMessage(topic, request); err != nil {
		return nil, err
	}
	return v.s.call(ctx, topic, request)
}

// Close ends the connection.
func (v *Visit) Close() { v.s.end(errClosing) }
