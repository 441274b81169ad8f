package view

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead/cluster"
	"fairlead/cluster/clustertest"
	"fairlead/controlplane/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// says is an admin API that answers what a test has it say.
type says struct {
	mu      sync.Mutex
	answers map[string]any // by the path, with or without its query
	blocked bool           // it does not answer before the asker gives up
	asked   []string       // caller and path
}

func (s *says) set(path string, value any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[path] = value
}

func (s *says) block(blocked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked = blocked
}

func (s *says) Get(ctx context.Context, caller api.Caller, path string) ([]byte, error) {
	s.mu.Lock()
	s.asked = append(s.asked, caller.String()+" "+caller.Role.String()+" "+path)
	bare, _, _ := strings.Cut(path, "?")
	value, known := s.answers[path]
	if !known {
		value, known = s.answers[bare]
	}
	blocked := s.blocked
	s.mu.Unlock()
	if blocked {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if !known {
		return nil, api.Errorf(api.NotFound, "there is no %s", bare)
	}
	if f, is := value.(func(path string) any); is {
		value = f(path)
	}
	if err, is := value.(error); is {
		return nil, err
	}
	return json.Marshal(value)
}

// rig is a cluster whose nodes have views.
type rig struct {
	world *clustertest.World
	views map[string]*View
	says  map[string]*says
}

// newRig makes views of nodes. with may change what each is made of.
func newRig(t *testing.T, with func(name string, c *Config), names ...string) *rig {
	t.Helper()
	r := &rig{world: clustertest.New(t, names...), views: map[string]*View{}, says: map[string]*says{}}
	for _, name := range names {
		n := r.world.Node(name)
		c := Config{Name: name, Members: n.Members(), Peers: n.Peers(), Store: n.Store(), Timing: Timing{Answer: 200 * time.Millisecond, Ask: 200 * time.Millisecond}}
		if with != nil {
			with(name, &c)
		}
		s := &says{answers: map[string]any{}}
		r.views[name], r.says[name] = New(c), s
		r.views[name].Serve(s)
	}
	return r
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so within 20 s: %s", what)
		}
	}
}

// same asserts that two things are the same as JSON.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	g, err := json.MarshalIndent(got, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	w, err := json.MarshalIndent(want, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if string(g) != string(w) {
		t.Errorf("%s:\n%s\nwant\n%s", what, g, w)
	}
}

func serving(names ...string) (list []cluster.Node) {
	for _, name := range names {
		list = append(list, cluster.Node{Name: name, State: cluster.Alive})
	}
	return list
}
