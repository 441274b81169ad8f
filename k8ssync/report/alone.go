package report

import (
	"bytes"
	"slices"
	"sync"

	"fairlead/k8ssync/kube"
)

// Alone are the Fellows of a node that is in no cluster of Fairlead: itself. When
// several such nodes serve one cluster of Kubernetes, as a DaemonSet does without
// a cluster of Fairlead, the Lease still elects one that writes; but it knows
// nothing of the others, and says of an object only whether it is in force on
// itself.
type Alone struct {
	name string

	mu      sync.Mutex
	report  []byte
	told    bool
	next    int
	watches map[int]func()
}

var _ kube.Fellows = (*Alone)(nil)

// NewAlone makes the Fellows of a node that has none.
func NewAlone(name string) *Alone { return &Alone{name: name, watches: map[int]func(){}} }

// Self implements kube.Fellows.
func (a *Alone) Self() string { return a.name }

// Live implements kube.Fellows.
func (a *Alone) Live() []string { return []string{a.name} }

// Publish implements kube.Fellows.
func (a *Alone) Publish(report []byte) error {
	a.mu.Lock()
	if a.told && bytes.Equal(a.report, report) {
		a.mu.Unlock()
		return nil
	}
	a.report, a.told = slices.Clone(report), true
	calls := make([]func(), 0, len(a.watches))
	for _, f := range a.watches {
		calls = append(calls, f)
	}
	a.mu.Unlock()
	for _, f := range calls {
		f()
	}
	return nil
}

// Reports implements kube.Fellows.
func (a *Alone) Reports() map[string][]byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.told {
		return nil
	}
	return map[string][]byte{a.name: slices.Clone(a.report)}
}

// Watch implements kube.Fellows.
func (a *Alone) Watch(f func()) (stop func()) {
	a.mu.Lock()
	id := a.next
	a.next++
	a.watches[id] = f
	a.mu.Unlock()
	f()
	return func() {
		a.mu.Lock()
		delete(a.watches, id)
		a.mu.Unlock()
	}
}
