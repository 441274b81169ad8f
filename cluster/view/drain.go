package view

import (
	"context"
	"errors"

	"fairlead/controlplane/api"
)

// MemberDrain implements api.ClusterProvider.
func (v *View) MemberDrain(ctx context.Context, node string) (api.MemberDrain, error) {
	n, err := v.member(node)
	if err != nil {
		return api.MemberDrain{}, err
	}
	out := api.MemberDrain{Node: node}
	if d, is := v.drains()[node]; is {
		out.Drained = &d
	}
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Timing.Answer)
	defer cancel()
	state, err := askOne[api.DrainState](ctx, v, n, "/v1/drain")
	if err != nil {
		out.Error = err.Error()
		return out, nil
	}
	out.State = &state
	return out, nil
}

// DrainMember implements api.ClusterProvider.
func (v *View) DrainMember(ctx context.Context, node string, drained bool) (api.MemberDrain, error) {
	if err := v.alone(); err != nil {
		return api.MemberDrain{}, err
	}
	if _, err := v.member(node); err != nil {
		return api.MemberDrain{}, err
	}
	if v.cfg.Drain == nil {
		return api.MemberDrain{}, api.Errorf(api.Unavailable, "this node cannot drain others")
	}
	_, is := v.drains()[node]
	if !drained && !is {
		return api.MemberDrain{}, api.Errorf(api.Conflict, "%s is not drained", node)
	}
	if err := v.cfg.Drain(ctx, node, drained, api.CallerOf(ctx).String()); err != nil {
		if own, ok := errors.AsType[*api.Error](err); ok {
			return api.MemberDrain{}, own
		}
		return api.MemberDrain{}, api.Errorf(api.Unavailable, "%v", err)
	}
	return v.MemberDrain(ctx, node)
}
