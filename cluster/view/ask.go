package view

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"fairlead/cluster"
	"fairlead/controlplane/api"
)

// topicGet asks a member to answer a request of its admin API that changes nothing.
const topicGet cluster.Topic = "view/get"

// getRequest is a request to another member.
type getRequest struct {
	Wire int    `json:"wire"` // version of the messages, see cluster.WireVersions
	User string `json:"user"` // who asks, for the log; their own node has looked who they are
	Role string `json:"role"` // that they have there
	Path string `json:"path"`
}

// getHead is the first line of an answer; the answer itself follows. An error is
// read in whatever version it comes.
type getHead struct {
	Wire  int        `json:"wire"`
	Error *api.Error `json:"error,omitempty"`
}

// maxPath is the longest path with its query that a member is asked for, in bytes.
const maxPath = 64 << 10

// localAnswerer is an Answerer that comes later than the first request may.
type localAnswerer struct {
	mu sync.RWMutex
	a  Answerer
}

func (l *localAnswerer) set(a Answerer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.a = a
}

func (l *localAnswerer) get(ctx context.Context, caller api.Caller, path string) ([]byte, error) {
	l.mu.RLock()
	a := l.a
	l.mu.RUnlock()
	if a == nil {
		return nil, api.Errorf(api.Unavailable, "the node starts")
	}
	return a.Get(ctx, caller, path)
}

// answerGet answers another member. That it is one is proved; whom it asks for it
// says itself, as its own operators could have it do anything on this node as well.
func (v *View) answerGet(ctx context.Context, from string, request []byte) ([]byte, error) {
	var q getRequest
	if err := json.Unmarshal(request, &q); err != nil {
		return nil, fmt.Errorf("the request cannot be read: %w", err)
	}
	var head getHead
	body, err := v.answerLocally(ctx, from, &q)
	if err != nil {
		head.Error = errorOf(err)
		body = nil
	}
	head.Wire = q.Wire
	out, err := json.Marshal(&head)
	if err != nil {
		return nil, err
	}
	return append(append(out, '\n'), body...), nil
}

func (v *View) answerLocally(ctx context.Context, from string, q *getRequest) ([]byte, error) {
	role, known := map[string]api.Role{api.ReadOnly.String(): api.ReadOnly, api.Operator.String(): api.Operator}[q.Role]
	switch {
	case !readable(q.Wire):
		return nil, unreadable("the request", q.Wire)
	case !known:
		return nil, api.Errorf(api.Forbidden, "%q is no role", q.Role)
	case len(q.Path) > maxPath:
		return nil, api.Errorf(api.BadRequest, "the path has %d bytes; it may have %d", len(q.Path), maxPath)
	case nested(q.Path):
		return nil, api.Errorf(api.BadRequest, "a member asks on behalf of another; ask the last one itself")
	}
	return v.local.get(ctx, api.Caller{Name: q.User, From: "node " + from, Role: role}, q.Path)
}

// nested reports whether a path asks a further member, which could go round in
// circles.
func nested(path string) bool {
	path, _, _ = strings.Cut(path, "?")
	return strings.HasPrefix(path, "/v1/cluster/members/") && strings.HasSuffix(path, "/ask")
}

// readable reports whether this binary reads a version of messages.
func readable(wire int) bool {
	oldest, newest := cluster.WireVersions()
	return oldest <= wire && wire <= newest
}

// unreadable says that it does not.
func unreadable(what string, wire int) error {
	oldest, newest := cluster.WireVersions()
	return fmt.Errorf("%s is of version %d; this node reads %d to %d", what, wire, oldest, newest)
}

// speak is the version of messages that a member is spoken to in.
func speak(members cluster.Members, node string) (int, error) {
	for _, n := range members.All() {
		if n.Name != node {
			continue
		}
		wire := cluster.SpeakTo(&n)
		if wire == 0 {
			oldest, newest := cluster.WireVersions()
			return 0, fmt.Errorf("there is no version of messages in common: it reads %d to %d, this node %d to %d", n.WireMin, n.WireMax, oldest, newest)
		}
		return wire, nil
	}
	return 0, fmt.Errorf("there is no member %q", node)
}

func errorOf(err error) *api.Error {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e
	}
	return api.Errorf(api.Internal, "%v", err)
}

// get asks one node, this one or another.
func (v *View) get(ctx context.Context, node, path string) ([]byte, error) {
	caller := api.CallerOf(ctx)
	if caller.Role == api.Nobody { // the node itself wants to know
		caller = api.Caller{Name: "node " + v.cfg.Name, Role: api.ReadOnly}
	}
	if node == v.cfg.Name {
		return v.local.get(ctx, caller, path)
	}
	wire, err := speak(v.cfg.Members, node)
	if err != nil {
		return nil, err
	}
	request, err := json.Marshal(&getRequest{Wire: wire, User: caller.String(), Role: caller.Role.String(), Path: path})
	if err != nil {
		return nil, err
	}
	answer, err := v.cfg.Peers.Call(ctx, node, topicGet, request)
	if err != nil {
		return nil, err
	}
	return parseGet(answer)
}

// parseGet reads an answer.
func parseGet(answer []byte) ([]byte, error) {
	first, body, found := bytes.Cut(answer, []byte{'\n'})
	var head getHead
	if err := json.Unmarshal(first, &head); err != nil || !found {
		return nil, errors.New("its answer cannot be read")
	}
	if head.Error != nil {
		return nil, head.Error
	}
	if !readable(head.Wire) {
		return nil, unreadable("its answer", head.Wire)
	}
	return body, nil
}

// AskMember implements api.ClusterProvider.
func (v *View) AskMember(ctx context.Context, node, path string) ([]byte, error) {
	n, err := v.member(node)
	if err != nil {
		return nil, err
	}
	if nested(path) {
		return nil, api.Errorf(api.BadRequest, "a member asks on behalf of another; ask the last one itself")
	}
	within, cancel := context.WithTimeout(ctx, v.cfg.Timing.Ask)
	defer cancel()
	body, err := v.get(within, node, path)
	if err == nil {
		return body, nil
	}
	if _, own := errors.AsType[*api.Error](err); own {
		return nil, err // what the member says
	}
	return nil, api.Errorf(api.Unavailable, "%s does not answer: %s", node, v.reason(n, err, v.cfg.Timing.Ask))
}

// reason says why a member has not answered.
func (v *View) reason(n cluster.Node, err error, within time.Duration) string {
	switch {
	case n.State == cluster.Left:
		return "it has left"
	case n.State == cluster.Dead:
		return "it is taken for dead"
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %s", within)
	case errors.Is(err, cluster.ErrNoHandler):
		return fmt.Sprintf("its software (%s) does not know this request", n.Software)
	}
	return err.Error()
}

// answer is what a node has answered.
type answer[T any] struct {
	node  cluster.Node
	value T
	err   error
}

// unanswered is the reason why there is no value, "" when there is one.
func (a *answer[T]) unanswered() string {
	if a.err == nil {
		return ""
	}
	return a.err.Error()
}

// mostAsked is how many members are asked at a time.
const mostAsked = 32

// askAll asks nodes for the same, all at once, and waits for each no longer than a
// member may take. The answers are in the order of the nodes.
func askAll[T any](ctx context.Context, v *View, nodes []cluster.Node, path string) []answer[T] {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Timing.Answer)
	defer cancel()
	answers := make([]answer[T], len(nodes))
	slots := make(chan struct{}, mostAsked)
	var asking sync.WaitGroup
	for i := range nodes {
		answers[i].node = nodes[i]
		asking.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			answers[i].value, answers[i].err = askOne[T](ctx, v, nodes[i], path)
		})
	}
	asking.Wait()
	return answers
}

// askOne asks a node. The error says in words why there is no answer.
func askOne[T any](ctx context.Context, v *View, n cluster.Node, path string) (value T, err error) {
	if !n.State.Serves() {
		return value, errors.New(v.reason(n, nil, 0))
	}
	body, err := v.get(ctx, n.Name, path)
	if err != nil {
		if own, is := errors.AsType[*api.Error](err); is {
			return value, own
		}
		return value, errors.New(v.reason(n, err, v.cfg.Timing.Answer))
	}
	if err := json.Unmarshal(body, &value); err != nil {
		return value, fmt.Errorf("its answer cannot be read: %w", err)
	}
	return value, nil
}

// split gives the names of the nodes that have answered, and why others have not.
func split[T any](answers []answer[T]) (answered []string, unanswered []api.NodeError) {
	for i := range answers {
		a := &answers[i]
		if a.err == nil {
			answered = append(answered, a.node.Name)
		} else {
			unanswered = append(unanswered, api.NodeError{Node: a.node.Name, Error: a.unanswered()})
		}
	}
	return answered, unanswered
}
