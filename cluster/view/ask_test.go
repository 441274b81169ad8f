package view

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"fairlead/cluster"
	"fairlead/controlplane/api"
)

// TestAskMember asserts that a member is asked on behalf of somebody, with the role
// that they have, and that what it says comes back as it is.
func TestAskMember(t *testing.T) {
	r := newRig(t, nil, "a", "b", "c")
	r.says["b"].set("/v1/status", map[string]string{"node": "b"})
	r.says["b"].set("/v1/services/x", api.Errorf(api.NotFound, `there is no service "x"`))
	ctx := t.Context()
	body, err := r.views["a"].AskMember(ctx, "b", "/v1/status?x=y")
	if err != nil || string(body) != `{"node":"b"}` {
		t.Fatalf("%s, %v", body, err)
	}
	if want := "node a (node a) read-only /v1/status?x=y"; r.says["b"].asked[0] != want {
		t.Errorf("%q, want %q", r.says["b"].asked[0], want)
	}
	r.world.Kill("c")
	r.says["b"].set("/v1/slow", "x")
	for _, c := range []struct {
		node, path string
		code       api.Code
		want       string
	}{
		{"b", "/v1/services/x", api.NotFound, `there is no service "x"`},
		{"b", "/v1/cluster/members/c/ask?path=%2Fv1%2Fstatus", api.BadRequest, "a member asks on behalf of another; ask the last one itself"},
		{"d", "/v1/status", api.NotFound, "there is no member \"d\"; `fairlead cluster members` lists them"},
		{"c", "/v1/status", api.Unavailable, "c does not answer: it is taken for dead"},
	} {
		_, err := r.views["a"].AskMember(ctx, c.node, c.path)
		e, is := errors.AsType[*api.Error](err)
		if !is || e.Code != c.code || e.Message != c.want {
			t.Errorf("%s of %s: %v, want %s: %s", c.path, c.node, err, c.code, c.want)
		}
	}
	r.says["b"].block(true)
	if _, err := r.views["a"].AskMember(ctx, "b", "/v1/slow"); err == nil || err.Error() != "b does not answer: no answer within 200ms" {
		t.Errorf("a node that does not answer: %v", err)
	}
}

// TestAnswerRefuses asserts what a node says to requests that are none.
func TestAnswerRefuses(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	fresh := New(Config{Name: "n"})
	for _, c := range []struct{ request, want string }{
		{`{"wire":1,"role":"nobody","path":"/v1/status"}`, `"nobody" is no role`},
		{`{"wire":1,"path":"/v1/status"}`, `"" is no role`},
		{`{"wire":9,"role":"operator","path":"/v1/status"}`, "the request is of version 9; this node reads 1 to 1"},
		{`{"wire":1,"role":"operator","path":"/v1/cluster/members/a/ask"}`, "a member asks on behalf of another; ask the last one itself"},
		{`{"wire":1,"role":"operator","path":"/` + strings.Repeat("x", maxPath) + `"}`, "the path has 65537 bytes; it may have 65536"},
		{`{"wire":1,"role":"read-only","path":"/v1/status","unknown":[1]}`, "the node starts"},
	} {
		answer, err := fresh.answerGet(t.Context(), "a", []byte(c.request))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseGet(answer); err == nil || err.Error() != c.want {
			t.Errorf("%.80s: %v, want %s", c.request, err, c.want)
		}
	}
	if _, err := r.views["b"].answerGet(t.Context(), "a", []byte("{")); err == nil || err.Error() != "the request cannot be read: unexpected end of JSON input" {
		t.Errorf("a piece of a request: %v", err)
	}
	for answer, want := range map[string]string{
		"":               "its answer cannot be read",
		"{}":             "its answer cannot be read",
		"nonsense\n{}":   "its answer cannot be read",
		"{\"wire\":7}\n": "its answer is of version 7; this node reads 1 to 1",
	} {
		if _, err := parseGet([]byte(answer)); err == nil || err.Error() != want {
			t.Errorf("the answer %q: %v, want %s", answer, err, want)
		}
	}
}

// FuzzAnswerGet asserts that nothing that a peer sends harms a node.
func FuzzAnswerGet(f *testing.F) {
	f.Add([]byte(`{"wire":1,"user":"x","role":"read-only","path":"/v1/status"}`))
	f.Add([]byte(`{"wire":1,"role":"operator","path":"http://[::1/"}`))
	f.Add([]byte("\x00"))
	v := New(Config{Name: "n"})
	v.Serve(&says{answers: map[string]any{}})
	f.Fuzz(func(t *testing.T, request []byte) {
		answer, err := v.answerGet(t.Context(), "x", request)
		if err != nil {
			return
		}
		if _, err := parseGet(answer); err == nil {
			t.Errorf("%q is answered", request)
		}
		_, _ = parseGet(request)
	})
}

// TestAskAll asserts that nodes which do not answer are named with the reason, in
// the time that all have, and that the others' answers are there.
func TestAskAll(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e", "f"}
	r := newRig(t, nil, names...)
	for _, name := range names {
		r.says[name].set("/v1/status", api.Summary{Node: name, Health: api.HealthOK, Ledger: api.Ledger{Received: 10, Reasons: map[string]uint64{"forward_new": 4}}})
	}
	r.says["b"].block(true)
	r.says["c"].set("/v1/status", "no object")
	r.says["d"].set("/v1/status", api.Errorf(api.Unavailable, "the node starts"))
	r.world.Part([]string{"e"})
	r.world.Leave("f")
	got, err := r.views["a"].NodeSummaries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "unanswered", got.Unanswered, []api.NodeError{
		{Node: "b", Error: "no answer within 200ms"},
		{Node: "c", Error: "its answer cannot be read: json: cannot unmarshal string into Go value of type api.Summary"},
		{Node: "d", Error: "the node starts"},
		{Node: "e", Error: "it is taken for dead"},
	})
	if !slices.Equal(got.Answered, []string{"a"}) || got.Ledger.Received != 10 || got.Health != api.HealthDegraded || len(got.Nodes) != 5 {
		t.Errorf("%+v", got)
	}
	r.says["b"].block(false)
	if got, _ := r.views["a"].NodeSummaries(t.Context()); !slices.Equal(got.Answered, []string{"a", "b"}) || got.Ledger.Received != 20 || got.Ledger.Reasons["forward_new"] != 8 {
		t.Errorf("%+v", got)
	}
}

// TestOlderNode asserts what is said of a node whose software does not know a
// request, and of one that reads no version that this one speaks.
func TestOlderNode(t *testing.T) {
	r := newRig(t, nil, "a")
	r.world.Add("old") // it has no view
	got, err := r.views["a"].NodeSummaries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Unanswered) != 2 || got.Unanswered[1].Error != "its software (test) does not know this request" {
		t.Errorf("%+v", got.Unanswered)
	}
	m := foreign{r.world.Node("a").Members()}
	if _, err := speak(m, "old"); err == nil || err.Error() != "there is no version of messages in common: it reads 7 to 9, this node 1 to 1" {
		t.Error(err)
	}
	if got := cluster.CommonWire(m.All()); got != 0 {
		t.Errorf("%d in common", got)
	}
}

// foreign has everybody read other versions.
type foreign struct{ cluster.Members }

func (f foreign) All() []cluster.Node {
	list := f.Members.All()
	for i := range list {
		list[i].WireMin, list[i].WireMax = 7, 9
	}
	return list
}

// TestAlone asserts that a node that is in no cluster is asked alone, and says so
// when it is asked of others.
func TestAlone(t *testing.T) {
	v := New(Config{Name: "n"})
	s := &says{answers: map[string]any{"/v1/status": api.Summary{Node: "n", Health: api.HealthOK}}}
	v.Serve(s)
	got, err := v.NodeSummaries(context.Background())
	if err != nil || !slices.Equal(got.Answered, []string{"n"}) || got.Health != api.HealthOK {
		t.Errorf("%+v, %v", got, err)
	}
	const want = "this node is in no cluster; [cluster] in its configuration has it join one"
	for what, f := range map[string]func() error{
		"members": func() error { _, err := v.ClusterMembers(t.Context()); return err },
		"status":  func() error { _, err := v.ClusterStatus(t.Context()); return err },
		"diff":    func() error { _, err := v.ClusterDiff(t.Context(), ""); return err },
		"keys":    func() error { _, err := v.ClusterKeys(t.Context()); return err },
		"rotate":  func() error { _, err := v.RotateClusterKey(t.Context()); return err },
		"drain":   func() error { _, err := v.DrainMember(t.Context(), "n", true); return err },
	} {
		if err := f(); err == nil || err.Error() != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	text, _ := json.Marshal(got)
	if !strings.Contains(string(text), `"node":"n"`) {
		t.Error(string(text))
	}
}
