package apply

import (
	"context"
	"fmt"
	"sync"
	"time"

	"fairlead/cluster"
)

// reservation lets one change at a time be prepared on this node: two that do not
// know of each other would both find that nothing stands against them.
type reservation struct {
	mu    sync.Mutex
	held  bool
	node  string // that the change is made on
	id    string
	user  string
	until time.Time
	freed chan struct{} // closed when it is released; nil: nobody waits
}

// take reserves the node for a change, and waits a little for another to be over;
// serves says whether a node is still there. What the same node has reserved before
// is over.
// ended asks a node whether a change of its is over, of which nothing was heard.
func (r *reservation) take(ctx context.Context, q *request, node string, now func() time.Time, serves func(string) bool, ended func(ctx context.Context, node, id string) bool) error {
	patience := time.NewTimer(reservePatience)
	defer patience.Stop()
	look := time.NewTicker(reservePatience / 10)
	defer look.Stop()
	for asked := false; ; {
		freed, err := r.tryTake(q, node, now(), serves)
		if err == nil {
			return nil
		}
		select {
		case <-freed:
		case <-look.C: // whether the other node is still there, and at it
			if holder, id := r.holder(); !asked && holder != "" {
				asked = true
				if ended(ctx, holder, id) {
					r.release(holder, id)
				}
			}
		case <-patience.C:
			return err
		case <-ctx.Done():
			return err
		}
	}
}

func (r *reservation) tryTake(q *request, node string, now time.Time, serves func(string) bool) (freed <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held && r.node != node && now.Before(r.until) && serves(r.node) {
		if r.freed == nil {
			r.freed = make(chan struct{})
		}
		return r.freed, &ConflictError{fmt.Sprintf("node %q is making a change of %s at the same time; try again when it is done", r.node, person(r.user))}
	}
	r.held, r.node, r.id, r.user, r.until = true, node, q.ID, q.User, now.Add(min(q.Within, prepareWithin))
	return nil, nil
}

// holder is who has reserved the node, "" when nobody has, and for which change.
func (r *reservation) holder() (node, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.held {
		return "", ""
	}
	return r.node, r.id
}

// release ends a reservation, unless it is another's by now.
func (r *reservation) release(node, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.held || r.node != node || r.id != id {
		return
	}
	r.held = false
	if r.freed != nil {
		close(r.freed)
		r.freed = nil
	}
}

// person is how messages call who has made a change.
func person(user string) string {
	if user == "" {
		return "nobody in particular"
	}
	return user
}

// serves reports whether a node is one to be counted on; this one is.
func (a *Apply) serves(name string) bool {
	if name == a.self {
		return true
	}
	for _, n := range a.cfg.Members.All() {
		if n.Name == name {
			return n.State.Serves()
		}
	}
	return false
}

// released ends what another node has reserved here.
func (a *Apply) released(from string, message []byte) {
	if len(message) <= maxID {
		a.reserving.release(from, string(message))
	}
}

// making is the change that is being made on this node.
type making struct {
	mu sync.Mutex
	id string // "": none is
}

func (m *making) set(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.id = id
}

func (m *making) is(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return id != "" && m.id == id
}

// What the answer to topicGoesOn is.
const (
	itGoesOn = "yes"
	itIsOver = "no"
)

// goesOn answers a node that wants to know whether a change of this one's goes on.
func (a *Apply) goesOn(_ context.Context, _ string, message []byte) ([]byte, error) {
	if len(message) <= maxID && a.making.is(string(message)) {
		return []byte(itGoesOn), nil
	}
	return []byte(itIsOver), nil
}

// ended asks a node whether a change of its is over. When it does not answer, it
// goes on as far as this node knows.
func (a *Apply) ended(ctx context.Context, node, id string) bool {
	if node == a.self {
		return !a.making.is(id)
	}
	ctx, cancel := context.WithTimeout(ctx, reservePatience/2)
	defer cancel()
	answer, err := a.cfg.Peers.Call(ctx, node, topicGoesOn, []byte(id))
	return err == nil && string(answer) == itIsOver
}

// others are the other members that are not known to have left, by name.
func (a *Apply) others() (list []cluster.Node) {
	for _, n := range a.cfg.Members.All() {
		if n.Name != a.self && n.State != cluster.Left {
			list = append(list, n)
		}
	}
	return list
}
