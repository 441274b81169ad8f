package node

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"fairlead/cluster"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/report"
)

// liveKubernetes is under which key of its own a node tells how far it has come
// with Kubernetes.
const liveKubernetes = "/kubernetes"

// openClusterKubernetes makes the members of the cluster fellows of each other.
func openClusterKubernetes(n *Node) (clusterRoom, error) {
	if !n.cfg.Kubernetes.Enabled {
		return clusterRoom{}, nil
	}
	f := newClusterFellows(n.cluster.Members, n.cluster.Store)
	n.cluster.fellows = f
	return clusterRoom{close: f.close}, nil
}

// clusterFellows implements kube.Fellows over a cluster of Fairlead.
type clusterFellows struct {
	members cluster.Members
	store   cluster.Store
	self    string
	stops   []func()

	mu      sync.Mutex
	states  map[string]cluster.State
	reports map[string][]byte
	watches map[int]func()
	next    int
}

var (
	_ kube.Fellows = (*clusterFellows)(nil)
	_ report.Gone  = (*clusterFellows)(nil)
)

func newClusterFellows(members cluster.Members, store cluster.Store) *clusterFellows {
	f := &clusterFellows{
		members: members, store: store, self: members.Self().Name,
		states: map[string]cluster.State{}, reports: map[string][]byte{}, watches: map[int]func(){},
	}
	f.stops = []func(){members.Watch(f.onMembers), store.Watch(cluster.LivePrefix, f.onEntries)}
	return f
}

func (f *clusterFellows) close() error {
	for _, stop := range f.stops {
		stop()
	}
	return nil
}

func (f *clusterFellows) onMembers(all []cluster.Node) {
	states := make(map[string]cluster.State, len(all))
	for i := range all {
		states[all[i].Name] = all[i].State
	}
	f.mu.Lock()
	same := maps.Equal(states, f.states)
	f.states = states
	f.mu.Unlock()
	if !same {
		f.tell()
	}
}

func (f *clusterFellows) onEntries(entries []cluster.Entry) {
	changed := false
	f.mu.Lock()
	for i := range entries {
		name, is := strings.CutSuffix(strings.TrimPrefix(entries[i].Key, cluster.LivePrefix), liveKubernetes)
		if !is {
			continue
		}
		changed = true
		if entries[i].Deleted {
			delete(f.reports, name)
			continue
		}
		f.reports[name] = slices.Clone(entries[i].Value)
	}
	f.mu.Unlock()
	if changed {
		f.tell()
	}
}

func (f *clusterFellows) tell() {
	f.mu.Lock()
	calls := slices.Collect(maps.Values(f.watches))
	f.mu.Unlock()
	for _, call := range calls {
		call()
	}
}

// Self implements kube.Fellows.
func (f *clusterFellows) Self() string { return f.self }

// Live implements kube.Fellows.
func (f *clusterFellows) Live() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for name, state := range f.states {
		if state.Serves() {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Gone implements report.Gone. Of a node that was never heard of nothing is known:
// there may be nodes that serve the same Kubernetes and are not in this cluster.
func (f *clusterFellows) Gone(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	state, known := f.states[name]
	return known && !state.Serves()
}

// Publish implements kube.Fellows.
func (f *clusterFellows) Publish(report []byte) error {
	return f.store.Put(cluster.LivePrefix+f.self+liveKubernetes, report)
}

// Reports implements kube.Fellows.
func (f *clusterFellows) Reports() map[string][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string][]byte, len(f.reports))
	for name, report := range f.reports {
		if f.states[name].Serves() {
			out[name] = report
		}
	}
	return out
}

// Watch implements kube.Fellows.
func (f *clusterFellows) Watch(call func()) (stop func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := f.next
	f.next++
	f.watches[id] = call
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watches, id)
	}
}
