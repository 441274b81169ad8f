package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// handler serves the endpoints of a router. Who calls is in the context of
// requests, or in their certificate.
type handler struct {
	mux   *http.ServeMux
	tcp   *TCP
	cross *http.CrossOriginProtection
	log   *slog.Logger
	// audited is told of what operators do; others, who may only try, write to log.
	audited *slog.Logger
	active  sync.WaitGroup // requests under way
}

// handler makes one of what is registered, and of the document that says
// what that is.
func (r *Router) handler(version string, tcp *TCP, log *slog.Logger) (*handler, error) {
	var document atomic.Pointer[[]byte]
	registerDocument(r, &document)
	text, err := r.Document(version)
	if err != nil {
		return nil, fmt.Errorf("the OpenAPI document: %w", err)
	}
	document.Store(&text)
	h := &handler{mux: http.NewServeMux(), tcp: tcp, cross: http.NewCrossOriginProtection(), log: log, audited: log}
	methods := make(map[string]map[string]*route)
	for _, t := range r.routes {
		if methods[t.Path] == nil {
			methods[t.Path] = make(map[string]*route)
		}
		methods[t.Path][t.Method] = t
	}
	for path, routes := range methods {
		h.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { h.dispatch(w, r, routes) })
	}
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, Errorf(NotFound, "there is no %s; GET /v1/openapi.json lists what there is", r.URL.Path))
	})
	return h, nil
}

// ServeHTTP refuses who may nothing and what is no plain path, and finds the
// endpoint.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.active.Add(1)
	defer h.active.Done()
	defer h.survive(w, r)
	if r.TLS != nil {
		if len(r.TLS.PeerCertificates) == 0 {
			refuse(w, Errorf(Forbidden, "no certificate"))
			return
		}
		r = r.WithContext(withCaller(r.Context(), h.tcp.caller(r.TLS.PeerCertificates[0], r.RemoteAddr)))
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if caller := CallerOf(r.Context()); caller.Role == Nobody {
		h.log.Warn("admin API: refused", "caller", caller.String())
		refuse(w, Errorf(Forbidden, "%s may not use this node", caller.Name))
		return
	}
	if err := h.cross.Check(r); err != nil {
		refuse(w, Errorf(Forbidden, "another site's page sends this request: %v", err))
		return
	}
	if escaped := r.URL.EscapedPath(); !strings.HasPrefix(escaped, "/") || path.Clean(escaped) != escaped {
		refuse(w, Errorf(NotFound, "there is no %s", r.URL.Path))
		return
	}
	h.mux.ServeHTTP(w, r)
}

// survive answers when a handler has panicked: one request fails, not the node.
func (h *handler) survive(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p) // the server's own way to cut a connection
	}
	h.log.Error("admin API: a handler failed", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(p))
	refuse(w, Errorf(Internal, "the node failed at it; its log says more"))
}

// dispatch calls the route for a request's method.
func (h *handler) dispatch(w http.ResponseWriter, r *http.Request, routes map[string]*route) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	t := routes[method]
	if t == nil {
		var have []string
		for method := range routes {
			have = append(have, method)
		}
		slices.Sort(have)
		w.Header().Set("Allow", strings.Join(have, ", "))
		refuse(w, Errorf(MethodNotAllowed, "%s takes %s, not %s", r.URL.Path, strings.Join(have, ", "), r.Method))
		return
	}
	caller := CallerOf(r.Context())
	if caller.Role < t.Role {
		h.log.Warn("admin API: refused", "caller", caller.String(), "method", t.Method, "path", r.URL.Path, "needs", t.Role.String())
		refuse(w, Errorf(Forbidden, "%s %s needs the role %s; %s is %s", t.Method, t.Path, t.Role, caller.Name, caller.Role))
		return
	}
	if isLocal(r.Context()) && t.content != typeJSON {
		refuse(w, Errorf(BadRequest, "%s cannot be asked for by way of another node; ask the node itself", r.URL.Path))
		return
	}
	if t.Timeout > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), t.Timeout)
		defer cancel()
		r = r.WithContext(ctx)
	}
	begin := time.Now()
	err := t.serve(w, r)
	var said *Error
	if err != nil {
		said = refuse(w, err)
		if said.Code == Internal {
			h.log.Error("admin API: failed", "method", t.Method, "path", r.URL.Path, "error", said.Message)
		}
	}
	if t.Role == Operator {
		h.audit(r, caller, said, time.Since(begin))
	}
}

// audit logs what an operator has done, or has tried to do.
func (h *handler) audit(r *http.Request, caller Caller, failure *Error, took time.Duration) {
	result := "done"
	if failure != nil {
		result = fmt.Sprintf("%s: %s", failure.Code, failure.Message)
	}
	log := h.log
	if caller.Role == Operator {
		log = h.audited
	}
	log.Info("admin API: operator", "caller", caller.String(), "method", r.Method, "path", r.URL.Path, "query", r.URL.RawQuery,
		"result", result, "took", took)
}

// registerDocument registers the document itself.
func registerDocument(r *Router, document *atomic.Pointer[[]byte]) {
	if slices.ContainsFunc(r.routes, func(t *route) bool { return t.Path == documentPath }) {
		return
	}
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: documentPath, Role: ReadOnly, Tag: "node", Summary: "This document",
		Examples: []Example{{Path: documentPath}},
	}, func(context.Context, struct{}) (rawJSON, error) { return rawJSON(*document.Load()), nil })
}

const documentPath = "/v1/openapi.json"

// rawJSON is an answer that is JSON already.
type rawJSON []byte

// MarshalJSON implements json.Marshaler.
func (j rawJSON) MarshalJSON() ([]byte, error) { return j, nil }
