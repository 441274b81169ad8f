package view

import (
	"context"
	"slices"

	"fairlead/controlplane/api"
)

// keysPath asks a node for its own keys alone.
const keysPath = "/v1/facts/keys"

// LocalKeys are the fingerprints of this node's gossip keys, that in use first.
func (v *View) LocalKeys() api.NodeKeys {
	if v.cfg.Keys == nil {
		return api.NodeKeys{}
	}
	return api.NodeKeys{Fingerprints: v.cfg.Keys()}
}

// ClusterKeys implements api.ClusterProvider.
func (v *View) ClusterKeys(ctx context.Context) (api.ClusterKeys, error) {
	if err := v.alone(); err != nil {
		return api.ClusterKeys{}, err
	}
	answers := askAll[api.NodeKeys](ctx, v, v.present(), keysPath)
	var out api.ClusterKeys
	_, out.Unanswered = split(answers)
	at := make(map[string]int)
	for i := range answers {
		for rank, fingerprint := range answers[i].value.Fingerprints {
			k, known := at[fingerprint]
			if !known {
				k = len(out.Keys)
				at[fingerprint] = k
				out.Keys = append(out.Keys, api.ClusterKey{Fingerprint: fingerprint})
			}
			key := &out.Keys[k]
			key.Nodes = append(key.Nodes, answers[i].node.Name)
			if rank == 0 {
				key.Primary = append(key.Primary, answers[i].node.Name)
			}
		}
	}
	slices.SortStableFunc(out.Keys, func(a, b api.ClusterKey) int { return len(b.Primary) - len(a.Primary) })
	return out, nil
}

// RotateClusterKey implements api.ClusterProvider.
func (v *View) RotateClusterKey(ctx context.Context) (api.ClusterKeyRotation, error) {
	if err := v.alone(); err != nil {
		return api.ClusterKeyRotation{}, err
	}
	if v.cfg.Rotate == nil {
		return api.ClusterKeyRotation{}, api.Errorf(api.Unavailable, "this node cannot rotate keys")
	}
	return v.cfg.Rotate(ctx)
}
