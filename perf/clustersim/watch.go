package main

import (
	"sync"
	"time"

	"fairlead/cluster"
)

// watch sees what nodes see of the entries.
type watch struct {
	mu       sync.Mutex
	have     map[int]map[string]bool
	expected map[string]*expectation
}

// expectation is that every node sees another version of an entry.
type expectation struct {
	begin time.Time
	seen  map[int]bool
	want  int
	done  chan time.Duration
}

func newWatch() *watch {
	return &watch{have: map[int]map[string]bool{}, expected: map[string]*expectation{}}
}

// see takes what a node sees.
func (w *watch) see(node int, entries []cluster.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	have := w.have[node]
	if have == nil {
		have = map[string]bool{}
		w.have[node] = have
	}
	for i := range entries {
		key := entries[i].Key
		have[key] = true
		e := w.expected[key]
		if e == nil || e.seen[node] {
			continue
		}
		e.seen[node] = true
		if len(e.seen) == e.want {
			delete(w.expected, key)
			e.done <- time.Since(e.begin)
		}
	}
}

// all reports whether so many nodes have so many entries.
func (w *watch) all(nodes, entries int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.have) < nodes {
		return false
	}
	for _, have := range w.have {
		if len(have) < entries {
			return false
		}
	}
	return true
}

// expect is told how long it takes until so many nodes have seen an entry change.
// Nothing else changes it meanwhile.
func (w *watch) expect(key string, nodes int) <-chan time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := &expectation{begin: time.Now(), seen: map[int]bool{}, want: nodes, done: make(chan time.Duration, 1)}
	w.expected[key] = e
	return e.done
}
