package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// Client asks a running node.
type Client struct {
	socket string
	http   http.Client
}

// NewClient makes a client of the node that listens on a Unix socket.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Status asks for the node's status.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	var s Status
	return &s, c.get(ctx, "/v1/status", &s)
}

// Profile has the node's data process record its CPU time for so many seconds,
// and returns the recording in the format of pprof.
func (c *Client) Profile(ctx context.Context, seconds int) ([]byte, error) {
	answer, err := c.ask(ctx, http.MethodPost, fmt.Sprintf("/v1/debug/profile?seconds=%d", seconds))
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	recorded, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("the node's answer: %w", err)
	}
	return recorded, nil
}

func (c *Client) get(ctx context.Context, path string, body any) error {
	answer, err := c.ask(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(body); err != nil {
		return fmt.Errorf("the node's answer: %w", err)
	}
	return nil
}

// ask sends a request; the caller closes the answer's body.
func (c *Client) ask(ctx context.Context, method, path string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://fairlead"+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask the node at %s (does `fairlead run` run, and may you use its socket?): %w", c.socket, err)
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer answer.Body.Close()
	why, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	if text := strings.TrimSpace(string(why)); text != "" {
		return nil, fmt.Errorf("the node answers %s: %s", answer.Status, text)
	}
	return nil, fmt.Errorf("the node answers %s", answer.Status)
}
