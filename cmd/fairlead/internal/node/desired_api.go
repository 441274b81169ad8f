package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"fairlead/configs"
	"fairlead/controlplane/api"
	"fairlead/controlplane/desired"
	"fairlead/controlplane/model"
)

// ApplyConfig implements api.ConfigProvider.
func (n *Node) ApplyConfig(ctx context.Context, q api.ApplyConfig) (api.ConfigResult, error) {
	d, err := n.desired.readSent(q.Name, q.Text)
	if err != nil {
		return api.ConfigResult{}, answerFor(q.Name, err)
	}
	r := desired.Request{User: api.CallerOf(ctx).String(), Comment: q.Comment, Force: q.Force, DryRun: q.DryRun, Confirm: time.Duration(q.Confirm)}
	result, warnings, err := n.desired.change(ctx, r, ChangeOptions{RequireAll: q.RequireAll}, func(r desired.Request) (*desired.Result, error) {
		return n.desired.store.Declare(d, r)
	})
	return resultOf(result, q.DryRun, warnings), answerFor(q.Name, err)
}

// ReloadConfig implements api.ConfigProvider.
func (n *Node) ReloadConfig(ctx context.Context, q api.ChangeConfig) (api.ConfigResult, error) {
	r := desired.Request{User: api.CallerOf(ctx).String(), Comment: q.Comment, Force: q.Force, DryRun: q.DryRun}
	result, warnings, err := n.desired.Reload(ctx, r, ChangeOptions{RequireAll: q.RequireAll, Publish: q.Publish})
	return resultOf(result, q.DryRun, warnings), answerFor(n.desired.path, err)
}

// RollbackConfig implements api.ConfigProvider.
func (n *Node) RollbackConfig(ctx context.Context, q api.RollbackConfig) (api.ConfigResult, error) {
	r := desired.Request{User: api.CallerOf(ctx).String(), Comment: q.Comment, Force: q.Force, DryRun: q.DryRun}
	result, warnings, err := n.desired.change(ctx, r, ChangeOptions{RequireAll: q.RequireAll}, func(r desired.Request) (*desired.Result, error) {
		return n.desired.store.Rollback(q.Version, r)
	})
	return resultOf(result, q.DryRun, warnings), answerFor("", err)
}

// ConfirmConfig implements api.ConfigProvider.
func (n *Node) ConfirmConfig(ctx context.Context) (api.ConfigVersion, error) {
	var v *desired.Version
	confirm := func() (err error) {
		v, err = n.desired.store.Confirm()
		return err
	}
	var err error
	if a := n.desired.sharing(); a != nil {
		err = a.Confirm(api.CallerOf(ctx).String(), confirm)
	} else {
		err = confirm()
	}
	if err != nil {
		return api.ConfigVersion{}, answerFor("", err)
	}
	return versionOf(v), nil
}

// DiffConfig implements api.ConfigProvider.
func (n *Node) DiffConfig(ctx context.Context, q api.DiffConfig) (api.ConfigResult, error) {
	result, name, err := n.desired.diff(ctx, q)
	out := resultOf(result, true, nil)
	if guard := (*desired.GuardError)(nil); errors.As(err, &guard) {
		out.Guarded, err = guard.Error(), nil
	}
	return out, answerFor(name, err)
}

func (d *Desired) diff(ctx context.Context, q api.DiffConfig) (result *desired.Result, name string, err error) {
	dry := desired.Request{DryRun: true}
	switch {
	case q.Version != 0:
		result, err = d.store.Rollback(q.Version, dry)
		return result, "", err
	case q.File && q.Text == nil:
		result, _, err = d.Reload(ctx, dry, ChangeOptions{local: true})
		return result, d.path, err
	}
	if q.File {
		doc, err := configs.Read(q.Name, q.Text)
		if err == nil {
			result, err = d.declareFile(q.Name, doc, dry)
		}
		return result, q.Name, err
	}
	declared, err := d.readSent(q.Name, q.Text)
	if err == nil {
		result, err = d.store.Declare(declared, dry)
	}
	return result, q.Name, err
}

// ConfigHistory implements api.ConfigProvider.
func (n *Node) ConfigHistory(context.Context) (api.ConfigHistory, error) {
	var h api.ConfigHistory
	for i, v := range n.desired.store.History() {
		h.Versions = append(h.Versions, versionOf(v))
		if i > 0 {
			h.Versions[i].Pending = nil // it was decided since
		}
	}
	return h, nil
}

// Config implements api.ConfigProvider.
func (n *Node) Config(_ context.Context, version uint64) (api.VersionedConfig, error) {
	d, err := n.desired.store.Version(version)
	if err != nil {
		return api.VersionedConfig{}, answerFor("", err)
	}
	out := api.VersionedConfig{Version: versionOf(d.Version), Settings: settingsOf(d.Settings)}
	for _, source := range slices.Sorted(maps.Keys(d.Declarations)) {
		decl := d.Declarations[source]
		s := api.ConfigSource{Source: source, Name: decl.Name, Text: string(decl.Text), Services: len(decl.State.Services), Pools: len(decl.State.Pools)}
		for i := range decl.State.Pools {
			s.Backends += len(decl.State.Pools[i].Backends)
		}
		out.Sources = append(out.Sources, s)
	}
	return out, nil
}

// BackendSettings implements api.ConfigProvider.
func (n *Node) BackendSettings(context.Context) (api.BackendSettings, error) {
	return api.BackendSettings{Settings: settingsOf(n.desired.store.Settings())}, nil
}

// SetBackend implements api.ConfigProvider.
func (n *Node) SetBackend(ctx context.Context, q api.SetBackend) (api.ConfigResult, error) {
	var result *desired.Result
	err := n.desired.set(func() (err error) {
		result, err = n.desired.store.SetBackend(q.Pool, q.Backend,
			desired.Action{State: model.AdminState(q.State), Timeout: time.Duration(q.Timeout), Weight: q.Weight},
			desired.Request{User: api.CallerOf(ctx).String(), Comment: q.Comment})
		return err
	})
	return resultOf(result, false, nil), answerFor("", err)
}

func settingsOf(list []model.BackendSetting) []api.BackendSetting {
	out := make([]api.BackendSetting, len(list))
	for i, s := range list {
		out[i] = api.BackendSetting{Pool: s.Pool, Backend: s.Endpoint.String(), State: string(s.State), Weight: s.Weight}
		if s.Endpoint.Port() == 0 {
			out[i].Backend = s.Endpoint.Addr().String()
		}
		if !s.Deadline.IsZero() {
			out[i].Deadline = &list[i].Deadline
		}
	}
	return out
}

func versionOf(v *desired.Version) api.ConfigVersion {
	return api.ConfigVersion{
		Number: v.Number, Time: v.Time, Source: v.Author.Source, User: v.Author.User, Node: v.Author.Node, Comment: v.Comment,
		Summary: v.Summary.String(), Pending: pendingOf(v.Pending),
	}
}

func pendingOf(p *desired.Pending) *api.PendingChange {
	if p == nil {
		return nil
	}
	return &api.PendingChange{Version: p.Version, Until: p.Until}
}

func resultOf(r *desired.Result, dry bool, warnings []string) api.ConfigResult {
	if r == nil {
		return api.ConfigResult{}
	}
	out := api.ConfigResult{Version: versionOf(r.Version), Changed: r.Changed, DryRun: dry, Warnings: warnings, Changes: make([]api.ConfigChange, len(r.Changes))}
	for i := range r.Changes {
		c := &r.Changes[i]
		out.Changes[i] = api.ConfigChange{Op: string(c.Op), Kind: c.Kind, Pool: c.Pool, Name: c.Name}
		for _, f := range c.Fields {
			out.Changes[i].Fields = append(out.Changes[i].Fields, api.ConfigField{Name: f.Name, Before: f.Before, After: f.After})
		}
	}
	return out
}

// answerFor is how an error of the store is answered. name is that of the
// document in question: what is wrong with it has its place in it.
func answerFor(name string, err error) error {
	if err == nil {
		return nil
	}
	if answer := answerOfCluster(err); answer != nil {
		return answer
	}
	var (
		invalid *desired.InvalidError
		guard   *desired.GuardError
		gone    *desired.DisplacedError
		pending *desired.PendingError
		stored  *desired.StoreError
		backend *desired.BackendError
		request *desired.RequestError
		wrong   configs.Errors
		address *addressError
	)
	switch {
	case errors.As(err, &invalid), errors.As(err, &wrong):
		details := detailsOf(name, err)
		return &api.Error{Code: api.Invalid, Message: wordsFor(name, len(details)), Details: details}
	case errors.As(err, &guard), errors.As(err, &gone):
		return &api.Error{Code: api.NeedsForce, Message: err.Error()}
	case errors.As(err, &pending), errors.Is(err, desired.ErrNotPending):
		return &api.Error{Code: api.Conflict, Message: err.Error()}
	case errors.As(err, &stored):
		return &api.Error{Code: api.Unavailable, Message: err.Error()}
	case errors.As(err, &backend), errors.Is(err, desired.ErrUnknownVersion):
		return &api.Error{Code: api.NotFound, Message: err.Error()}
	case errors.As(err, &request):
		return &api.Error{Code: api.BadRequest, Message: err.Error()}
	case errors.As(err, &address):
		return &api.Error{Code: api.Invalid, Message: err.Error()}
	}
	return &api.Error{Code: api.Unavailable, Message: err.Error()}
}

func wordsFor(name string, errs int) string {
	if name == "" {
		name = "what is declared together"
	}
	if errs == 1 {
		return name + ": 1 error"
	}
	return fmt.Sprintf("%s: %d errors", name, errs)
}

// detailsOf are the single things that are wrong: those of the document in
// question with line and column, those of other sources with the name of
// theirs.
func detailsOf(name string, err error) (list []api.Detail) {
	switch e := err.(type) {
	case configs.Errors:
		for _, one := range e {
			d := api.Detail{Line: one.Line, Column: one.Column, Message: one.Message}
			if one.File != name {
				d = api.Detail{Message: one.Error()}
			}
			list = append(list, d)
		}
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			list = append(list, detailsOf(name, one)...)
		}
	default:
		list = append(list, api.Detail{Message: err.Error()})
	}
	return list
}

// summarizeDesired adds how the desired state is to the node's status.
func (n *Node) summarizeDesired(s *api.Summary) {
	if n.desired == nil {
		return
	}
	st := n.desired.store.Status()
	s.Desired = api.Desired{Version: st.Version, Source: st.Author.Source, User: st.Author.User, Node: st.Author.Node, Pending: pendingOf(st.Pending)}
	if st.Version != 0 {
		s.Desired.Time = &st.Time
	}
	conditions := slices.Clone(st.Conditions)
	if c := n.desired.restart.Load(); c != nil {
		conditions = append(conditions, *c)
	}
	conditions = append(conditions, n.desired.clusterConditions()...)
	for _, c := range conditions {
		s.Desired.Conditions = append(s.Desired.Conditions, api.DesiredCondition{Type: string(c.Type), Since: c.Since, Message: c.Message})
	}
}
