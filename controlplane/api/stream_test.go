package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

type tick struct {
	N     int      `json:"n"`
	Names []string `json:"names"`
}

type ticksRequest struct {
	Count int  `query:"count"`
	Fail  bool `query:"fail"`
}

// ticking streams so many items, or without end, and may fail after them. ended
// is told when a handler has ended.
func ticking(ended chan<- error) *Router {
	r := &Router{}
	e := Endpoint{Method: http.MethodGet, Path: "/v1/ticks", Role: ReadOnly, Tag: "t", Summary: "s"}
	Stream(r, e, func(ctx context.Context, in ticksRequest, send func(tick) error) (err error) {
		defer func() { ended <- err }()
		for n := 0; n < in.Count || in.Count < 0; n++ {
			if err := send(tick{N: n}); err != nil {
				return err
			}
			if in.Count < 0 && n == 2 {
				<-ctx.Done()
				return ctx.Err()
			}
		}
		if in.Fail {
			return Errorf(Unavailable, "no more")
		}
		return nil
	})
	e.Path, e.Answers = "/v1/raw", "text/plain"
	Raw(r, e, func(_ context.Context, in ticksRequest, w io.Writer) error {
		for range in.Count {
			if _, err := io.WriteString(w, "x"); err != nil {
				return err
			}
		}
		if in.Fail {
			return Errorf(Unavailable, "no more")
		}
		return nil
	})
	return r
}

// serveRouter serves a router's endpoints until the test ends.
func serveRouter(t *testing.T, r *Router) (c *Client, stop func()) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, Config{Socket: socket}, r) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	c = NewClient(socket)
	deadline := time.Now().Add(5 * time.Second)
	for c.Call(t.Context(), http.MethodGet, documentPath, nil, nil, nil) != nil {
		if time.Now().After(deadline) {
			t.Fatal("nobody answers")
		}
	}
	return c, stop
}

// TestStreams asserts that items come one by one, that an error at the start
// and one at the end reach the client, and that a stream ends with its client
// and with its node.
func TestStreams(t *testing.T) {
	ended := make(chan error, 1)
	c, stop := serveRouter(t, ticking(ended))
	var got []tick
	collect := func(item *tick) error { got = append(got, *item); return nil }
	each := func(ctx context.Context, query map[string][]string, f func(*tick) error) error {
		got = nil
		return Each(ctx, c, http.MethodGet, "/v1/ticks", query, nil, f)
	}
	if err := each(t.Context(), map[string][]string{"count": {"3"}}, collect); err != nil || <-ended != nil ||
		!reflect.DeepEqual(got, []tick{{0, []string{}}, {1, []string{}}, {2, []string{}}}) {
		t.Errorf("%v, %+v", err, got)
	}
	if err := each(t.Context(), nil, collect); err != nil || got != nil {
		t.Errorf("%v, %+v", err, got)
	}
	<-ended
	for count, want := range map[string]int{"0": 0, "2": 2} {
		err := each(t.Context(), map[string][]string{"count": {count}, "fail": {"true"}}, collect)
		if e, is := errors.AsType[*Error](err); !is || e.Code != Unavailable || e.Message != "no more" || len(got) != want {
			t.Errorf("%v, %+v", err, got)
		}
		<-ended
	}

	// The client has enough.
	enough := errors.New("enough")
	if err := each(t.Context(), map[string][]string{"count": {"-1"}}, func(item *tick) error {
		if item.N == 2 {
			return enough
		}
		return nil
	}); !errors.Is(err, enough) {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler of a client that has gone: %v", err)
	}

	// The node stops.
	err := each(t.Context(), map[string][]string{"count": {"-1"}}, func(item *tick) error {
		if item.N == 2 {
			go stop()
		}
		return nil
	})
	if err == nil {
		t.Error("a stream that was cut ends as if it were complete")
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler of a node that stops: %v", err)
	}
}

// TestRaw asserts that an answer that is not JSON arrives as it is, and that one
// that is cut short is seen to be.
func TestRaw(t *testing.T) {
	c, _ := serveRouter(t, ticking(nil))
	read := func(query map[string][]string) (string, error) {
		body, err := c.Open(t.Context(), http.MethodGet, "/v1/raw", query, nil)
		if err != nil {
			return "", err
		}
		defer body.Close()
		text, err := io.ReadAll(body)
		return string(text), err
	}
	if text, err := read(map[string][]string{"count": {"5"}}); err != nil || text != "xxxxx" {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := read(nil); err != nil || text != "" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := read(map[string][]string{"fail": {"true"}}); err == nil || err.Error() != "no more" {
		t.Errorf("%v", err)
	}
	if text, err := read(map[string][]string{"count": {"3"}, "fail": {"true"}}); err == nil {
		t.Errorf("%q, cut short, is taken for complete", text)
	}
}

// TestPanic asserts that a handler that fails badly fails one request.
func TestPanic(t *testing.T) {
	r := &Router{}
	Handle(r, Endpoint{Method: http.MethodGet, Path: "/v1/bad", Role: ReadOnly, Tag: "t", Summary: "s"},
		func(context.Context, struct{}) (Nothing, error) { panic("bad") })
	c, _ := serveRouter(t, r)
	for range 2 {
		err := c.Call(t.Context(), http.MethodGet, "/v1/bad", nil, nil, nil)
		if e, is := errors.AsType[*Error](err); !is || e.Code != Internal || e.Message != "the node failed at it; its log says more" {
			t.Errorf("%v", err)
		}
	}
}

// TestOtherSites asserts that a web page of another site cannot have a browser
// send requests.
func TestOtherSites(t *testing.T) {
	h := inMemory(t, NewRouter(newFixed()))
	r, err := http.NewRequest(http.MethodPost, "http://node/v1/debug/profile?seconds=1", strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if answer := sendRequest(h, Operator, r); answer.StatusCode != http.StatusForbidden {
		t.Errorf("answered %s", answer.Status)
	}
}

// TestWithoutNils asserts that nil lists are sent as empty ones, that what the
// handler keeps stays as it is, and that what needs no change is not copied.
func TestWithoutNils(t *testing.T) {
	type Inner struct {
		List []int          `json:"list"`
		Map  map[string]any `json:"map"`
		Gone []int          `json:"gone,omitempty"`
		When time.Time      `json:"when"`
	}
	type outer struct {
		Inners []Inner          `json:"inners"`
		ByName map[string]Inner `json:"byName"`
		Ptr    *Inner           `json:"ptr"`
		Any    any              `json:"any"`
		Inner
	}
	given := outer{Inners: []Inner{{List: []int{1}, Map: map[string]any{}}, {}}, ByName: map[string]Inner{"a": {}}, Ptr: &Inner{}, Any: Inner{}}
	before := given
	before.Inners, before.ByName = []Inner{given.Inners[0], given.Inners[1]}, map[string]Inner{"a": {}}
	text, err := encode(given)
	if err != nil || strings.Contains(string(text), "null") {
		t.Errorf("%s, %v", text, err)
	}
	if !reflect.DeepEqual(given, before) || given.Inners[1].List != nil || given.Ptr.List != nil {
		t.Errorf("changed: %+v", given)
	}
	full := &outer{Inners: []Inner{}, ByName: map[string]Inner{}, Inner: Inner{List: []int{}, Map: map[string]any{}}}
	if got := withoutNils(full); got != any(full) {
		t.Error("copied without need")
	}
}
