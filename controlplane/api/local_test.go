package api

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// TestLocal asserts that what is asked in the process is answered as on a socket,
// with the caller's role, and what is not answered.
func TestLocal(t *testing.T) {
	l, err := NewLocal(newFixed(), "v1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	alice := Caller{Name: "alice", Role: ReadOnly}
	body, err := l.Get(t.Context(), alice, "/v1/services?limit=5")
	if err != nil || !strings.Contains(string(body), `"web"`) {
		t.Errorf("%s, %v", body, err)
	}
	for _, c := range []struct {
		caller Caller
		path   string
		code   Code
		want   string
	}{
		{Caller{Name: "bob"}, "/v1/status", Forbidden, "bob may not use this node"},
		{alice, "/v1/config", Forbidden, "GET /v1/config needs the role operator; alice is read-only"},
		{alice, "/v1/absent", NotFound, "there is no /v1/absent; GET /v1/openapi.json lists what there is"},
		{alice, "/v1/services?limit=x", BadRequest, `parameter "limit": "x" is not a number that fits here`},
		{alice, "/v1/upgrade?x=1", BadRequest, `unknown parameter "x"; there are none here`},
		{alice, "/v1/drops/watch", BadRequest, "/v1/drops/watch cannot be asked for by way of another node; ask the node itself"},
		{alice, "/metrics", BadRequest, "/metrics cannot be asked for by way of another node; ask the node itself"},
		{alice, "/v1/../etc", NotFound, "there is no /v1/../etc"},
		{alice, "http://[::1", BadRequest, `"http://[::1" is not the path of an endpoint`},
		{alice, "http://elsewhere/v1/status", BadRequest, `"http://elsewhere/v1/status" is not the path of an endpoint`},
		{alice, "", BadRequest, `"" is not the path of an endpoint`},
	} {
		_, err := l.Get(t.Context(), c.caller, c.path)
		e, is := errors.AsType[*Error](err)
		if !is || e.Code != c.code || e.Message != c.want {
			t.Errorf("%s: %v, want %s: %s", c.path, err, c.code, c.want)
		}
	}
	huge := newFixed()
	huge.services[0].Name = strings.Repeat("x", MaxLocal)
	if l, err = NewLocal(huge, "v1", slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if _, err = l.Get(t.Context(), alice, "/v1/services"); err == nil || err.Error() != "the answer has more than 16777216 bytes; ask for a part of it" {
		t.Errorf("%.200v", err)
	}
}

// TestThrough asserts that a client asks a member by way of the node, and changes
// nothing of it.
func TestThrough(t *testing.T) {
	socket := t.TempDir() + "/s"
	serveFixed(t, socket, newFixed())
	c := NewClient(socket)
	ask(t, c)
	s, err := c.Through("lb/2").Summary(t.Context())
	if err != nil || s.Node != "lb/2" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := c.Through("lb2").Upgrade(t.Context(), false); !errors.Is(err, ErrOnlyAsks) {
		t.Error(err)
	}
}
