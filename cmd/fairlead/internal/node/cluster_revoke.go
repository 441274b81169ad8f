package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"fairlead/cluster/member"
	"fairlead/cluster/revoke"
	"fairlead/controlplane/api"
)

// openRevoke has this node refuse the keys that the cluster takes no more, before
// it speaks to anybody.
func openRevoke(n *Node) (clusterRoom, error) {
	list := revoke.New(revoke.Config{
		Identity: n.cluster.Identity, Members: n.cluster.Members, Store: n.cluster.Store,
		Changed: n.cluster.gossip.Reconsider, Log: n.cluster.Log,
	})
	n.cluster.revoked = list
	if own, is := list.Own(); is {
		list.Close()
		dir := clusterDirectory(n.cfg)
		return clusterRoom{}, fmt.Errorf("%w (by %s%s); to let this machine in as a new node remove %s; when the key is taken again by the others, remove %s",
			member.ErrRevoked, own.By, because(own.Reason), filepath.Join(dir, "node.pem"), filepath.Join(dir, "store"))
	}
	return clusterRoom{close: func() error { list.Close(); return nil }}, nil
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func (n *Node) revocations() (*revoke.List, error) {
	if n.cluster == nil {
		return nil, api.Errorf(api.Conflict, "this node is in no cluster; [cluster] in its configuration has it join one")
	}
	return n.cluster.revoked, nil
}

// RevokedKeys implements api.Revoker.
func (n *Node) RevokedKeys(context.Context) (api.RevokedKeys, error) {
	list, err := n.revocations()
	if err != nil {
		return api.RevokedKeys{}, err
	}
	var out api.RevokedKeys
	for _, r := range list.All() {
		out.Keys = append(out.Keys, revokedKey(&r))
	}
	return out, nil
}

// RevokeMember implements api.Revoker.
func (n *Node) RevokeMember(ctx context.Context, node, reason string) (api.RevokedKey, error) {
	list, err := n.revocations()
	if err != nil {
		return api.RevokedKey{}, err
	}
	r, err := list.Revoke(node, reason, api.CallerOf(ctx).String())
	return revokedKey(&r), revocationError(err)
}

// RestoreKey implements api.Revoker.
func (n *Node) RestoreKey(_ context.Context, key string) (api.RevokedKey, error) {
	list, err := n.revocations()
	if err != nil {
		return api.RevokedKey{}, err
	}
	r, err := list.Restore(key)
	return revokedKey(&r), revocationError(err)
}

func revokedKey(r *revoke.Revocation) api.RevokedKey {
	return api.RevokedKey{Node: r.Node, Fingerprint: r.Fingerprint(), Since: r.At, By: r.By, Reason: r.Reason}
}

func revocationError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, revoke.ErrUnknown):
		return api.Errorf(api.NotFound, "%v", err)
	case errors.Is(err, revoke.ErrSelf):
		return api.Errorf(api.Conflict, "%v", err)
	case errors.Is(err, revoke.ErrReason):
		return api.Errorf(api.Invalid, "%v", err)
	}
	return api.Errorf(api.Unavailable, "%v", err)
}
