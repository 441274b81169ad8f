package quorum

import (
	"cmp"
	"slices"
	"time"

	"fairlead/controlplane/model"
)

// mostMissed is how many backends a status names that a node cannot reach.
const mostMissed = 20

// Status is how the nodes check backends together, as this one sees it.
type Status struct {
	Backends int          // that are to be checked
	Checked  int          // of these, by this node
	Unfit    string       // why this node is not fit to serve; "": it is
	Nodes    []NodeStatus // by name, this one among them
	Stats    Stats
}

// NodeStatus is what is known of one node's views.
type NodeStatus struct {
	Name      string
	Self      bool
	Live      bool // its views are known: it is there and was heard of
	Checks    bool // backends are assigned to it
	Suspected bool // its views do not count, as nearly all contradict the others
	Since     time.Time
	Up, Down  int // its views of backends that this node has, too
	Unable    int // backends that it was to check and cannot
	// Compared are those of its views that were compared with what other nodes agree
	// on, Differ are those that contradict it.
	Compared, Differ int
	// Of the backends that are up by the verdict of all it finds so many up, and so
	// many down: what it forwards to those is lost. Examples are some of them, in
	// order.
	Reached  int
	Missed   int
	Examples []model.BackendKey
}

// Status is how the nodes check backends together.
func (q *Quorum) Status() Status {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Status{Backends: len(q.core.keys), Unfit: q.fit.why, Stats: q.share.stats}
	at := map[*voter]*NodeStatus{}
	for _, v := range q.core.voters {
		if p := q.share.peers[v.name]; v == q.core.self || p != nil && (p.member || v.live) {
			at[v] = &NodeStatus{Name: v.name, Self: v == q.core.self, Live: v.live, Suspected: v.suspected, Since: v.since,
				Compared: v.tally.compared, Differ: v.tally.differ, Checks: slices.Contains(q.core.candidates, v)}
		}
	}
	for _, r := range q.core.keys {
		if r.mine {
			s.Checked++
		}
		for i := range r.votes {
			if n := at[r.votes[i].voter]; n != nil {
				n.add(r, r.votes[i].state)
			}
		}
	}
	for _, n := range at {
		slices.SortFunc(n.Examples, compareKeys)
		n.Examples = n.Examples[:min(len(n.Examples), mostMissed)]
		s.Nodes = append(s.Nodes, *n)
	}
	slices.SortFunc(s.Nodes, func(a, b NodeStatus) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

func (n *NodeStatus) add(r *record, state State) {
	switch state {
	case Up:
		n.Up++
		if r.state == Up {
			n.Reached++
		}
		return
	case Unable:
		n.Unable++
		return
	}
	n.Down++
	if r.state != Up {
		return
	}
	n.Missed++
	n.Examples = append(n.Examples, r.target.Key)
}

func compareKeys(a, b model.BackendKey) int {
	return cmp.Or(cmp.Compare(a.Pool, b.Pool), a.Endpoint.Compare(b.Endpoint))
}

// Unfit is why this node is not fit to serve: it cannot reach most of the backends
// that others reach. It is empty when it is.
func (q *Quorum) Unfit() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.fit.why
}

// Backend is the verdict on one backend, and each node's view of it, by the nodes'
// names; false when it is not checked. Nodes that are to check it and have not judged
// it yet are among them.
func (q *Quorum) Backend(key model.BackendKey) (Verdict, []NodeView, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.core.keys[key]
	if r == nil {
		return Verdict{}, nil, false
	}
	var views []NodeView
	for i := range r.votes {
		v := &r.votes[i]
		views = append(views, NodeView{Node: v.voter.name, State: v.state, Since: v.since, Reason: v.reason, Ignored: v.voter.ignored()})
	}
	wanted := q.core.cfg.checkers
	if r.target.Tunnel {
		wanted = q.core.cfg.tunnelCheckers
	}
	for _, v := range pick(q.core.able(r, q.core.candidates, nil), r.id, checkers(wanted, r.wide), nil) {
		if r.vote(v) == nil {
			views = append(views, NodeView{Node: v.name})
		}
	}
	slices.SortFunc(views, func(a, b NodeView) int { return cmp.Compare(a.Node, b.Node) })
	return q.core.describe(r), views, true
}

// ignored is why the node's views do not count.
func (v *voter) ignored() string {
	switch {
	case !v.live:
		return "the node is not heard of"
	case v.suspected:
		return "the node is suspected"
	}
	return ""
}
