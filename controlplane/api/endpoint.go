package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Endpoint describes one endpoint. The router serves by it, and the OpenAPI
// document says what it says.
type Endpoint struct {
	Method      string // GET, POST, PUT or DELETE
	Path        string // as patterns of net/http: /v1/services/{name}
	Role        Role   // what the caller must at least be
	Tag         string // the chapter of the document it stands in
	Summary     string // one line
	Description string // more of it; may be empty
	// Examples are requests that succeed on a node where all that is named in
	// them exists. They are in the document, and a test sends each.
	Examples []Example
	MaxBody  int64         // bytes that a body may have; 0: DefaultMaxBody
	Timeout  time.Duration // after which the handler's context ends; 0: DefaultTimeout. Streams have none
	Answers  string        // content type of what Raw endpoints write
}

// Example is a request.
type Example struct {
	Path string // with its query: /v1/backends?pool=web
	Body string
}

// What endpoints have that do not say otherwise.
const (
	DefaultMaxBody = 1 << 20
	DefaultTimeout = 30 * time.Second
)

// Nothing is the answer of endpoints that have none but success.
type Nothing struct{}

// Content types of answers.
const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
)

// route is an endpoint with its handler.
type route struct {
	Endpoint
	params  []param
	body    *bodyField
	out     reflect.Type // of the answer, or of an item of a stream; nil: raw or none
	content string       // content type of the answer; empty: it has none
	serve   func(w http.ResponseWriter, r *http.Request) error
}

// Router has the endpoints of a node.
type Router struct {
	routes []*route
}

// Handle registers an endpoint that takes a request of type In, and answers
// with one Out in JSON, or with no content when Out is Nothing.
//
// In is a struct, whose fields have tags: `path:"name"` for a part of the path,
// `query:"name"` for a parameter, and `body:"application/json"` for what the
// body is decoded into; with any other content type the field is a []byte that
// has the body as it came. Parameters that several requests have in common are
// in a struct that each embeds. Parameters are strings, booleans, numbers,
// Durations, types that implement encoding.TextUnmarshaler, pointers to these,
// and slices of them, which may be given several times. `doc:"..."` describes a
// field, `default:"..."` is its value when it is not given, `required:"true"`
// has it given, `enum:"a,b"`, `minimum:"1"` and `maximum:"9"` bound it.
// Everything else that a request has is refused before f is called.
//
// The answer's fields have `json` and `doc` tags. A nil slice or map is sent as
// an empty one. Handlers may keep and share what they return.
func Handle[In, Out any](r *Router, e Endpoint, f func(ctx context.Context, in In) (Out, error)) {
	t := r.add(e, reflect.TypeFor[In]())
	t.out = reflect.TypeFor[Out]()
	if t.out == reflect.TypeFor[Nothing]() {
		t.out = nil
	} else {
		t.content = typeJSON
	}
	t.serve = func(w http.ResponseWriter, req *http.Request) error {
		var in In
		if err := t.decode(w, req, reflect.ValueOf(&in).Elem()); err != nil {
			return err
		}
		out, err := f(req.Context(), in)
		if err != nil {
			return err
		}
		if t.out == nil {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		return answer(w, http.StatusOK, out)
	}
}

// Stream registers an endpoint that answers with any number of items, each a
// line of JSON (NDJSON), sent as it comes. f ends when it is done, when send
// fails because the client has gone, or when ctx ends; send may be called by
// one goroutine at a time. An error before the first item is an answer of its
// own, one after it is the last line, in the shape of an error. In is as for
// Handle.
func Stream[In, Item any](r *Router, e Endpoint, f func(ctx context.Context, in In, send func(Item) error) error) {
	t := r.add(e, reflect.TypeFor[In]())
	t.out, t.content = reflect.TypeFor[Item](), typeNDJSON
	t.Timeout = -1
	t.serve = func(w http.ResponseWriter, req *http.Request) error {
		var in In
		if err := t.decode(w, req, reflect.ValueOf(&in).Elem()); err != nil {
			return err
		}
		s := newStream(w)
		return s.end(f(req.Context(), in, func(item Item) error { return s.send(item) }))
	}
}

// Raw registers an endpoint whose answer is not JSON but what f writes, of the
// type that the endpoint's Answers says. An error before the first byte is an
// answer of its own; after it, the connection is cut, so that the client sees
// that the answer is not complete. In is as for Handle.
func Raw[In any](r *Router, e Endpoint, f func(ctx context.Context, in In, w io.Writer) error) {
	t := r.add(e, reflect.TypeFor[In]())
	t.content = e.Answers
	if t.content == "" {
		panic("api: a raw endpoint without the type of what it answers: " + e.Path)
	}
	t.serve = func(w http.ResponseWriter, req *http.Request) error {
		var in In
		if err := t.decode(w, req, reflect.ValueOf(&in).Elem()); err != nil {
			return err
		}
		out := &rawAnswer{stream: newStream(w), content: t.content}
		err := f(req.Context(), in, out)
		if err != nil && out.begun {
			panic(http.ErrAbortHandler)
		}
		if err == nil && !out.begun {
			_, err = out.Write(nil)
		}
		return err
	}
}

// add checks what a registration says. What it refuses are mistakes of the
// program, which its tests find: it registers the same on every start.
func (r *Router) add(e Endpoint, in reflect.Type) *route {
	if e.Role != ReadOnly && e.Role != Operator {
		panic("api: an endpoint without a role: " + e.Path)
	}
	if !slices.Contains([]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}, e.Method) || e.Summary == "" || e.Tag == "" {
		panic("api: an endpoint without method, summary or tag: " + e.Path)
	}
	if e.MaxBody == 0 {
		e.MaxBody = DefaultMaxBody
	}
	if e.Timeout == 0 {
		e.Timeout = DefaultTimeout
	}
	t := &route{Endpoint: e}
	t.params, t.body = fieldsOf(in)
	var named []string
	for part := range strings.SplitSeq(e.Path, "/") {
		if name, is := strings.CutPrefix(part, "{"); is {
			named = append(named, strings.TrimSuffix(name, "}"))
		}
	}
	var have []string
	for _, p := range t.params {
		if p.in == inPath {
			have = append(have, p.name)
		}
	}
	slices.Sort(named)
	slices.Sort(have)
	if !slices.Equal(named, have) {
		panic(fmt.Sprintf("api: %s has the parameters %v, its request %v", e.Path, named, have))
	}
	r.routes = append(r.routes, t)
	return t
}
