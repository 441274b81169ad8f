package node

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"fairlead/controlplane/api"
	"fairlead/k8ssync"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/report"
	"fairlead/k8ssync/watch"
)

// KubernetesStatus implements api.KubernetesProvider.
func (n *Node) KubernetesStatus(context.Context) (api.KubernetesStatus, error) {
	k := n.kubernetes
	if k == nil {
		return api.KubernetesStatus{State: api.KubernetesOff}, nil
	}
	s := k.sync.Load()
	if s == nil {
		out := api.KubernetesStatus{State: api.KubernetesConnecting, Since: &n.started}
		if err := k.failed.Load(); err != nil {
			out.Error = (*err).Error()
		}
		return out, nil
	}
	st, writer := s.Status(), s.Writer()
	out := api.KubernetesStatus{
		State: stateOf(st.Connection.Connected, !st.Synced.IsZero()), Since: &st.Connection.Since, Error: problemOf(&st, writer.Error),
		Server: st.Connection.Server, Version: s.Version(), Writer: writer.Leader, Writing: writer.Leading,
		Groups: st.Groups, Pending: st.Pending, Refused: k.refusals(&st, n.desired.Kubernetes().InForce),
	}
	if !st.Synced.IsZero() {
		out.Synced = &st.Synced
	}
	if lag := time.Duration(k.lag.Load()); lag > 0 {
		seconds := lag.Seconds()
		out.Lag = &seconds
	}
	for _, w := range st.Connection.Kinds {
		out.Watched = append(out.Watched, resourceOf(&w))
	}
	slices.SortFunc(out.Watched, func(a, b api.KubernetesResource) int { return strings.Compare(a.Name, b.Name) })
	sum := s.Reports()
	for i := range sum.Nodes {
		out.Nodes = append(out.Nodes, nodeOf(&sum.Nodes[i], writer.Leader))
	}
	return out, nil
}

func stateOf(connected, synced bool) api.KubernetesState {
	switch {
	case !synced:
		return api.KubernetesConnecting
	case connected:
		return api.KubernetesConnected
	}
	return api.KubernetesAway
}

// problemOf is what an operator should look at first.
func problemOf(st *k8ssync.Status, writer string) string {
	switch c := &st.Connection; {
	case c.Error != "":
		return c.Error
	case st.Failing != "":
		return "nothing can be put in force: " + st.Failing
	case c.Note != "":
		return c.Note
	}
	for _, w := range st.Connection.Kinds {
		switch {
		case w.State == watch.Forbidden:
			return w.Error
		case w.State == watch.Missing && !w.Synced:
			return "the API server does not know " + w.Name + ": are the CustomResourceDefinitions installed?"
		}
	}
	return writer
}

func resourceOf(w *watch.KindStatus) api.KubernetesResource {
	out := api.KubernetesResource{Name: w.Name, Objects: w.Objects, Synced: w.Synced, Error: w.Error}
	if w.Rule != "" {
		out.Error += "; the rule that is missing: " + w.Rule
	}
	return out
}

// refusals are the groups that are not in force as they are wanted.
func (k *kubernetes) refusals(st *k8ssync.Status, inForce func(group string) bool) (list []api.KubernetesRefusal) {
	for _, name := range slices.Sorted(maps.Keys(st.Refused)) {
		key, of := k8ssync.KeyOfGroup(name)
		if !of {
			continue
		}
		r := st.Refused[name]
		list = append(list, api.KubernetesRefusal{
			Kind: string(key.Kind), Namespace: key.Namespace, Name: key.Name, Since: r.Since, Error: r.Why.Error(), Earlier: inForce(name),
		})
	}
	return list
}

func nodeOf(n *report.Node, writer string) api.KubernetesNode {
	if !n.Told {
		return api.KubernetesNode{Name: n.Name, State: api.KubernetesOff}
	}
	r := &n.Report
	return api.KubernetesNode{
		Name: n.Name, State: stateOf(r.Connected, r.Synced), Groups: r.Groups, Refused: len(r.Refused) + r.MoreRefused, Writer: n.Name == writer, Error: r.Error,
	}
}

// KubernetesObjects implements api.KubernetesProvider.
func (n *Node) KubernetesObjects(_ context.Context, q api.KubernetesQuery) (api.KubernetesPage, error) {
	var out api.KubernetesPage
	k := n.kubernetes
	if k == nil {
		return out, nil
	}
	s := k.sync.Load()
	if s == nil {
		return out, nil
	}
	sum := s.Reports()
	after, begins := k8ssync.KeyOfGroup(q.After)
	for _, key := range s.Keys() {
		if begins && key.Compare(after) < 0 || q.Kind != "" && q.Kind != string(key.Kind) || q.Namespace != "" && q.Namespace != key.Namespace || q.Name != "" && q.Name != key.Name {
			continue
		}
		if len(out.Objects) == q.Limit {
			out.Next = key.Group()
			break
		}
		if o, there := s.Describe(key, &sum); there && (!q.Problems || len(o.Problems) > 0) {
			out.Objects = append(out.Objects, objectOf(&o))
		}
	}
	return out, nil
}

func objectOf(o *k8ssync.Object) api.KubernetesObject {
	out := api.KubernetesObject{
		Kind: string(o.Key.Kind), Namespace: o.Key.Namespace, Name: o.Key.Name, Addresses: o.Addresses, Ports: o.Ports,
		Method: string(o.Method), Ready: o.Ready, Draining: o.Draining, Programmed: o.Programmed, Nodes: o.Nodes,
	}
	if out.Method == "" {
		out.Method = string(kube.Pods)
	}
	for _, p := range o.Problems {
		out.Problems = append(out.Problems, api.KubernetesProblem{Severity: string(p.Severity), Reason: p.Reason, Message: p.Message})
	}
	return out
}
