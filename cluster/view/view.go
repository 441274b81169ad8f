// Package view shows one cluster where there are many nodes: it asks the members
// for what each says of itself, adds up what they count, and compares what is to be
// equal on all of them.
package view

import (
	"context"
	"log/slog"
	"time"

	"fairlead/cluster"
	"fairlead/controlplane/api"
)

// Answerer answers a request that changes nothing, as api.Local does: GET of a path
// with its query.
type Answerer interface {
	Get(ctx context.Context, caller api.Caller, path string) ([]byte, error)
}

// Config is what a View is made of.
type Config struct {
	// Name is the node's.
	Name string
	// Members and Peers are the cluster's; nil in a node that is in none.
	Members cluster.Members
	Peers   cluster.Peers
	Store   cluster.Store

	// Drain has a member drained, or no longer, on behalf of somebody; Drains are
	// those that are, by name.
	Drain  func(ctx context.Context, node string, drained bool, by string) error
	Drains func() map[string]api.DrainNotice
	// Keys are the fingerprints of the node's gossip keys, that in use first.
	// Rotate has all members encrypt with another key.
	Keys   func() []string
	Rotate func(ctx context.Context) (api.ClusterKeyRotation, error)
	// Alarms are what else is not as it is wanted in the cluster. Any of these
	// functions may be nil.
	Alarms func() []api.Condition
	// Counters are what the parts of the cluster count, by a name in snake_case.
	Counters func() map[string]uint64

	// Tables are the Maglev tables that this node decides by.
	Tables func(f func(pool string, checksum uint64))
	// Generation changes whenever the tables may have.
	Generation func() uint64

	Timing Timing
	Log    *slog.Logger
}

// Timing is how long things take. Zero fields have the default.
type Timing struct {
	Answer  time.Duration // a member may take to answer what all are asked
	Ask     time.Duration // a member may take to answer what it is asked alone
	Look    time.Duration // between two looks at this node's own tables
	Compare time.Duration // between two comparisons with others
	Grace   time.Duration // tables may differ for, as a change takes a moment to reach all
}

func (t *Timing) withDefaults() {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&t.Answer, 2*time.Second)
	set(&t.Ask, 20*time.Second)
	set(&t.Look, time.Second)
	set(&t.Compare, 5*time.Second)
	set(&t.Grace, 10*time.Second)
}

// View implements api.ClusterProvider and api.SumProvider.
type View struct {
	cfg    Config
	local  localAnswerer
	tables *tables
}

var (
	_ api.ClusterProvider = (*View)(nil)
	_ api.SumProvider     = (*View)(nil)
)

// New makes a View, and answers peers from then on. It is made before the node
// joins.
func New(c Config) *View {
	c.Timing.withDefaults()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	v := &View{cfg: c}
	v.tables = newTables(&v.cfg)
	if c.Peers != nil {
		c.Peers.Handle(topicGet, v.answerGet)
		c.Peers.Handle(topicTables, v.tables.answer)
	}
	return v
}

// Serve has requests answered by a; before it, members are told that the node
// starts.
func (v *View) Serve(a Answerer) { v.local.set(a) }

// Run compares tables with other members until ctx ends.
func (v *View) Run(ctx context.Context) {
	if v.cfg.Members == nil || v.cfg.Tables == nil {
		<-ctx.Done()
		return
	}
	v.tables.run(ctx)
}

// alone says that there is no cluster to tell of.
func (v *View) alone() error {
	if v.cfg.Members != nil {
		return nil
	}
	return api.Errorf(api.Conflict, "this node is in no cluster; [cluster] in its configuration has it join one")
}

// nodes are all members, in a node that is in no cluster the node itself.
func (v *View) nodes() []cluster.Node {
	if v.cfg.Members == nil {
		return []cluster.Node{{Name: v.cfg.Name, State: cluster.Alive}}
	}
	return v.cfg.Members.All()
}

// member finds a member by its name.
func (v *View) member(name string) (cluster.Node, error) {
	for _, n := range v.nodes() {
		if n.Name == name {
			return n, nil
		}
	}
	return cluster.Node{}, api.Errorf(api.NotFound, "there is no member %q; `fairlead cluster members` lists them", name)
}
