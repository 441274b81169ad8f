package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client asks a running node.
type Client struct {
	where string // in messages
	hint  string
	base  string
	http  http.Client
	of    string // the member that is asked by way of the node; "": the node itself
}

// maxLine is the longest item of a stream that a client takes, in bytes.
const maxLine = 64 << 20

// NewClient makes a client of the node that listens on a Unix socket.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &Client{
		where: socket, hint: "does `fairlead run` run, and may you use its socket?", base: "http://fairlead",
		http: http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}},
	}
}

// NewTLSClient makes a client of the node that listens at https://HOST:PORT.
// cert and key are PEM files of the client's certificate, ca one of the
// authorities that sign nodes' certificates.
func NewTLSClient(server, cert, key, ca string) (*Client, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, fmt.Errorf("%q is no server; write https://HOST:PORT", server)
	}
	own, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", cert, key, err)
	}
	authorities, err := loadPool(ca)
	if err != nil {
		return nil, err
	}
	secure := &tls.Config{Certificates: []tls.Certificate{own}, RootCAs: authorities, MinVersion: tls.VersionTLS13}
	return &Client{
		where: server, hint: "does it run, and does each end know the other's authority?", base: "https://" + u.Host,
		http: http.Client{Transport: &http.Transport{TLSClientConfig: secure, DisableKeepAlives: true, TLSHandshakeTimeout: 10 * time.Second}},
	}, nil
}

// UnreachableError says that no node has answered.
type UnreachableError struct {
	Where, Hint string
	Err         error
}

// Error says what to look at.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("ask the node at %s (%s): %v", e.Where, e.Hint, e.Err)
}

// Unwrap gives what the connection came to.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Call sends a request and decodes the answer into out, which may be nil. body
// is nil, a []byte with the type it is sent as, or a value that is sent as
// JSON. An answer that is an error is returned as *Error.
func (c *Client) Call(ctx context.Context, method, path string, query url.Values, body, out any) error {
	answer, err := c.ask(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, answer.Body)
	} else {
		err = json.NewDecoder(answer.Body).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("the node's answer: %w", err)
	}
	return nil
}

// Document is a body that is not JSON.
type Document struct {
	Type string // its content type
	Text []byte
}

// Open sends a request whose answer is not JSON; the caller closes it.
func (c *Client) Open(ctx context.Context, method, path string, query url.Values, body any) (io.ReadCloser, error) {
	answer, err := c.ask(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

// Each sends a request whose answer is a stream, and calls f for every item
// until there are no more, f fails, or ctx ends.
func Each[Item any](ctx context.Context, c *Client, method, path string, query url.Values, body any, f func(*Item) error) error {
	answer, err := c.ask(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		if failure := failureIn(lines.Bytes()); failure != nil {
			return failure
		}
		var item Item
		if err := json.Unmarshal(lines.Bytes(), &item); err != nil {
			return fmt.Errorf("the node's answer: %w", err)
		}
		if err := f(&item); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("the node's answer: %w", err)
	}
	return nil
}

// failureIn gives the error that a line of a stream is, nil when it is an item.
func failureIn(line []byte) error {
	if !bytes.HasPrefix(line, []byte(`{"error":{`)) {
		return nil
	}
	var body errorBody
	if err := json.Unmarshal(line, &body); err != nil || body.Error == nil || body.Error.Code == "" {
		return nil
	}
	return body.Error
}

// ask sends a request; the caller closes the answer's body.
func (c *Client) ask(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	content, text, err := encodeBody(body)
	if err != nil {
		return nil, err
	}
	if c.of != "" {
		if path, query, err = c.through(method, path, query); err != nil {
			return nil, err
		}
	}
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, target, text)
	if err != nil {
		return nil, err
	}
	if content != "" {
		r.Header.Set("Content-Type", content)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return nil, &UnreachableError{Where: c.where, Hint: c.hint, Err: err}
	}
	if answer.StatusCode/100 == 2 {
		return answer, nil
	}
	defer answer.Body.Close()
	return nil, readError(answer.StatusCode, answer.Body)
}

func encodeBody(body any) (content string, _ io.Reader, err error) {
	switch body := body.(type) {
	case nil:
		return "", nil, nil
	case Document:
		return body.Type, bytes.NewReader(body.Text), nil
	}
	text, err := json.Marshal(body)
	return typeJSON, bytes.NewReader(text), err
}

// Summary asks how the node is.
func (c *Client) Summary(ctx context.Context) (*Summary, error) {
	var s Summary
	return &s, c.Call(ctx, http.MethodGet, "/v1/status", nil, nil, &s)
}

// Status asks how the node is, and for all of its services with their backends.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	summary, err := c.Summary(ctx)
	if err != nil {
		return &Status{}, err
	}
	s := &Status{Summary: *summary}
	return s, c.Services(ctx, url.Values{"backends": {"true"}}, func(v *Service) error {
		s.Services = append(s.Services, *v)
		return nil
	})
}

// Services calls f for every service that the query asks for, page by page.
func (c *Client) Services(ctx context.Context, query url.Values, f func(*Service) error) error {
	return pages(ctx, c, "/v1/services", query, func(p *ServicePage) ([]Service, string) { return p.Services, p.Next }, f)
}

// Service asks for one service with its backends.
func (c *Client) Service(ctx context.Context, name string) (*Service, error) {
	var s Service
	return &s, c.Call(ctx, http.MethodGet, "/v1/services/"+url.PathEscape(name), nil, nil, &s)
}

// Backends calls f for every backend that the query asks for, page by page.
func (c *Client) Backends(ctx context.Context, query url.Values, f func(*PoolBackend) error) error {
	return pages(ctx, c, "/v1/backends", query, func(p *BackendPage) ([]PoolBackend, string) { return p.Backends, p.Next }, f)
}

// pages asks for one page after the other.
func pages[Page, Item any](ctx context.Context, c *Client, path string, query url.Values, of func(*Page) ([]Item, string), f func(*Item) error) error {
	asked := url.Values{"limit": {strconv.Itoa(MaxPage)}}
	for key, values := range query {
		asked[key] = values
	}
	for {
		var page Page
		if err := c.Call(ctx, http.MethodGet, path, asked, nil, &page); err != nil {
			return err
		}
		items, next := of(&page)
		for i := range items {
			if err := f(&items[i]); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		asked.Set("after", next)
	}
}

// Profile has the node's data process record its CPU time for so many seconds,
// and returns the recording in the format of pprof.
func (c *Client) Profile(ctx context.Context, seconds int) ([]byte, error) {
	answer, err := c.Open(ctx, http.MethodPost, "/v1/debug/profile", url.Values{"seconds": {strconv.Itoa(seconds)}}, nil)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	recorded, err := io.ReadAll(answer)
	if err != nil {
		return nil, fmt.Errorf("the node's answer: %w", err)
	}
	return recorded, nil
}
