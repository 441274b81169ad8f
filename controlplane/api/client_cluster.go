package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
)

// ErrOnlyAsks says that a request would change something, which is not done by way
// of another node.
var ErrOnlyAsks = errors.New("by way of another node a member is only asked, and nothing is changed")

// Through is a client that asks a member of the cluster by way of the node that
// this one asks.
func (c *Client) Through(member string) *Client {
	other := *c
	other.of = member
	return &other
}

// through wraps a request to a member.
func (c *Client) through(method, path string, query url.Values) (string, url.Values, error) {
	if method != http.MethodGet {
		return "", nil, ErrOnlyAsks
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return memberPath(c.of, "ask"), url.Values{"path": {path}}, nil
}

func memberPath(name, what string) string {
	return "/v1/cluster/members/" + url.PathEscape(name) + "/" + what
}

// ClusterMembers asks for the members of the cluster.
func (c *Client) ClusterMembers(ctx context.Context) (*ClusterMembers, error) {
	var m ClusterMembers
	return &m, c.Call(ctx, http.MethodGet, "/v1/cluster/members", nil, nil, &m)
}

// ClusterStatus asks how the cluster is.
func (c *Client) ClusterStatus(ctx context.Context) (*ClusterStatus, error) {
	var s ClusterStatus
	return &s, c.Call(ctx, http.MethodGet, "/v1/cluster/status", nil, nil, &s)
}

// ClusterDiff asks what differs between all members, or between the node and one.
func (c *Client) ClusterDiff(ctx context.Context, member string) (*ClusterDiff, error) {
	var d ClusterDiff
	query := url.Values{}
	if member != "" {
		query.Set("node", member)
	}
	return &d, c.Call(ctx, http.MethodGet, "/v1/cluster/diff", query, nil, &d)
}

// ClusterKeys asks for the fingerprints of the keys that gossip is encrypted with.
func (c *Client) ClusterKeys(ctx context.Context) (*ClusterKeys, error) {
	var k ClusterKeys
	return &k, c.Call(ctx, http.MethodGet, "/v1/cluster/keys", nil, nil, &k)
}

// RotateClusterKey has all members encrypt with another key.
func (c *Client) RotateClusterKey(ctx context.Context) (*ClusterKeyRotation, error) {
	var r ClusterKeyRotation
	return &r, c.Call(ctx, http.MethodPost, "/v1/cluster/keys/rotate", nil, nil, &r)
}

// MemberDrain asks whether a member is drained.
func (c *Client) MemberDrain(ctx context.Context, member string) (*MemberDrain, error) {
	var d MemberDrain
	return &d, c.Call(ctx, http.MethodGet, memberPath(member, "drain"), nil, nil, &d)
}

// DrainMember takes a member out of service, or puts it back.
func (c *Client) DrainMember(ctx context.Context, member string, drained bool) (*MemberDrain, error) {
	what := "drain"
	if !drained {
		what = "undrain"
	}
	var d MemberDrain
	return &d, c.Call(ctx, http.MethodPost, memberPath(member, what), nil, nil, &d)
}

// NodeSummaries asks how all members are.
func (c *Client) NodeSummaries(ctx context.Context) (*NodeSummaries, error) {
	var s NodeSummaries
	return &s, c.Call(ctx, http.MethodGet, "/v1/cluster/summaries", nil, nil, &s)
}

// SummedServices asks for the services of all members that the query asks for.
func (c *Client) SummedServices(ctx context.Context, query url.Values) (*SummedServicePage, error) {
	out := &SummedServicePage{}
	err := pages(ctx, c, "/v1/cluster/services", query, func(p *SummedServicePage) ([]SummedService, string) {
		out.Answered, out.Unanswered = p.Answered, merged(out.Unanswered, p.Unanswered)
		return p.Services, p.Next
	}, func(s *SummedService) error { out.Services = append(out.Services, *s); return nil })
	return out, err
}

// SummedBackends asks for the backends of all members that the query asks for.
func (c *Client) SummedBackends(ctx context.Context, query url.Values) (*SummedBackendPage, error) {
	out := &SummedBackendPage{}
	err := pages(ctx, c, "/v1/cluster/backends", query, func(p *SummedBackendPage) ([]SummedBackend, string) {
		out.Answered, out.Unanswered = p.Answered, merged(out.Unanswered, p.Unanswered)
		return p.Backends, p.Next
	}, func(b *SummedBackend) error { out.Backends = append(out.Backends, *b); return nil })
	return out, err
}

// merged adds members that a page lacks to those that pages before it lacked.
func merged(all, more []NodeError) []NodeError {
	for _, m := range more {
		known := false
		for _, a := range all {
			known = known || a.Node == m.Node
		}
		if !known {
			all = append(all, m)
		}
	}
	return all
}

// SummedDrops asks what all members have dropped.
func (c *Client) SummedDrops(ctx context.Context) (*SummedDrops, error) {
	var d SummedDrops
	return &d, c.Call(ctx, http.MethodGet, "/v1/cluster/drops", nil, nil, &d)
}
