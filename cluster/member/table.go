package member

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"fairlead/cluster"
)

// How long members that are gone are remembered, in the time that this process
// runs. Dead ones are looked for as long as they are remembered.
const (
	rememberDead = 72 * time.Hour
	rememberLeft = time.Hour
	maxRecords   = 4096
)

// record is what is known of a member.
type record struct {
	said  description
	meta  []byte
	state cluster.State
	// suspected says that this node's own probe of it has failed, and it has not
	// been heard of since.
	suspected bool
	barred    bool // it lives, and its key is revoked: see Reconsider
	changed   time.Time
}

func (r *record) node() cluster.Node {
	n := r.said.Node
	n.State, n.Changed = r.state, r.changed
	if r.suspected && r.state == cluster.Alive {
		n.State = cluster.Suspect
	}
	return n
}

// table is all members that are known, this node among them.
type table struct {
	mu       sync.Mutex
	records  map[string]*record
	aliases  map[netip.AddrPort]bool // addresses that turned out to be this node's own
	watchers map[int]*watcher
	next     int
	closed   bool
	ended    sync.WaitGroup
}

func (t *table) init() {
	t.records, t.watchers, t.aliases = map[string]*record{}, map[int]*watcher{}, map[netip.AddrPort]bool{}
}

// setAlias notes that this node is reached at an address of the seeds.
func (t *table) setAlias(at netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.aliases[at] = true
}

func (t *table) alias(at netip.AddrPort) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.aliases[at]
}

// put sets what is known of this node itself.
func (t *table) put(n cluster.Node, meta []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records[n.Name] = &record{said: description{Node: n}, meta: meta, state: cluster.Alive, changed: n.Changed}
	t.tell()
}

// alive notes that a member is there, as it describes itself. back says that it
// was not, or not as the one of that key.
func (t *table) alive(d *description, meta []byte) (back bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.records[d.Name]
	if r != nil && r.state == cluster.Alive && bytes.Equal(r.meta, meta) {
		if r.suspected {
			r.suspected = false
			t.tell()
		}
		return false
	}
	back = r == nil || !r.state.Serves()
	if r == nil {
		t.makeRoom()
		r = &record{}
		t.records[d.Name] = r
	}
	if back {
		r.changed = time.Now()
	}
	r.said, r.meta, r.state, r.suspected, r.barred = *d, bytes.Clone(meta), cluster.Alive, false, false
	t.tell()
	return back
}

// gone notes that a member has died or left.
func (t *table) gone(name string, state cluster.State) (was bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.records[name]
	if r == nil {
		return false
	}
	r.barred = false
	if !r.state.Serves() {
		return false
	}
	r.state, r.suspected, r.changed = state, false, time.Now()
	t.tell()
	return true
}

// suspect notes that this node's probe of a member has failed, or that it has
// been heard of.
func (t *table) suspect(name string, suspected bool) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.records[name]
	if r == nil || r.state != cluster.Alive || r.suspected == suspected {
		return false
	}
	r.suspected = suspected
	t.tell()
	return true
}

// get is a copy of what is known of a member.
func (t *table) get(name string) (record, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.records[name]; r != nil {
		return *r, true
	}
	return record{}, false
}

// forget drops those that have been gone for long.
func (t *table) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	dropped := false
	for name, r := range t.records {
		age := time.Since(r.changed)
		if r.state == cluster.Dead && age > rememberDead || r.state == cluster.Left && age > rememberLeft {
			delete(t.records, name)
			dropped = true
		}
	}
	if dropped {
		t.tell()
	}
}

// makeRoom drops the one that has been gone for longest when there are too many.
func (t *table) makeRoom() {
	if len(t.records) < maxRecords {
		return
	}
	oldest := ""
	for name, r := range t.records {
		if !r.state.Serves() && (oldest == "" || r.changed.Before(t.records[oldest].changed)) {
			oldest = name
		}
	}
	delete(t.records, oldest)
}

func (t *table) all() []cluster.Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.list()
}

func (t *table) list() []cluster.Node {
	out := make([]cluster.Node, 0, len(t.records))
	for _, r := range t.records {
		out = append(out, r.node())
	}
	slices.SortFunc(out, func(a, b cluster.Node) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// serving is how many members are counted on, this node among them.
func (t *table) serving() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.records {
		if r.state.Serves() {
			n++
		}
	}
	return n
}

// watcher is one that is told of every change, the last of several that came
// while it was busy.
type watcher struct {
	wake  chan struct{} // of capacity 1
	quit  chan struct{}
	close sync.Once
	nodes []cluster.Node // not yet told; guarded by the table
}

// tell has all watchers told. The lock is held.
func (t *table) tell() {
	if len(t.watchers) == 0 {
		return
	}
	nodes := t.list()
	for _, w := range t.watchers {
		w.nodes = nodes
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (t *table) watch(f func([]cluster.Node)) (stop func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return func() {}
	}
	w := &watcher{wake: make(chan struct{}, 1), quit: make(chan struct{}), nodes: t.list()}
	w.wake <- struct{}{}
	id := t.next
	t.next++
	t.watchers[id] = w
	t.ended.Go(func() {
		for {
			select {
			case <-w.quit:
				return
			case <-w.wake:
			}
			t.mu.Lock()
			nodes := slices.Clone(w.nodes)
			t.mu.Unlock()
			f(nodes)
		}
	})
	return func() {
		t.mu.Lock()
		delete(t.watchers, id)
		t.mu.Unlock()
		w.close.Do(func() { close(w.quit) })
	}
}

func (t *table) close() {
	t.mu.Lock()
	t.closed = true
	for id, w := range t.watchers {
		delete(t.watchers, id)
		w.close.Do(func() { close(w.quit) })
	}
	t.mu.Unlock()
	t.ended.Wait()
}
