package clustertest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"fairlead/cluster"
)

// compareEvery is how often a node takes over what others have.
const compareEvery = 20 * time.Millisecond

// store implements cluster.Store: what is put is sent to every node in reach,
// and nodes take over what others have newer, again and again.
type store struct {
	node     *Node
	watchers *watchers[[]cluster.Entry]
	synced   chan struct{}

	mu      sync.Mutex
	entries map[string]cluster.Entry
	clock   cluster.Version
}

func newStore(n *Node) *store {
	s := &store{node: n, watchers: newWatchers[[]cluster.Entry](n.world), synced: make(chan struct{}), entries: map[string]cluster.Entry{}}
	n.world.running.Go(s.run)
	return s
}

func (s *store) run() {
	ticker := time.NewTicker(compareEvery)
	defer ticker.Stop()
	first := true
	for {
		select {
		case <-s.node.world.closing:
			return
		case <-ticker.C:
		}
		for _, o := range s.node.world.others(s.node) {
			s.take(o.store.copy())
		}
		if first {
			first = false
			close(s.synced)
		}
	}
}

func (s *store) copy() []cluster.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.entries))
}

// take takes over what is newer than what is there.
func (s *store) take(entries []cluster.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var changed []cluster.Entry
	for _, e := range entries {
		if have, ok := s.entries[e.Key]; ok && have.Version.Compare(e.Version) >= 0 {
			continue
		}
		s.entries[e.Key] = e
		changed = append(changed, e)
		if e.Version.Compare(s.clock) > 0 {
			s.clock = e.Version
		}
	}
	if len(changed) > 0 {
		slices.SortFunc(changed, func(a, b cluster.Entry) int { return strings.Compare(a.Key, b.Key) })
		s.watchers.tell(changed)
	}
}

// restart forgets what no disk keeps.
func (s *store) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.entries, func(key string, _ cluster.Entry) bool { return strings.HasPrefix(key, cluster.LivePrefix) })
}

func (s *store) Put(key string, value []byte) error {
	return s.write(cluster.Entry{Key: key, Value: slices.Clone(value)})
}

func (s *store) Delete(key string) error {
	if _, ok := s.Get(key); !ok {
		return nil
	}
	return s.write(cluster.Entry{Key: key, Deleted: true})
}

func (s *store) write(e cluster.Entry) error {
	for _, prefix := range []string{cluster.NodePrefix, cluster.LivePrefix} {
		if rest, ok := strings.CutPrefix(e.Key, prefix); ok && !strings.HasPrefix(rest, s.node.name+"/") {
			return fmt.Errorf("%q is not for node %q to write", e.Key, s.node.name)
		}
	}
	s.mu.Lock()
	now := cluster.Version{Wall: time.Now().UnixMilli(), Writer: s.node.name}
	if now.Wall <= s.clock.Wall {
		now.Wall, now.Counter = s.clock.Wall, s.clock.Counter+1
	}
	e.Writer, e.Version = s.node.name, now
	s.mu.Unlock()
	s.take([]cluster.Entry{e})
	w := s.node.world
	for _, o := range w.others(s.node) {
		if w.loses() {
			continue
		}
		w.after(w.transit(), func() {
			if w.reach(s.node, o) {
				o.store.take([]cluster.Entry{e})
			}
		})
	}
	return nil
}

func (s *store) Get(key string) (cluster.Entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[key]
	if !ok || e.Deleted {
		return cluster.Entry{}, false
	}
	return e, true
}

func (s *store) List(prefix string) []cluster.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list(prefix)
}

func (s *store) list(prefix string) []cluster.Entry {
	var list []cluster.Entry
	for _, key := range slices.Sorted(maps.Keys(s.entries)) {
		if e := s.entries[key]; strings.HasPrefix(key, prefix) && !e.Deleted {
			list = append(list, e)
		}
	}
	return list
}

func (s *store) Watch(prefix string, f func([]cluster.Entry)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	below := func(batch []cluster.Entry) ([]cluster.Entry, bool) {
		var list []cluster.Entry
		for _, e := range batch {
			if strings.HasPrefix(e.Key, prefix) {
				list = append(list, e)
			}
		}
		return list, len(list) > 0
	}
	return s.watchers.add(s.list(prefix), below, f)
}

func (s *store) Synced() <-chan struct{} { return s.synced }
