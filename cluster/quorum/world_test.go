package quorum

import (
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/clustertest"
	"fairlead/controlplane/model"
)

// labNode is a node of a world that checks backends, in that it asks the lab what
// there is to see.
type labNode struct {
	lab  *lab
	name string
	q    *Quorum
	lose *unreliable

	mu       sync.Mutex
	checks   map[model.BackendKey]bool
	verdicts map[model.BackendKey]State
	heard    func(model.BackendKey, State)
	fitness  []string
	begun    int // assignments in all
}

// lab is backends, and who can reach them.
type lab struct {
	t       testing.TB
	world   *clustertest.World
	targets []Target

	mu    sync.Mutex
	nodes map[string]*labNode
	sees  func(node string, key model.BackendKey) State
}

func newLab(t testing.TB, backends int, cfg Config, names ...string) *lab {
	l := &lab{t: t, world: clustertest.New(t, names...), nodes: map[string]*labNode{}, sees: func(string, model.BackendKey) State { return Up }}
	for i := range backends {
		l.targets = append(l.targets, Target{Key: key(i), Patience: time.Second})
	}
	for _, n := range names {
		l.start(n, cfg)
	}
	t.Cleanup(func() {
		for _, n := range l.all() {
			n.q.Close()
		}
	})
	return l
}

func (l *lab) start(name string, cfg Config) *labNode {
	w := l.world.Node(name)
	n := &labNode{lab: l, name: name, checks: map[model.BackendKey]bool{}, verdicts: map[model.BackendKey]State{}, lose: &unreliable{Peers: w.Peers()}}
	cfg.Members, cfg.Store, cfg.Peers = w.Members(), w.Store(), n.lose
	cfg.Assign, cfg.Report, cfg.Fitness, cfg.Log = n.assign, n.report, n.fit, slog.New(slog.DiscardHandler)
	var err error
	if n.q, err = New(cfg); err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	l.nodes[name] = n
	l.mu.Unlock()
	if _, err := n.q.SetTargets(l.targets, nil); err != nil {
		l.t.Fatal(err)
	}
	return n
}

func (l *lab) all() []*labNode {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.nodes))
}

// see changes what there is to see; all who check notice.
func (l *lab) see(sees func(node string, key model.BackendKey) State) {
	l.mu.Lock()
	l.sees = sees
	l.mu.Unlock()
	for _, n := range l.all() {
		n.mu.Lock()
		keys := slices.Collect(maps.Keys(n.checks))
		n.mu.Unlock()
		n.find(keys)
	}
}

func (n *labNode) find(keys []model.BackendKey) {
	var views []View
	n.lab.mu.Lock()
	for _, k := range keys {
		if s := n.lab.sees(n.name, k); s != Unknown {
			views = append(views, View{Key: k, State: s, Since: time.Now(), Reason: "no answer in time"})
		}
	}
	n.lab.mu.Unlock()
	n.q.Found(views)
}

func (n *labNode) assign(begin []Assignment, end []model.BackendKey) {
	n.mu.Lock()
	var keys []model.BackendKey
	for _, k := range end {
		delete(n.checks, k)
	}
	for _, a := range begin {
		n.checks[a.Key] = true
		n.begun++
		keys = append(keys, a.Key)
	}
	n.mu.Unlock()
	n.find(keys)
}

func (n *labNode) report(verdicts []Verdict) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, v := range verdicts {
		n.verdicts[v.Key] = v.State
		if n.heard != nil {
			n.heard(v.Key, v.State)
		}
	}
}

func (n *labNode) fit(why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fitness = append(n.fitness, why)
}

func (n *labNode) count(state State) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.verdicts {
		if s == state {
			count++
		}
	}
	return count
}

func (n *labNode) checked() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.checks)
}

// unreliable are peers that lose some of what is sent to them without a word, or
// refuse it.
type unreliable struct {
	cluster.Peers
	mu                sync.Mutex
	percent, refusals int
	bytes, messages   int
}

func (u *unreliable) set(percent, refusals int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.percent, u.refusals = percent, refusals
}

func (u *unreliable) Send(node string, topic cluster.Topic, b []byte) error {
	u.mu.Lock()
	u.bytes, u.messages = u.bytes+len(b), u.messages+1
	dice := rand.IntN(100)
	lost, refused := dice < u.percent, dice < u.percent+u.refusals
	u.mu.Unlock()
	switch {
	case lost:
		return nil
	case refused:
		return cluster.ErrBacklog
	}
	return u.Peers.Send(node, topic, b)
}

// eventually waits for something to become so.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so after 20 s: %s", what)
		}
	}
}

// everywhere waits until all nodes have so many backends up and down.
func (l *lab) everywhere(what string, up, down int, nodes ...string) {
	l.t.Helper()
	eventually(l.t, what, func() bool {
		for _, n := range l.all() {
			if len(nodes) > 0 && !slices.Contains(nodes, n.name) {
				continue
			}
			if n.count(Up) != up || n.count(Down) != down {
				return false
			}
		}
		return true
	})
}

// probers waits until every backend is checked by k nodes.
func (l *lab) probers(k int, nodes ...string) {
	l.t.Helper()
	eventually(l.t, "every backend is checked by as many nodes as wanted", func() bool {
		by := map[model.BackendKey]int{}
		for _, n := range l.all() {
			if len(nodes) > 0 && !slices.Contains(nodes, n.name) {
				continue
			}
			n.mu.Lock()
			for k := range n.checks {
				by[k]++
			}
			n.mu.Unlock()
		}
		for _, t := range l.targets {
			if by[t.Key] != k {
				return false
			}
		}
		return true
	})
}
