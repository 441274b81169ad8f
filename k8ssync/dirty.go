package k8ssync

import (
	"sync"
	"time"

	"fairlead/k8ssync/kube"
)

// change is what is known of a change before it is looked at.
type change struct {
	at      time.Time // when this node learned of the first of it
	trigger time.Time // when what it is about has happened, as far as it says so; else zero
	// restored: the object, or something that it depends on, is gone by what an API
	// server has listed whose database is older than it was.
	restored bool
}

// dirty are the objects that have changed and were not looked at yet. However
// often one changes meanwhile, it is looked at once.
type dirty struct {
	ready chan struct{} // holds a token while there may be changes

	mu   sync.Mutex
	keys map[kube.Key]change
	all  bool
}

func newDirty() *dirty {
	return &dirty{ready: make(chan struct{}, 1), keys: map[kube.Key]change{}}
}

// mark notes a change.
func (d *dirty) mark(key kube.Key, c change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	put(d.keys, key, c)
	d.wake()
}

// put adds a change to those that are known of already.
func put(keys map[kube.Key]change, key kube.Key, c change) {
	if before, there := keys[key]; there {
		c.at, c.restored = before.at, c.restored || before.restored
		if !before.trigger.IsZero() {
			c.trigger = before.trigger
		}
	}
	keys[key] = c
}

// markAll has everything looked at.
func (d *dirty) markAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = true
	d.wake()
}

// touch has the loop look what has changed.
func (d *dirty) touch() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wake()
}

func (d *dirty) wake() {
	select {
	case d.ready <- struct{}{}:
	default:
	}
}

// take takes what has changed; all: look at everything, besides.
func (d *dirty) take() (keys map[kube.Key]change, all bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	keys, all = d.keys, d.all
	d.keys, d.all = make(map[kube.Key]change), false
	select {
	case <-d.ready:
	default:
	}
	return keys, all
}

// len is how many objects are known to have changed.
func (d *dirty) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.keys)
}
