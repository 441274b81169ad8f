package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead/cluster"
	"fairlead/cluster/clustertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// local is the desired state of a node: it takes every text but those that name
// the node after "refuse", and does not know keys that follow "new".
type local struct {
	name string

	mu       sync.Mutex
	contents map[string]Content
	before   []map[string]Content
	pending  time.Time
	restore  map[string]Content
	settings map[string][]byte
	refuse   error // whatever comes
	tried    int
	adopted  []Adoption
}

func newLocal(name string) *local {
	return &local{name: name, contents: map[string]Content{}, settings: map[string][]byte{}}
}

func (l *local) Shared() map[string]Content {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.contents)
}

func (l *local) Pending() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tick()
	return l.pending
}

// tick undoes a change by itself, as the real one does.
func (l *local) tick() {
	if !l.pending.IsZero() && !time.Now().Before(l.pending) {
		l.contents, l.pending = l.restore, time.Time{}
	}
}

func (l *local) accepts(contents map[string]Content) (unknown []string, err error) {
	if l.refuse != nil {
		return nil, l.refuse
	}
	for _, c := range contents {
		for line := range strings.Lines(c.Text) {
			line = strings.TrimSpace(line)
			if line == "refuse "+l.name {
				return nil, errors.New("it is refused here")
			}
			if key, ok := strings.CutPrefix(line, "new "); ok {
				unknown = append(unknown, key)
			}
		}
	}
	return unknown, nil
}

func (l *local) Try(contents map[string]Content) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tried++
	return l.accepts(contents)
}

func (l *local) set(contents map[string]Content) {
	l.before = append(l.before, maps.Clone(l.contents))
	l.contents = maps.Clone(l.contents)
	for source, c := range contents {
		if c.Text == "" {
			delete(l.contents, source)
		} else {
			l.contents[source] = c
		}
	}
}

func (l *local) Unknown(source string, c Content) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	unknown, _ := l.accepts(map[string]Content{source: c})
	return unknown
}

func (l *local) Adopt(contents map[string]Content, how Adoption) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.accepts(contents); err != nil {
		return err
	}
	l.restore = maps.Clone(l.contents)
	l.set(contents)
	l.pending = how.Until
	l.adopted = append(l.adopted, how)
	return nil
}

func (l *local) Settings() map[string][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.settings)
}

func (l *local) AdoptSettings(settings map[string][]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settings = maps.Clone(settings)
	return nil
}

func (l *local) text(source string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tick()
	return l.contents[source].Text
}

// node is one node of a test.
type node struct {
	*Apply
	*local
	t      *testing.T
	log    *lines
	cancel context.CancelFunc
	done   chan struct{}
}

// lines are log lines.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// with is what a node of a test begins with.
type with struct {
	file    string
	local   *local
	seed    string
	store   cluster.Store
	publish func(n *node, over cluster.Version) error
}

// start runs a node of a world.
func start(t *testing.T, w *clustertest.World, name string, have with) *node {
	t.Helper()
	member := w.Node(name)
	n := &node{t: t, log: &lines{}, local: have.local, done: make(chan struct{})}
	if n.local == nil {
		n.local = newLocal(name)
	}
	store := have.store
	if store == nil {
		store = member.Store()
	}
	cfg := Config{
		Members: member.Members(), Peers: member.Peers(), Store: store, Local: n.local, HashSeed: have.seed,
		Log: slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if have.file != "" {
		cfg.File = func() Content { return Content{Name: name + ".toml", Text: have.file} }
	}
	if have.publish != nil {
		cfg.PublishFile = func(_ context.Context, over cluster.Version) error { return have.publish(n, over) }
	}
	n.Apply = New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	n.cancel = cancel
	go func() { defer close(n.done); n.Run(ctx) }()
	t.Cleanup(n.stop)
	return n
}

func (n *node) stop() {
	n.cancel()
	<-n.done
}

// apply sends a text, as an operator would.
func (n *node) apply(text string) (*Report, error) { return n.change(Change{}, SourceAPI, text, 0) }

func (n *node) change(c Change, source, text string, confirm time.Duration) (*Report, error) {
	content := map[string]Content{source: {Name: source, Text: text}}
	c.User = "operator of " + n.name
	c.Plan = func() (map[string]Content, error) {
		wanted := n.Shared()
		maps.Copy(wanted, content)
		n.local.mu.Lock()
		defer n.local.mu.Unlock()
		_, err := n.accepts(content)
		return wanted, err
	}
	c.Do = func() error {
		n.local.mu.Lock()
		defer n.local.mu.Unlock()
		n.restore = maps.Clone(n.contents)
		n.set(content)
		if confirm > 0 {
			n.pending = time.Now().Add(confirm)
		}
		return nil
	}
	c.Undo = func() error {
		n.local.mu.Lock()
		defer n.local.mu.Unlock()
		n.contents, n.pending = n.restore, time.Time{}
		return nil
	}
	return n.Apply.Change(n.t.Context(), c)
}

func (n *node) must(_ *Report, err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatalf("node %s: %v", n.name, err)
	}
}

// condition is the message of a condition, "" when it is not so.
func (n *node) condition(typ ConditionType) string {
	for _, c := range n.Status().Conditions {
		if c.Type == typ {
			return c.Message
		}
	}
	return ""
}

// within polls until something is so.
func within(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// have demands that nodes come to have a text in force.
func have(t *testing.T, source, text string, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		within(t, fmt.Sprintf("node %s has %q in force", n.name, text), func() bool { return n.text(source) == text })
	}
}

// three runs three nodes.
func three(t *testing.T) (*clustertest.World, []*node) {
	w := clustertest.New(t, "a", "b", "c")
	nodes := []*node{start(t, w, "a", with{}), start(t, w, "b", with{}), start(t, w, "c", with{})}
	for _, n := range nodes {
		n.begun()
	}
	return w, nodes
}

// begun waits until the node takes changes.
func (n *node) begun() {
	n.t.Helper()
	within(n.t, "node "+n.name+" takes changes", n.isReady)
}
