package view

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"fairlead/cluster"
	"fairlead/controlplane/api"
)

// present are the members that sums are over. One that has left, or is dead for
// good, is no part of the cluster; one that is dead is said to be missing.
func (v *View) present() []cluster.Node {
	return slices.DeleteFunc(slices.Clone(v.nodes()), func(n cluster.Node) bool { return n.State == cluster.Left })
}

// NodeSummaries implements api.SumProvider.
func (v *View) NodeSummaries(ctx context.Context) (api.NodeSummaries, error) {
	answers := askAll[api.Summary](ctx, v, v.present(), "/v1/status")
	out := api.NodeSummaries{Health: api.HealthOK}
	out.Answered, out.Unanswered = split(answers)
	out.Ledger.Reasons = make(map[string]uint64)
	if len(out.Unanswered) > 0 {
		out.Health = api.HealthDegraded
	}
	for i := range answers {
		a := &answers[i]
		one := api.NodeSummary{Node: a.node.Name, Error: a.unanswered()}
		if a.err == nil {
			one.Summary = &a.value
			out.Health = worse(out.Health, a.value.Health)
			addLedger(&out.Ledger, &a.value.Ledger)
		}
		out.Nodes = append(out.Nodes, one)
	}
	return out, nil
}

var badness = map[api.Health]int{api.HealthOK: 0, api.HealthDegraded: 1, api.HealthFailing: 2}

func worse(a, b api.Health) api.Health {
	if badness[b] > badness[a] {
		return b
	}
	return a
}

func addLedger(to, l *api.Ledger) {
	to.Received += l.Received
	to.Created += l.Created
	to.Transmitted += l.Transmitted
	to.Passed += l.Passed
	to.Dropped += l.Dropped
	to.InFlight += l.InFlight
	to.Difference += l.Difference
	for reason, n := range l.Reasons {
		to.Reasons[reason] += n
	}
}

// addOptional adds a number that may not be known: the sum is not known then.
func addOptional(to *uint64, n *uint64, first bool) *uint64 {
	switch {
	case n == nil || !first && to == nil:
		return nil
	case first:
		sum := *n
		return &sum
	}
	sum := *to + *n
	return &sum
}

// SummedServices implements api.SumProvider.
func (v *View) SummedServices(ctx context.Context, q api.ServiceQuery) (api.SummedServicePage, error) {
	if q.Backends {
		return api.SummedServicePage{}, api.Errorf(api.BadRequest, "parameter %q: sums are listed without; /v1/cluster/backends has them", "backends")
	}
	query := url.Values{"limit": {strconv.Itoa(q.Limit)}, "active": {strconv.FormatBool(q.Active)}}
	if q.VIP != nil {
		query.Set("vip", q.VIP.String())
	}
	setAll(query, map[string]string{"protocol": q.Protocol, "pool": q.Pool, "after": q.After})
	answers := askAll[api.ServicePage](ctx, v, v.present(), "/v1/services?"+query.Encode())
	var out api.SummedServicePage
	out.Answered, out.Unanswered = split(answers)
	lists := make([]listed[api.Service], 0, len(answers))
	for i := range answers {
		if a := &answers[i]; a.err == nil {
			lists = append(lists, listed[api.Service]{a.node.Name, a.value.Services, a.value.Next})
		}
	}
	groups, next := mergePages(lists, func(s *api.Service) string { return s.Name }, strings.Compare)
	out.Next = next
	for _, g := range groups {
		out.Services = append(out.Services, sumService(g))
	}
	return out, nil
}

func setAll(query url.Values, values map[string]string) {
	for name, value := range values {
		if value != "" {
			query.Set(name, value)
		}
	}
}

func sumService(group []on[api.Service]) api.SummedService {
	sum := api.SummedService{Service: *group[0].item}
	sum.Backends = nil
	sum.Flows, sum.Packets, sum.Bytes, sum.Drops = 0, 0, 0, 0
	for i, o := range group {
		s := o.item
		sum.Flows += s.Flows
		sum.Packets += s.Packets
		sum.Bytes += s.Bytes
		sum.Drops += s.Drops
		sum.Active = addOptional(sum.Active, s.Active, i == 0)
		sum.Nodes = append(sum.Nodes, api.ServiceOnNode{
			Node: o.node, Table: s.Table, Up: s.Up, Total: s.Total, Active: s.Active, Flows: s.Flows, Packets: s.Packets, Bytes: s.Bytes, Drops: s.Drops,
		})
	}
	return sum
}

// SummedBackends implements api.SumProvider.
func (v *View) SummedBackends(ctx context.Context, q api.BackendQuery) (api.SummedBackendPage, error) {
	query := url.Values{"limit": {strconv.Itoa(q.Limit)}, "active": {strconv.FormatBool(q.Active)}}
	setAll(query, map[string]string{"service": q.Service, "pool": q.Pool, "after": q.After})
	answers := askAll[api.BackendPage](ctx, v, v.present(), "/v1/backends?"+query.Encode())
	var out api.SummedBackendPage
	lists := make([]listed[api.PoolBackend], 0, len(answers))
	var none error // what those say that do not have the pool or service
	for i := range answers {
		a := &answers[i]
		if said, is := errors.AsType[*api.Error](a.err); is && said.Code == api.NotFound {
			none, a.err = said, nil // it has answered, and has none
			continue
		}
		if a.err == nil {
			lists = append(lists, listed[api.PoolBackend]{a.node.Name, a.value.Backends, a.value.Next})
		}
	}
	if len(lists) == 0 && none != nil {
		return out, none
	}
	out.Answered, out.Unanswered = split(answers)
	groups, next := mergePages(lists, backendCursor, compareCursors)
	out.Next = next
	for _, g := range groups {
		b := sumBackend(g)
		// Members may not agree on the state: what counts for one is shown with all.
		if q.State == "" || slices.ContainsFunc(b.States, func(s api.NodesValue) bool { return s.Value == q.State }) {
			out.Backends = append(out.Backends, b)
		}
	}
	return out, nil
}

// backendCursor is where a page begins whose first backend is b, as nodes write it.
func backendCursor(b *api.PoolBackend) string {
	return url.PathEscape(b.Pool) + "/" + url.PathEscape(b.Name)
}

// compareCursors compares by pool and name.
func compareCursors(a, b string) int {
	pool, name := cutCursor(a)
	otherPool, otherName := cutCursor(b)
	return cmp.Or(strings.Compare(pool, otherPool), strings.Compare(name, otherName))
}

func cutCursor(cursor string) (pool, name string) {
	first, second, _ := strings.Cut(cursor, "/")
	// A cursor that cannot be read comes from a node; as it is it has some order, too.
	if s, err := url.PathUnescape(first); err == nil {
		first = s
	}
	if s, err := url.PathUnescape(second); err == nil {
		second = s
	}
	return first, second
}

func sumBackend(group []on[api.PoolBackend]) api.SummedBackend {
	sum := api.SummedBackend{PoolBackend: *group[0].item}
	sum.Flows, sum.Packets, sum.Bytes, sum.Drops = 0, 0, 0, 0
	states := make(map[string]string, len(group))
	for i, o := range group {
		b := o.item
		sum.Flows += b.Flows
		sum.Packets += b.Packets
		sum.Bytes += b.Bytes
		sum.Drops += b.Drops
		sum.Active = addOptional(sum.Active, b.Active, i == 0)
		states[o.node] = b.State
		sum.Nodes = append(sum.Nodes, api.BackendOnNode{
			Node: o.node, State: b.State, Weight: b.Weight, Expected: b.Expected, Health: b.Health,
			Active: b.Active, Flows: b.Flows, Packets: b.Packets, Bytes: b.Bytes, Drops: b.Drops,
		})
	}
	sum.States = valuesOf(states)
	sum.State = sum.States[0].Value
	return sum
}

// SummedDrops implements api.SumProvider.
func (v *View) SummedDrops(ctx context.Context) (api.SummedDrops, error) {
	answers := askAll[api.Drops](ctx, v, v.present(), "/v1/drops")
	var out api.SummedDrops
	out.Answered, out.Unanswered = split(answers)
	reasons, services := make(map[[2]string]uint64), make(map[string]uint64)
	for i := range answers {
		a := &answers[i]
		if a.err != nil {
			continue
		}
		out.Nodes = append(out.Nodes, api.NodeDrops{Node: a.node.Name, Drops: a.value})
		for _, r := range a.value.Reasons {
			reasons[[2]string{r.Where, r.Reason}] += r.Packets
		}
		for _, s := range a.value.Services {
			services[s.Service] += s.Packets
		}
	}
	for key, packets := range reasons {
		out.Reasons = append(out.Reasons, api.DropCount{Where: key[0], Reason: key[1], Packets: packets})
	}
	for name, packets := range services {
		out.Services = append(out.Services, api.ServiceDrops{Service: name, Packets: packets})
	}
	slices.SortFunc(out.Reasons, func(a, b api.DropCount) int {
		return cmp.Or(-cmp.Compare(a.Packets, b.Packets), strings.Compare(a.Where, b.Where), strings.Compare(a.Reason, b.Reason))
	})
	slices.SortFunc(out.Services, func(a, b api.ServiceDrops) int {
		return cmp.Or(-cmp.Compare(a.Packets, b.Packets), strings.Compare(a.Service, b.Service))
	})
	return out, nil
}
