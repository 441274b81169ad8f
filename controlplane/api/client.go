package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
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

func (c *Client) get(ctx context.Context, path string, body any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://fairlead"+path, nil)
	if err != nil {
		return err
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("ask the node at %s (does `fairlead run` run, and may you use its socket?): %w", c.socket, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the node answers %s", answer.Status)
	}
	if err := json.NewDecoder(answer.Body).Decode(body); err != nil {
		return fmt.Errorf("the node's answer: %w", err)
	}
	return nil
}
