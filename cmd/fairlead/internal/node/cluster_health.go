package node

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"fairlead/cluster/quorum"
	"fairlead/controlplane/api"
	"fairlead/controlplane/health"
	"fairlead/controlplane/metrics"
	"fairlead/controlplane/model"
)

// resultTravels is what a node waits for another's result for, beyond the time that
// its check may take.
const resultTravels = time.Second

// divided are the health checks of a node of a cluster: it checks some of the
// backends, and takes each for what the nodes find together.
type divided struct {
	quorum *quorum.Quorum
	checks *checks // set before the first targets

	mu      sync.Mutex // guards what follows, and is held while the checker's targets are changed
	targets map[model.BackendKey]*health.Target
	mine    map[model.BackendKey]bool // that are assigned to this node
}

func openClusterHealth(n *Node) (clusterRoom, error) {
	d := &divided{targets: map[model.BackendKey]*health.Target{}, mine: map[model.BackendKey]bool{}}
	var err error
	d.quorum, err = quorum.New(quorum.Config{
		Members: n.cluster.Members, Peers: n.cluster.Peers, Store: n.cluster.Store,
		Checkers: n.cfg.Cluster.Health.Checkers, TunnelCheckers: n.cfg.Cluster.Health.TunnelCheckers,
		Assign: d.assign, Report: d.report, Fitness: d.fitness, Log: n.log,
	})
	if err != nil {
		return clusterRoom{}, err
	}
	n.divided = d
	return clusterRoom{close: d.quorum.Close}, nil
}

// follow has these targets be checked by the nodes together.
func (d *divided) follow(list []health.Target) (changed bool) {
	n := d.checks.node
	begins := make(map[model.BackendKey]quorum.Verdict, len(n.recalled))
	for key, v := range n.recalled {
		begins[key] = quorum.Verdict{State: quorumStates[v.State], Since: v.Since}
	}
	n.recalled = nil
	d.mu.Lock()
	defer d.mu.Unlock()
	targets := make(map[model.BackendKey]*health.Target, len(list))
	all := make([]quorum.Target, len(list))
	var mine []health.Target
	for i := range list {
		t := &list[i]
		targets[t.Key] = t
		all[i] = quorum.Target{Key: t.Key, Tunnel: tunnelled(t), Patience: t.Check.Timeout + resultTravels}
		if d.mine[t.Key] {
			mine = append(mine, *t)
		}
	}
	for key := range d.mine {
		if targets[key] == nil {
			delete(d.mine, key)
		}
	}
	d.targets = targets
	changed, err := d.checks.checker.Set(mine)
	if err != nil {
		n.log.Error("some backends are not checked", "error", err)
	}
	others, err := d.quorum.SetTargets(all, begins)
	if err != nil {
		n.log.Error("some backends are not checked", "error", err)
	}
	return changed || others
}

// tunnelled reports whether a backend is checked by a tunnel or by its link-layer
// address.
func tunnelled(t *health.Target) bool {
	for i := range t.Ways {
		if !t.Ways[i].Direct() {
			return true
		}
	}
	return false
}

// assign begins and ends checks of this node.
func (d *divided) assign(begin []quorum.Assignment, end []model.BackendKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, key := range end {
		delete(d.mine, key)
	}
	add := make([]health.Target, 0, len(begin))
	for i := range begin {
		a := &begin[i]
		known := d.targets[a.Key]
		if known == nil {
			continue // it is no more; the quorum has been told
		}
		t := *known
		t.Initial, t.Since, t.Doubted = healthStates[a.State], a.Since, a.Doubted
		d.mine[a.Key] = true
		add = append(add, t)
	}
	if err := d.checks.checker.Change(add, end); err != nil {
		d.checks.node.log.Error("some backends are not checked", "error", err)
	}
}

// found tells the other nodes what this one's own checks have found.
func (d *divided) found(verdicts []health.Verdict) {
	views := make([]quorum.View, len(verdicts))
	for i, v := range verdicts {
		views[i] = quorum.View{Key: v.Key, Since: v.Since, Reason: v.Reason}
		switch {
		case v.Unable != "":
			views[i].State, views[i].Since, views[i].Reason = quorum.Unable, time.Now(), v.Unable
		case v.Own:
			views[i].State = quorumStates[v.State]
		}
	}
	d.quorum.Found(views)
}

// report has what the nodes have found together take effect.
func (d *divided) report(verdicts []quorum.Verdict) {
	list := make([]health.Verdict, len(verdicts))
	for i := range verdicts {
		list[i] = verdictOf(&verdicts[i])
	}
	d.checks.report(list)
}

func verdictOf(v *quorum.Verdict) health.Verdict {
	return health.Verdict{Key: v.Key, State: healthStates[v.State], Since: v.Since, Reason: v.Reason}
}

var (
	quorumStates = [...]quorum.State{health.Unknown: quorum.Unknown, health.Up: quorum.Up, health.Down: quorum.Down}
	healthStates = [...]health.State{quorum.Unknown: health.Unknown, quorum.Up: health.Up, quorum.Down: health.Down}
)

// result is what is known of one backend.
func (d *divided) result(key model.BackendKey) (health.Result, bool) {
	v, _, ok := d.quorum.Backend(key)
	if !ok {
		return health.Result{}, false
	}
	r, _ := d.checks.checker.Result(key)
	r.Verdict = verdictOf(&v)
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.targets[key]; t != nil {
		r.Type = t.Check.Type
	}
	return r, true
}

// nodesOn is what each node has found of a backend; nil when this one is alone.
func (n *Node) nodesOn(key model.BackendKey) (list []api.NodeHealth) {
	if n.divided == nil {
		return nil
	}
	_, views, _ := n.divided.quorum.Backend(key)
	for _, v := range views {
		one := api.NodeHealth{Node: v.Node, State: v.State.String(), Since: v.Since, Error: v.Reason, Ignored: v.Ignored}
		if v.State == quorum.Unable {
			one.State, one.Ignored = quorum.Unknown.String(), "the node cannot make the check"
		}
		list = append(list, one)
	}
	return list
}

// ClusterHealth is how the nodes check backends together, as this one sees it; false
// when it is alone.
func (n *Node) ClusterHealth() (quorum.Status, bool) {
	if n.divided == nil {
		return quorum.Status{}, false
	}
	return n.divided.quorum.Status(), true
}

// Unfit is why this node should not serve although it forwards: it cannot reach most
// of the backends that other nodes reach. It is empty when it should, and when it is
// alone.
func (n *Node) Unfit() string {
	if n.divided == nil {
		return ""
	}
	return n.divided.quorum.Unfit()
}

// fitness is told when Node.Unfit has changed. VIPs go to other nodes, and routers
// are told of this one no more.
func (d *divided) fitness(why string) {
	d.checks.node.Impair("health", why)
}

// clusterAlarms are what is not as it is wanted in the cluster, of which nobody else
// tells.
func (n *Node) clusterAlarms() (list []api.Condition) {
	for _, c := range n.divided.disagreements(true) {
		list = append(list, api.Condition{Health: api.HealthDegraded, Subject: c[0], Message: c[1]})
	}
	return list
}

// mostNamed is how many backends a condition names.
const mostNamed = 5

// conditions are what is not as it is wanted: subject and message.
func (d *divided) conditions() [][2]string { return d.disagreements(false) }

// disagreements are what is not as it is wanted: subject and message. Of this node they
// speak as such, unless named is set.
func (d *divided) disagreements(named bool) (list [][2]string) {
	if d == nil {
		return nil
	}
	s := d.quorum.Status()
	for i := range s.Nodes {
		v := &s.Nodes[i]
		subject, who := "health checks of node "+v.Name, "it"
		if v.Self && !named {
			subject, who = "health checks of this node", "this node"
		}
		if v.Suspected {
			list = append(list, [2]string{subject, fmt.Sprintf("%d of %d results contradict what the other nodes agree on: until they agree again they do not count", v.Differ, v.Compared)})
		}
		if v.Unable > 0 {
			list = append(list, [2]string{subject, fmt.Sprintf("%s cannot check %d backends for a fault of its own: other nodes check them, where they can", who, v.Unable)})
		}
		if v.Missed > 0 {
			list = append(list, [2]string{subject, fmt.Sprintf("%s cannot reach %d of the %d backends that it checks and that other nodes find up, and what it sends there is lost: %s",
				who, v.Missed, v.Missed+v.Reached, someOf(v.Examples, v.Missed))})
		}
	}
	if s.Unfit != "" && !named {
		list = append(list, [2]string{"health checks of this node", s.Unfit + ": others serve in its place where they can"})
	}
	return list
}

// someOf lists some of so many backends.
func someOf(examples []model.BackendKey, total int) string {
	var out []string
	for _, k := range examples[:min(len(examples), mostNamed)] {
		out = append(out, k.Pool+" "+endpointText(k.Endpoint))
	}
	if more := total - len(out); more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, ", ")
}

// HealthQuorum implements metrics.QuorumSource.
func (n *Node) HealthQuorum() *metrics.HealthQuorum {
	s, together := n.ClusterHealth()
	if !together {
		return nil
	}
	q := &metrics.HealthQuorum{Checked: s.Checked, Unfit: s.Unfit != "", Sent: s.Stats.Sent, Received: s.Stats.Received, Refused: s.Stats.Refused,
		BytesSent: s.Stats.BytesSent, BytesReceived: s.Stats.BytesReceived, Resyncs: s.Stats.Wholes}
	for i := range s.Nodes {
		v := &s.Nodes[i]
		q.Nodes = append(q.Nodes, metrics.NodeViews{Node: v.Name, Up: v.Up, Down: v.Down, Unable: v.Unable, Missed: v.Missed, Suspected: v.Suspected})
	}
	return q
}
