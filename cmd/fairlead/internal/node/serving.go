package node

import (
	"sync"

	"fairlead/controlplane/model"
	"fairlead/controlplane/serving"
)

// listeners are told when backends serve otherwise than before.
type listeners struct {
	mu   sync.Mutex
	list []func()
}

// Serving keeps how each backend serves: health and operators' settings go in
// there.
func (n *Node) Serving() *serving.Keeper { return n.serving }

// OnServing has f called whenever backends serve otherwise than before. It may
// be called while the node is being changed, so it does no more than tell
// somebody else.
func (n *Node) OnServing(f func()) {
	n.served.mu.Lock()
	defer n.served.mu.Unlock()
	n.served.list = append(n.served.list, f)
}

func (l *listeners) tell() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.list {
		f()
	}
}

// start publishes the first image.
func (o *observer) start(view *model.Observations) error {
	err := o.node.serving.Apply(&o.node.cfg.State, o.node.settings(), func(s *model.State) error { return o.node.reconciler.Start(s, view) })
	if err == nil {
		o.node.checks.follow(&o.node.cfg.State)
		o.node.announce.setState(&o.node.cfg.State)
	}
	return err
}
