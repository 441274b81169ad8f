package member

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/hashicorp/memberlist"

	"fairlead/cluster"
)

// A message to all is one byte for the format, eight that nobody else has chosen,
// the length of the topic, the topic, and what is said. A node passes every one on
// that it has not seen before, so it reaches all with high probability, and what
// is said repairs the rest by other means.
const (
	spreadFormat = 1
	spreadID     = 8
	maxTopic     = 40

	// maxWaiting is how many messages may wait to be passed on; the oldest are
	// dropped.
	maxWaiting = 4096
	// maxSeen is how many messages are remembered, twice.
	maxSeen = 1 << 15
)

// spread is the messages to all that are on their way through this node.
type spread struct {
	queue memberlist.TransmitLimitedQueue

	mu        sync.Mutex
	seen, old map[[16]byte]struct{}
}

func (s *spread) init(nodes func() int) {
	// Each node passes a message on 6 times in a cluster of 10, and 9 times in one
	// of 100: e^-6 and e^-9 of the nodes get none of these.
	s.queue = memberlist.TransmitLimitedQueue{RetransmitMult: 3, NumNodes: func() int { return max(nodes(), 10) }}
	s.seen, s.old = map[[16]byte]struct{}{}, map[[16]byte]struct{}{}
}

// first reports whether a message is seen for the first time.
func (s *spread) first(message []byte) bool {
	sum := sha256.Sum256(message)
	id := [16]byte(sum[:16])
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.seen[id]; ok {
		return false
	}
	if _, ok := s.old[id]; ok {
		return false
	}
	if len(s.seen) >= maxSeen {
		s.seen, s.old = map[[16]byte]struct{}{}, s.seen
	}
	s.seen[id] = struct{}{}
	return true
}

// pass has a message go to others.
func (s *spread) pass(message []byte) (dropped bool) {
	s.queue.QueueBroadcast(broadcast(message))
	if s.queue.NumQueued() > maxWaiting {
		s.queue.Prune(maxWaiting)
		return true
	}
	return false
}

// broadcast is one message in memberlist's queue.
type broadcast []byte

func (b broadcast) Invalidates(memberlist.Broadcast) bool { return false }
func (b broadcast) Message() []byte                       { return b }
func (b broadcast) Finished()                             {}

// UniqueBroadcast says that none replaces another one.
func (b broadcast) UniqueBroadcast() {}

// Broadcast implements cluster.Members.
func (m *Members) Broadcast(topic cluster.Topic, message []byte) error {
	if len(message) > cluster.MaxGossip {
		return fmt.Errorf("a message of %d bytes cannot be gossiped: want at most %d", len(message), cluster.MaxGossip)
	}
	if len(topic) == 0 || len(topic) > maxTopic {
		return fmt.Errorf("%q is no topic for gossip", topic)
	}
	out := make([]byte, 1+spreadID, 1+spreadID+1+len(topic)+len(message))
	out[0] = spreadFormat
	rand.Read(out[1 : 1+spreadID]) // it never fails: see crypto/rand
	out = append(out, byte(len(topic)))
	out = append(append(out, topic...), message...)
	m.spread.first(out)
	m.count.sent.Add(1)
	if m.spread.pass(out) {
		m.count.dropped.Add(1)
	}
	return nil
}

// Receive implements cluster.Members.
func (m *Members) Receive(topic cluster.Topic, f func([]byte)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.receivers[topic] = f
}

// heard takes a message of another node.
func (m *Members) heard(message []byte) {
	const head = 1 + spreadID + 1
	if len(message) < head || message[0] != spreadFormat || len(message) < head+int(message[head-1]) ||
		len(message) > head+maxTopic+cluster.MaxGossip {
		m.count.unreadable.Add(1)
		return
	}
	if !m.spread.first(message) {
		m.count.repeated.Add(1)
		return
	}
	m.count.received.Add(1)
	if m.spread.pass(append([]byte(nil), message...)) {
		m.count.dropped.Add(1)
	}
	topic := cluster.Topic(message[head : head+int(message[head-1])])
	m.mu.Lock()
	f := m.receivers[topic]
	m.mu.Unlock()
	if f == nil { // of newer software; it is passed on all the same
		m.count.unknown.Add(1)
		return
	}
	f(message[head+len(topic):])
}
