package member

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"fairlead/cluster"
)

// Topics of this package between peers.
const (
	topicHello cluster.Topic = "member/hello"
	topicRing  cluster.Topic = "member/ring"
)

// Rotation is what a rotation of the gossip key has done.
type Rotation struct {
	Before, After string   // fingerprints of the key in use
	Nodes         []string // that have taken part, this one among them
	Resumed       bool     // it went on with one that had not been finished
}

// ErrRotationElsewhere says that another node rotates the key at the same time.
var ErrRotationElsewhere = errors.New("another node rotates the gossip key at the same time; its key holds")

// MissedError says which members could not be brought to take a step.
type MissedError struct {
	Phase string
	Nodes map[string]error
}

func (e *MissedError) Error() string {
	var parts []string
	for name, err := range e.Nodes {
		parts = append(parts, fmt.Sprintf("%s: %v", name, err))
	}
	slices.Sort(parts)
	return fmt.Sprintf("not every member has the step %q (%s); all keys of before still hold: rotate again to go on", e.Phase, strings.Join(parts, "; "))
}

// retryStep is how long a step waits before it asks those again that failed.
const retryStep = 200 * time.Millisecond

// RotateKey gives all members a new gossip key and takes the one in use away from
// them, in steps that leave every two nodes a common key. A step that a member
// does not take is tried again until ctx ends; then nothing is lost, and the next
// RotateKey, on any node, goes on from there. Members that are dead or come later
// get the keys when they join.
func (m *Members) RotateKey(ctx context.Context) (Rotation, error) {
	if m.list == nil {
		return Rotation{}, errors.New("this node has not joined the cluster yet")
	}
	m.count.rotations.Add(1)
	r := m.keys.current()
	done := Rotation{Before: Fingerprint(r.Keys[0]), Resumed: r.Phase != settled}
	if r.Phase == switched {
		done.Before = Fingerprint(r.Keys[1])
	}
	if r.Phase == settled {
		fresh := make([]byte, keySize)
		rand.Read(fresh) // it never fails: see crypto/rand
		r = m.next(added, r.Keys[0], fresh)
	}
	for {
		if _, err := m.keys.take(&r, true); err != nil {
			return done, err
		}
		nodes, err := m.distribute(ctx, &r)
		if err != nil {
			return done, err
		}
		done.Nodes, done.After = nodes, Fingerprint(r.Keys[0])
		switch r.Phase {
		case added:
			r = m.next(switched, r.Keys[1], r.Keys[0])
		case switched:
			r = m.next(settled, r.Keys[0])
		default:
			m.log.Info("the gossip key is rotated", "before", done.Before, "after", done.After, "nodes", len(nodes))
			return done, nil
		}
	}
}

func (m *Members) next(phase string, keys ...[]byte) ring {
	now := m.keys.current()
	return ring{Version: now.Version + 1, By: m.identity.Name(), Phase: phase, Keys: keys}
}

// distribute gives a ring to all members and waits until all have it.
func (m *Members) distribute(ctx context.Context, r *ring) ([]string, error) {
	message, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	have, why := map[string]bool{m.identity.Name(): true}, map[string]error{}
	for {
		if now := m.keys.current(); now.compare(r) != 0 {
			return nil, ErrRotationElsewhere
		}
		missed := &MissedError{Phase: r.Phase, Nodes: map[string]error{}}
		names := []string{}
		for _, n := range m.All() {
			if !n.State.Serves() {
				continue
			}
			if names = append(names, n.Name); !have[n.Name] {
				missed.Nodes[n.Name] = nil
			}
		}
		type answer struct {
			name string
			err  error
		}
		answers := make(chan answer, len(missed.Nodes))
		for name := range missed.Nodes {
			go func() {
				ctx, cancel := context.WithTimeout(ctx, helloTimeout)
				defer cancel()
				_, err := m.peers.Call(ctx, name, topicRing, message)
				answers <- answer{name, err}
			}()
		}
		for range cap(answers) {
			if a := <-answers; a.err == nil {
				have[a.name] = true
				delete(missed.Nodes, a.name)
			} else {
				if why[a.name] == nil || ctx.Err() == nil { // that time was over says less than what was before
					why[a.name] = a.err
				}
				missed.Nodes[a.name] = why[a.name]
			}
		}
		if len(missed.Nodes) == 0 {
			return names, nil
		}
		select {
		case <-ctx.Done():
			return nil, missed
		case <-m.running.Done():
			return nil, errors.New("this node stops")
		case <-time.After(retryStep):
		}
	}
}

// takeRing is asked by a node that rotates the key.
func (m *Members) takeRing(_ context.Context, from string, request []byte) ([]byte, error) {
	var r ring
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, fmt.Errorf("gossip keys: %w", err)
	}
	if _, err := m.keys.take(&r, true); err != nil {
		return nil, err
	}
	if now := m.keys.current(); now.compare(&r) != 0 {
		return nil, fmt.Errorf("the node has gossip keys of version %d by %q, which are newer", now.Version, now.By)
	}
	return nil, nil
}

// offer gives this node's keys to one that may have older ones: whenever a
// connection to it stands.
func (m *Members) offer(name string) {
	r := m.keys.current()
	if message, err := json.Marshal(&r); err == nil {
		// A node that does not get them asks by itself.
		_ = m.peers.Send(name, topicRing, message)
	}
}

// hear takes keys that were offered.
func (m *Members) hear(from string, message []byte) {
	var r ring
	if err := json.Unmarshal(message, &r); err != nil {
		m.log.Warn("gossip keys of another node cannot be read", "node", from, "error", err)
		return
	}
	if _, err := m.keys.take(&r, m.hasJoined()); err != nil {
		m.log.Warn("gossip keys of another node are not taken", "node", from, "error", err)
	}
}
