package store

import (
	"slices"
	"strings"
	"sync"

	"fairlead/cluster"
)

// watchers are those who want to know of changes. Its order is that of calls of
// tell, which the store's lock gives.
type watchers struct {
	running sync.WaitGroup

	mu     sync.Mutex
	closed bool
	list   map[*watcher]bool
}

// watcher has its changes waiting for it. There is at most one of a key: the
// last.
type watcher struct {
	prefix string
	f      func([]cluster.Entry)

	mu      sync.Mutex
	wake    *sync.Cond
	waiting []cluster.Entry
	at      map[string]int // where a key waits
	holes   int            // in waiting: replaced by a later one
	ended   bool
}

func newWatchers() *watchers { return &watchers{list: map[*watcher]bool{}} }

// add begins with first.
func (ws *watchers) add(prefix string, first []cluster.Entry, f func([]cluster.Entry)) (stop func()) {
	w := &watcher{prefix: prefix, f: f, at: map[string]int{}}
	w.wake = sync.NewCond(&w.mu)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.closed {
		return func() {}
	}
	ws.list[w] = true
	ws.running.Go(func() { w.run(first) })
	return func() {
		ws.mu.Lock()
		delete(ws.list, w)
		ws.mu.Unlock()
		w.end()
	}
}

// tell gives a change to those it is for. It does not wait for them.
func (ws *watchers) tell(e cluster.Entry) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for w := range ws.list {
		if strings.HasPrefix(e.Key, w.prefix) {
			w.push(e)
		}
	}
}

// close ends all and waits until the last call has returned.
func (ws *watchers) close() {
	ws.mu.Lock()
	ws.closed = true
	for w := range ws.list {
		w.end()
	}
	ws.mu.Unlock()
	ws.running.Wait()
}

func (w *watcher) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.wake.Signal()
}

func (w *watcher) push(e cluster.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i, ok := w.at[e.Key]; ok {
		w.waiting[i].Key = "" // a hole: no entry has an empty key
		if w.holes++; w.holes > 64 && w.holes > len(w.waiting)/2 {
			w.pack()
		}
	}
	w.at[e.Key] = len(w.waiting)
	w.waiting = append(w.waiting, e)
	w.wake.Signal()
}

// pack closes the holes.
func (w *watcher) pack() {
	w.waiting = slices.DeleteFunc(w.waiting, func(e cluster.Entry) bool { return e.Key == "" })
	for i, e := range w.waiting {
		w.at[e.Key] = i
	}
	w.holes = 0
}

func (w *watcher) run(batch []cluster.Entry) {
	for {
		w.mu.Lock()
		ended := w.ended
		w.mu.Unlock()
		if ended {
			return
		}
		w.f(batch)
		w.mu.Lock()
		for len(w.waiting) == 0 && !w.ended {
			w.wake.Wait()
		}
		w.pack()
		batch = w.waiting
		w.waiting = nil
		clear(w.at)
		w.mu.Unlock()
	}
}
