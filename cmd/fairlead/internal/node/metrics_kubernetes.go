package node

import (
	"fairlead/controlplane/metrics"
	"fairlead/k8ssync/ledger"
	"fairlead/k8ssync/watch"
)

var _ metrics.KubernetesSource = (*Node)(nil)

// KubernetesSync implements metrics.KubernetesSource.
func (n *Node) KubernetesSync() *metrics.KubernetesSync {
	k := n.kubernetes
	if k == nil {
		return nil
	}
	out := &metrics.KubernetesSync{Changes: k.changes}
	s := k.sync.Load()
	if s == nil {
		return out
	}
	st := s.Status()
	out.Connected, out.Since, out.Synced, out.Applied = st.Connection.Connected, st.Connection.Since, st.Synced, st.Applied
	out.Groups, out.Pending, out.Refused, out.Held, out.Batches = st.Groups, st.Pending, len(st.Refused), len(st.Held), st.Batches
	out.Writer = s.Writer().Leading
	w := s.Writing()
	out.Failures, out.Unserved, out.Unprogrammed = w.Failures, w.Unserved, w.Unprogrammed
	for i := range w.Pools {
		out.Pools = append(out.Pools, poolMetrics(&w.Pools[i])...)
	}
	for _, w := range st.Connection.Kinds {
		out.Watched = append(out.Watched, metrics.KubernetesWatched{Resource: w.Name, Objects: w.Objects, Watching: w.State == watch.Watching})
	}
	return out
}

// poolMetrics are the counts of a pool, for each family that it has.
func poolMetrics(p *ledger.PoolStatus) (list []metrics.KubernetesPool) {
	for _, f := range []struct {
		name   string
		counts *ledger.Counts
	}{{"ipv4", p.IPv4}, {"ipv6", p.IPv6}} {
		if c := f.counts; c != nil {
			list = append(list, metrics.KubernetesPool{Pool: p.Name, Family: f.name, Assigned: c.Assigned, Reserved: c.Reserved, Free: c.Free})
		}
	}
	return list
}
