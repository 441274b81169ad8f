package member

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"fairlead/cluster"
)

// helloTimeout bounds one question to another node.
const helloTimeout = 2 * time.Second

// hello is how a node greets another one: who it is, and which keys it has. What
// either side does not know of the other's message it ignores.
type hello struct {
	Meta    []byte `json:"meta"`
	Keys    ring   `json:"keys"` // without the keys themselves when they are not newer than what the other may have
	Joined  bool   `json:"joined"`
	Version int    `json:"version"`
}

// welcome answers a hello.
type welcome struct {
	Name   string `json:"name"`
	Meta   []byte `json:"meta"`
	Keys   *ring  `json:"keys,omitempty"` // when they are not those of the hello
	Joined bool   `json:"joined"`
	Knows  bool   `json:"knows"`           // the one who answers has the other as a living member, as it describes itself
	Taken  []byte `json:"taken,omitempty"` // meta of another node with the name, which lives
}

const helloVersion = 1

// handle registers what this package answers.
func (m *Members) handle() {
	m.peers.Handle(topicHello, m.greeted)
	m.peers.Handle(topicRing, m.takeRing)
	m.peers.Listen(topicRing, m.hear)
	m.peers.OnUp(m.offer)
}

func (m *Members) hasJoined() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.joined
}

func (m *Members) ownHello() hello {
	return hello{Meta: m.Meta(), Keys: m.keys.current(), Joined: m.hasJoined(), Version: helloVersion}
}

// greeted answers a hello of the node that has proved to be from.
func (m *Members) greeted(_ context.Context, from string, request []byte) ([]byte, error) {
	var h hello
	if err := json.Unmarshal(request, &h); err != nil {
		return nil, fmt.Errorf("hello: %w", err)
	}
	d, err := decode(m.identity, from, h.Meta)
	if err != nil {
		return nil, fmt.Errorf("hello: %w", err)
	}
	if err := h.Keys.check(); err != nil {
		return nil, fmt.Errorf("hello: %w", err)
	}
	w := welcome{Name: m.identity.Name(), Meta: m.Meta(), Joined: m.hasJoined()}
	r, known := m.table.get(from)
	switch {
	case known && r.state.Serves() && (!bytes.Equal(r.said.Key, d.Key) || from == m.identity.Name() && d.Epoch != m.epoch):
		w.Taken = r.meta
		m.noteConflict(d, &r.said)
		if from == m.identity.Name() {
			m.meetNamesake(d, h.Joined)
		}
	case known && r.state.Serves() && bytes.Equal(r.meta, h.Meta):
		w.Knows = true
	}
	if w.Taken == nil {
		// Keys of a node that was in another half of a partition may be newer.
		if h.Joined {
			if _, err := m.keys.take(&h.Keys, m.hasJoined()); err != nil {
				m.log.Warn("gossip keys of another node are not taken", "node", from, "error", err)
			}
		}
		if own := m.keys.current(); own.compare(&h.Keys) != 0 {
			w.Keys = &own
		}
	}
	return json.Marshal(&w)
}

// noteConflict logs that two nodes have one name.
func (m *Members) noteConflict(refused, known *description) {
	m.count.conflicts.Add(1)
	m.log.Error("two nodes of the cluster have one name; the second one is refused", "node", refused.Name, "refused", refused.Gossip, "known", known.Gossip)
}

// meetNamesake decides which of two nodes with one name goes on: the one that is
// in the cluster, and of two that both are or both are not, the one that has run
// for longer.
func (m *Members) meetNamesake(other *description, otherJoined bool) {
	own := m.hasJoined()
	loses := otherJoined
	if own == otherJoined {
		loses = other.Started.Before(m.started.Truncate(time.Millisecond)) ||
			other.Started.Equal(m.started.Truncate(time.Millisecond)) && bytes.Compare(other.Key, m.identity.PublicKey()) < 0
	}
	if loses {
		m.fail(&NameTakenError{Name: m.identity.Name(), Other: other.Gossip})
	}
}

// ErrSelf is what a Dial fails with when the node has reached itself.
var ErrSelf = errors.New("this is the node itself")

// met is another node that has answered a hello.
type met struct {
	description
	knows bool // this node
}

// greet says hello to whoever takes streams at an address, and takes the keys that
// it has. The error is NameTakenError when this node cannot be in the cluster.
func (m *Members) greet(ctx context.Context, at netip.AddrPort) (*met, error) {
	h := m.ownHello()
	request, err := json.Marshal(&h)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	from, answer, err := m.dial(ctx, at, topicHello, request)
	if err != nil {
		return nil, err
	}
	return m.welcomed(from, answer)
}

// ask is greet of a member that there is a connection to.
func (m *Members) ask(ctx context.Context, name string) (*met, error) {
	h := m.ownHello()
	request, err := json.Marshal(&h)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	answer, err := m.peers.Call(ctx, name, topicHello, request)
	if err != nil {
		return nil, err
	}
	return m.welcomed(name, answer)
}

func (m *Members) welcomed(from string, answer []byte) (*met, error) {
	var w welcome
	if err := json.Unmarshal(answer, &w); err != nil {
		return nil, fmt.Errorf("answer of %s to hello: %w", from, err)
	}
	d, err := decode(m.identity, from, w.Meta)
	if err != nil {
		return nil, fmt.Errorf("answer of %s to hello: %w", from, err)
	}
	if bytes.Equal(d.Key, m.identity.PublicKey()) && d.Epoch == m.epoch {
		return &met{description: *d, knows: true}, nil // this node itself
	}
	if w.Taken != nil {
		other, err := decode(m.identity, m.identity.Name(), w.Taken)
		if err != nil {
			return nil, fmt.Errorf("answer of %s to hello: %w", from, err)
		}
		// Whoever answers for another one is in the cluster with it.
		m.meetNamesake(other, w.Joined || from != m.identity.Name())
		return nil, &NameTakenError{Name: m.identity.Name(), Other: other.Gossip}
	}
	if w.Keys != nil {
		if _, err := m.keys.take(w.Keys, m.hasJoined()); err != nil {
			return nil, fmt.Errorf("gossip keys of %s: %w", from, err)
		}
	}
	return &met{description: *d, knows: w.Knows}, nil
}

var _ cluster.Members = (*Members)(nil)
