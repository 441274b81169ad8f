package node

import (
	"fairlead/controlplane/metrics"
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
	for _, w := range st.Connection.Kinds {
		out.Watched = append(out.Watched, metrics.KubernetesWatched{Resource: w.Name, Objects: w.Objects, Watching: w.State == watch.Watching})
	}
	return out
}
