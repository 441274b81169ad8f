package api

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// inMemory is the handler of a node, without a network.
func inMemory(t testing.TB, r *Router) *handler {
	t.Helper()
	h, err := r.handler("v1", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// send sends a request as somebody with a role.
func send(h http.Handler, role Role, method, path, content, body string) *http.Response {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if content != "" {
		r.Header.Set("Content-Type", content)
	}
	return sendRequest(h, role, r)
}

func sendRequest(h http.Handler, role Role, r *http.Request) *http.Response {
	r = r.WithContext(withCaller(r.Context(), Caller{Name: "alice", From: "pid 1", Role: role}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// document is what the node serves as its document, loaded and checked.
func document(t testing.TB, h http.Handler) *openapi3.T {
	t.Helper()
	answer := send(h, ReadOnly, http.MethodGet, documentPath, "", "")
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %s", answer.Status, err, text)
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestDocument asserts that the document is valid OpenAPI, and that it has
// every endpoint and no other.
func TestDocument(t *testing.T) {
	r := NewRouter(newFixed())
	h := inMemory(t, r)
	doc := document(t, h)
	var have, want []string
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			have = append(have, method+" "+path)
		}
	}
	for _, route := range r.routes {
		want = append(want, route.Method+" "+route.Path)
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("the document has\n%s\nthe router\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
	if len(slices.Compact(want)) != len(r.routes) {
		t.Error("an endpoint is registered twice")
	}
	ids := make(map[string]bool)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if ids[op.OperationID] {
				t.Errorf("%s %s: the operation id %s is another's", method, path, op.OperationID)
			}
			ids[op.OperationID] = true
		}
	}
}

// TestExamples sends every example of every endpoint, and holds the request and
// the answer, and what a caller without the role is answered, against the
// document.
func TestExamples(t *testing.T) {
	r := NewRouter(newFixed())
	h := inMemory(t, r)
	doc := document(t, h)
	for _, route := range r.routes {
		if len(route.Examples) == 0 {
			t.Errorf("%s %s has no example", route.Method, route.Path)
		}
		for _, e := range route.Examples {
			t.Run(route.Method+" "+e.Path, func(t *testing.T) {
				content := ""
				if route.body != nil {
					content = route.body.content
				}
				answer := send(h, route.Role, route.Method, e.Path, content, e.Body)
				if answer.StatusCode/100 != 2 {
					text, _ := io.ReadAll(answer.Body)
					t.Fatalf("%s: %s", answer.Status, text)
				}
				conforms(t, doc, route, e, answer)
				if refused := send(h, route.Role-1, route.Method, e.Path, content, e.Body); refused.StatusCode != http.StatusForbidden {
					t.Errorf("%s is answered %s", route.Role-1, refused.Status)
				} else {
					conforms(t, doc, route, e, refused)
				}
			})
		}
	}
}

// conforms holds a request and its answer against the document.
func conforms(t *testing.T, doc *openapi3.T, of *route, e Example, answer *http.Response) {
	t.Helper()
	request := httptest.NewRequest(of.Method, "http://node"+e.Path, strings.NewReader(e.Body))
	if of.body != nil {
		request.Header.Set("Content-Type", of.body.content)
	}
	item := doc.Paths.Value(of.Path)
	found := &routers.Route{Spec: doc, Path: of.Path, PathItem: item, Method: of.Method, Operation: item.GetOperation(of.Method)}
	in := &openapi3filter.RequestValidationInput{Request: request, PathParams: pathParams(of.Path, request.URL.EscapedPath()), Route: found}
	if err := openapi3filter.ValidateRequest(t.Context(), in); err != nil {
		t.Errorf("the request: %v", err)
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	bodies := [][]byte{text}
	if answer.Header.Get("Content-Type") == typeNDJSON {
		bodies = bytes.SplitAfter(bytes.TrimSpace(text), []byte("\n"))
	}
	for _, body := range bodies {
		out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: answer.StatusCode, Header: answer.Header}
		out.SetBodyBytes(body)
		if err := openapi3filter.ValidateResponse(t.Context(), out); err != nil {
			t.Errorf("the answer: %v\n%s", err, body)
		}
	}
}

// pathParams are the parts of a path that stand where its pattern has names.
func pathParams(pattern, path string) map[string]string {
	params := make(map[string]string)
	parts := strings.Split(path, "/")
	for i, part := range strings.Split(pattern, "/") {
		if name, is := strings.CutPrefix(part, "{"); is {
			params[strings.TrimSuffix(name, "}")] = parts[i]
		}
	}
	return params
}

func init() {
	openapi3filter.RegisterBodyDecoder(typeNDJSON, func(body io.Reader, _ http.Header, _ *openapi3.SchemaRef, _ openapi3filter.EncodingFn) (any, error) {
		var value any
		decoder := json.NewDecoder(body)
		decoder.UseNumber()
		return value, decoder.Decode(&value)
	})
}

// TestEmptyNode asserts that lists of nothing are lists.
func TestEmptyNode(t *testing.T) {
	r := NewRouter(&fixed{summary: Summary{Health: HealthOK}})
	h := inMemory(t, r)
	doc := document(t, h)
	for _, path := range []string{"/v1/status", "/v1/services", "/v1/backends"} {
		answer := send(h, ReadOnly, http.MethodGet, path, "", "")
		i := slices.IndexFunc(r.routes, func(route *route) bool { return route.Path == path })
		conforms(t, doc, r.routes[i], Example{Path: path}, answer)
	}
}
