package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Revoker keeps the list of nodes' keys that the cluster takes no more.
type Revoker interface {
	RevokedKeys(ctx context.Context) (RevokedKeys, error)
	// RevokeMember revokes the key that a member has now.
	RevokeMember(ctx context.Context, node, reason string) (RevokedKey, error)
	// RestoreKey has a key taken again, named by its fingerprint or its node.
	RestoreKey(ctx context.Context, key string) (RevokedKey, error)
}

// RevokedKeys is the list.
type RevokedKeys struct {
	Keys []RevokedKey `json:"keys" doc:"By name of node."`
}

// RevokedKey is one key that is not taken any more.
type RevokedKey struct {
	Node        string    `json:"node" doc:"Whose key it was."`
	Fingerprint string    `json:"fingerprint" doc:"Of the node's key."`
	Since       time.Time `json:"since"`
	By          string    `json:"by" doc:"Who has revoked it, and on which node."`
	Reason      string    `json:"reason,omitempty"`
}

func registerRevoked(r *Router, node Revoker) {
	type none struct{}
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/cluster/revoked", Role: ReadOnly, Tag: "cluster", Summary: "Keys of nodes that the cluster takes no more",
		Examples: []Example{{Path: "/v1/cluster/revoked"}},
	}, func(ctx context.Context, _ none) (RevokedKeys, error) { return node.RevokedKeys(ctx) })
	type revoked struct {
		Name   string `path:"name" doc:"Name of the member, which need not live."`
		Reason string `query:"reason" doc:"Why, for people; at most 200 bytes."`
	}
	Handle(r, Endpoint{
		Method: http.MethodPost, Path: "/v1/cluster/members/{name}/revoke", Role: Operator, Tag: "cluster", Summary: "Have no node take a member's key any more",
		Description: "For a machine that was stolen, or is not to come back. Its connections end, and nothing that it signs is taken. It cannot be asked to revoke its own key.",
		Examples:    []Example{{Path: "/v1/cluster/members/lb3/revoke?reason=stolen"}},
	}, func(ctx context.Context, in revoked) (RevokedKey, error) {
		return node.RevokeMember(ctx, in.Name, in.Reason)
	})
	type restored struct {
		Key string `path:"key" doc:"Fingerprint of the key, or name of the node when it has one key on the list."`
	}
	Handle(r, Endpoint{
		Method: http.MethodPost, Path: "/v1/cluster/revoked/{key}/restore", Role: Operator, Tag: "cluster", Summary: "Have a key taken again",
		Examples: []Example{{Path: "/v1/cluster/revoked/lb3/restore"}},
	}, func(ctx context.Context, in restored) (RevokedKey, error) { return node.RestoreKey(ctx, in.Key) })
}

// RevokedKeys asks for the keys that the cluster takes no more.
func (c *Client) RevokedKeys(ctx context.Context) (*RevokedKeys, error) {
	var k RevokedKeys
	return &k, c.Call(ctx, http.MethodGet, "/v1/cluster/revoked", nil, nil, &k)
}

// RevokeMember has no node take a member's key any more.
func (c *Client) RevokeMember(ctx context.Context, member, reason string) (*RevokedKey, error) {
	query := url.Values{}
	if reason != "" {
		query.Set("reason", reason)
	}
	var k RevokedKey
	return &k, c.Call(ctx, http.MethodPost, memberPath(member, "revoke"), query, nil, &k)
}

// RestoreKey has a key taken again.
func (c *Client) RestoreKey(ctx context.Context, key string) (*RevokedKey, error) {
	var k RevokedKey
	return &k, c.Call(ctx, http.MethodPost, "/v1/cluster/revoked/"+url.PathEscape(key)+"/restore", nil, nil, &k)
}
