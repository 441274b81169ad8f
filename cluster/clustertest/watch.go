package clustertest

import "sync"

// watchers tells those who watch, each in a goroutine of its own, of all batches
// in order.
type watchers[T any] struct {
	world *World

	mu     sync.Mutex
	closed bool
	next   int
	list   map[int]*watcher[T]
}

type watcher[T any] struct {
	accept  func(T) (T, bool)
	mu      sync.Mutex
	wake    *sync.Cond
	batches []T
	ended   bool
}

func newWatchers[T any](w *World) *watchers[T] {
	return &watchers[T]{world: w, list: map[int]*watcher[T]{}}
}

// add begins with first. accept, if not nil, says what of a batch is of
// interest. The caller holds whatever lock orders batches.
func (ws *watchers[T]) add(first T, accept func(T) (T, bool), f func(T)) (stop func()) {
	w := &watcher[T]{accept: accept, batches: []T{first}}
	w.wake = sync.NewCond(&w.mu)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.closed || !ws.world.run(func() { w.run(f) }) {
		return func() {}
	}
	id := ws.next
	ws.next++
	ws.list[id] = w
	return func() {
		ws.mu.Lock()
		delete(ws.list, id)
		ws.mu.Unlock()
		w.end()
	}
}

func (ws *watchers[T]) tell(batch T) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.list {
		b, ok := batch, true
		if w.accept != nil {
			b, ok = w.accept(batch)
		}
		if ok {
			w.push(b)
		}
	}
}

func (ws *watchers[T]) close() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.closed = true
	for _, w := range ws.list {
		w.end()
	}
}

func (w *watcher[T]) push(b T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.batches = append(w.batches, b)
	w.wake.Signal()
}

func (w *watcher[T]) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.wake.Signal()
}

func (w *watcher[T]) run(f func(T)) {
	for {
		w.mu.Lock()
		for len(w.batches) == 0 && !w.ended {
			w.wake.Wait()
		}
		if w.ended {
			w.mu.Unlock()
			return
		}
		b := w.batches[0]
		w.batches = w.batches[1:]
		w.mu.Unlock()
		f(b)
	}
}
