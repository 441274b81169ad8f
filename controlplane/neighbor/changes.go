package neighbor

import (
	"net/netip"
	"sync"
)

// Bounds of what is remembered one by one; beyond them everything is read
// again, which costs less.
const (
	maxChangedEntries  = 1 << 16
	maxChangedPrefixes = 1 << 12
)

// changes collects what has changed until somebody takes it.
type changes struct {
	wake chan struct{} // has one element while there is something to take

	mu    sync.Mutex
	set   changeSet
	ended bool // nobody takes anything any more
}

// changeSet is what has changed. Of each thing only the last state is kept.
type changeSet struct {
	everything bool // read all of the kernel's tables again
	links      map[int]linkChange
	routes     bool           // any route may have changed
	prefixes   []netip.Prefix // these may lead elsewhere
	entries    map[entryKey]entry
	wanted     []*wanted    // the last one counts
	added      []netip.Addr // targets besides those of wanted
	asked      []chan<- []Way
}

// wanted is what SetTargets was called with.
type wanted struct {
	targets []netip.Addr
	statics map[netip.Addr]static
	ready   chan struct{} // closed when it is in force and settled
}

// linkChange is an interface's new state, or its end.
type linkChange struct {
	link
	gone bool
}

// entryKey is what an entry of the kernel's neighbour tables is found by.
type entryKey struct {
	index int
	addr  netip.Addr
}

func newChanges() *changes { return &changes{wake: make(chan struct{}, 1), set: emptySet()} }

func emptySet() changeSet {
	return changeSet{links: make(map[int]linkChange), entries: make(map[entryKey]entry)}
}

// take empties the set.
func (c *changes) take() changeSet {
	c.mu.Lock()
	defer c.mu.Unlock()
	set := c.set
	c.set = emptySet()
	return set
}

// note changes the set and wakes whoever takes it.
func (c *changes) note(f func(*changeSet)) {
	c.mu.Lock()
	f(&c.set)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *changes) want(w *wanted) {
	c.note(func(s *changeSet) {
		if c.ended {
			close(w.ready)
			return
		}
		s.wanted, s.added = append(s.wanted, w), nil
	})
}

func (c *changes) add(targets []netip.Addr) {
	c.note(func(s *changeSet) { s.added = append(s.added, targets...) })
}

// end lets go whoever waits for a view, now and from now on.
func (c *changes) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for _, w := range c.set.wanted {
		close(w.ready)
	}
	for _, answer := range c.set.asked {
		close(answer)
	}
	c.set = emptySet()
}

// everything forgets the single changes: they are in what will be read.
func (c *changes) everything() { c.note((*changeSet).readAgain) }

func (s *changeSet) readAgain() {
	wanted, added, asked := s.wanted, s.added, s.asked
	*s = emptySet()
	s.everything, s.routes, s.wanted, s.added, s.asked = true, true, wanted, added, asked
}

func (s *changeSet) entry(n entry) {
	if s.everything {
		return
	}
	if len(s.entries) >= maxChangedEntries {
		s.readAgain()
		return
	}
	s.entries[entryKey{n.index, n.addr}] = n
}

func (s *changeSet) prefix(p netip.Prefix) {
	if s.routes {
		return
	}
	if len(s.prefixes) >= maxChangedPrefixes {
		s.anyRoute()
		return
	}
	s.prefixes = append(s.prefixes, p)
}

func (s *changeSet) anyRoute() { s.routes, s.prefixes = true, nil }
