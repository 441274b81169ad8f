package clustertest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"fairlead/cluster"
)

// members implements cluster.Members.
type members struct {
	node     *Node
	watchers *watchers[[]cluster.Node]

	mu       sync.Mutex
	all      []cluster.Node
	handlers map[cluster.Topic]func([]byte)
}

func newMembers(n *Node) *members {
	return &members{node: n, watchers: newWatchers[[]cluster.Node](n.world), handlers: map[cluster.Topic]func([]byte){}}
}

// look brings what the node sees of the others up to date.
func (m *members) look(nodes []*Node) {
	w := m.node.world
	var all []cluster.Node
	w.mu.Lock()
	self := m.node.alive
	for _, o := range nodes {
		info := o.info
		if o != m.node && info.State == cluster.Alive && !w.reaches(m.node, o) {
			info.State = cluster.Dead
		}
		all = append(all, info)
	}
	w.mu.Unlock()
	if !self {
		return
	}
	all = sorted(all)
	m.mu.Lock()
	defer m.mu.Unlock()
	same := len(all) == len(m.all)
	for i := range all {
		before := slices.IndexFunc(m.all, func(o cluster.Node) bool { return o.Name == all[i].Name })
		if before >= 0 && m.all[before].State == all[i].State {
			all[i].Changed = m.all[before].Changed
			same = same && m.all[before].Started.Equal(all[i].Started)
			continue
		}
		all[i].Changed = time.Now()
		same = false
	}
	if same {
		return
	}
	m.all = all
	m.watchers.tell(slices.Clone(all))
}

func (m *members) Self() cluster.Node {
	m.node.world.mu.Lock()
	defer m.node.world.mu.Unlock()
	return m.node.info
}

func (m *members) All() []cluster.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.all)
}

func (m *members) Watch(f func([]cluster.Node)) (stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.watchers.add(slices.Clone(m.all), nil, f)
}

func (m *members) Broadcast(topic cluster.Topic, message []byte) error {
	if len(message) > cluster.MaxGossip {
		return fmt.Errorf("a gossip message of %d bytes: want at most %d", len(message), cluster.MaxGossip)
	}
	w := m.node.world
	message = slices.Clone(message)
	for _, o := range w.others(m.node) {
		if w.loses() {
			continue
		}
		w.after(w.transit(), func() {
			if !w.reach(m.node, o) {
				return
			}
			o.members.mu.Lock()
			f := o.members.handlers[topic]
			o.members.mu.Unlock()
			if f != nil {
				f(message)
			}
		})
	}
	return nil
}

func (m *members) Receive(topic cluster.Topic, f func([]byte)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.handlers[topic] = f
}
