package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
)

// Local answers requests without a network, for callers in the same process.
type Local struct{ handler *handler }

// NewLocal makes a Local of the endpoints of a node.
func NewLocal(node Provider, version string, log *slog.Logger) (*Local, error) {
	h, err := NewRouter(node).handler(version, nil, log)
	if err != nil {
		return nil, fmt.Errorf("admin API: %w", err)
	}
	return &Local{h}, nil
}

// MaxLocal is the longest answer that a Local gives, in bytes.
const MaxLocal = 16 << 20

// Get answers GET of a path with its query, for a caller. What is no success is an
// *Error; so is what would be a stream, or not JSON.
func (l *Local) Get(ctx context.Context, caller Caller, path string) ([]byte, error) {
	u, err := url.ParseRequestURI(path)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(path, "/") {
		return nil, Errorf(BadRequest, "%q is not the path of an endpoint", path)
	}
	ctx = context.WithValue(withCaller(ctx, caller), localKey{}, true)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, path, http.NoBody)
	if err != nil {
		return nil, Errorf(BadRequest, "%q is not the path of an endpoint", path)
	}
	w := &memory{header: make(http.Header)}
	l.handler.ServeHTTP(w, r)
	if w.over {
		return nil, Errorf(TooLarge, "the answer has more than %d bytes; ask for a part of it", MaxLocal)
	}
	if w.status/100 != 2 {
		return nil, readError(w.status, &w.body)
	}
	return w.body.Bytes(), nil
}

type localKey struct{}

// isLocal reports whether a Local answers the request of a context.
func isLocal(ctx context.Context) bool { return ctx.Value(localKey{}) != nil }

// readError is the error that an answer's body is.
func readError(status int, body io.Reader) error {
	why, _ := io.ReadAll(io.LimitReader(body, 1<<20))
	var failure errorBody
	if err := json.Unmarshal(why, &failure); err == nil && failure.Error != nil {
		return failure.Error
	}
	return fmt.Errorf("the node answers %d %s", status, http.StatusText(status))
}

// memory is an answer in memory.
type memory struct {
	header http.Header
	status int
	body   bytes.Buffer
	over   bool
}

// Header implements http.ResponseWriter.
func (m *memory) Header() http.Header { return m.header }

// WriteHeader implements http.ResponseWriter.
func (m *memory) WriteHeader(status int) {
	if m.status == 0 {
		m.status = status
	}
}

// Write implements http.ResponseWriter.
func (m *memory) Write(p []byte) (int, error) {
	m.WriteHeader(http.StatusOK)
	if m.body.Len()+len(p) > MaxLocal {
		m.over = true
		return 0, fmt.Errorf("the answer has more than %d bytes", MaxLocal)
	}
	return m.body.Write(p)
}
