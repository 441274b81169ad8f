package node

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"fairlead/controlplane/api"
	"fairlead/dataplane/fib"
)

// backendsInPage is how many backends a page of services with their backends
// has before it ends; one service is always in it.
const backendsInPage = 10_000

// place is where an object of some name is in the image, or was a moment ago.
type place struct {
	name string
	at   uint32
}

// page keeps the first places by name from after on.
func page(all []place, after string) []place {
	slices.SortFunc(all, func(a, b place) int { return cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(a.at, b.at)) })
	first, _ := slices.BinarySearchFunc(all, after, func(p place, name string) int { return strings.Compare(p.name, name) })
	return all[first:]
}

// Services implements api.ServiceProvider.
func (n *Node) Services(ctx context.Context, q api.ServiceQuery) (api.ServicePage, error) {
	var out api.ServicePage
	active, err := n.activeFlows(ctx, q.Active)
	if err != nil {
		return out, err
	}
	backends := 0
	for list := page(n.services(&q), q.After); len(list) > 0 && out.Next == ""; {
		some := list[:min(servicesAtOnce, len(list))]
		list = list[len(some):]
		n.servicesAt(some, func(v *view, p place, svc *fib.Service) (more bool) {
			if len(out.Services) == q.Limit || backends >= backendsInPage {
				out.Next = p.name
				return false
			}
			s := v.service(svc)
			s.Active = active.ofService(svc.ID)
			if q.Backends {
				s.Backends = v.backends(v.snapshot.Pool(svc.Pool), active)
				backends += len(s.Backends)
			}
			out.Services = append(out.Services, s)
			return true
		})
	}
	for i := range out.Services {
		n.checked(out.Services[i].Pool, out.Services[i].Backends)
	}
	return out, nil
}

// servicesAt calls f for the services in some places, in one view, until f has
// enough.
func (n *Node) servicesAt(places []place, f func(*view, place, *fib.Service) (more bool)) {
	v := n.view()
	if v == nil {
		return
	}
	defer v.close()
	for _, p := range places {
		if svc := v.serviceAt(p); svc != nil && !f(v, p, svc) {
			return
		}
	}
}

// services are the places of the services that a query asks for.
func (n *Node) services(q *api.ServiceQuery) (list []place) {
	v := n.view()
	if v == nil {
		return nil
	}
	defer v.close()
	snap := v.snapshot
	for slot := range snap.Services() {
		svc := &snap.Services()[slot]
		if svc.ID == 0 || q.Protocol != "" && q.Protocol != protocolName(svc.Proto) ||
			q.VIP != nil && snap.LocalByID(svc.Local).Addr.String() != q.VIP.Unmap().String() ||
			q.Pool != "" && snap.Name(snap.Pool(svc.Pool).Name) != q.Pool {
			continue
		}
		if name := snap.Name(svc.Name); name >= q.After {
			list = append(list, place{name, uint32(slot)})
		}
	}
	return list
}

// Service implements api.ServiceProvider.
func (n *Node) Service(ctx context.Context, name string) (s api.Service, err error) {
	active, err := n.activeFlows(ctx, true)
	if err != nil {
		return s, err
	}
	found := false
	n.servicesAt([]place{{name: name}}, func(v *view, _ place, svc *fib.Service) bool {
		found = true
		s = v.service(svc)
		s.Active = active.ofService(svc.ID)
		s.Backends = v.backends(v.snapshot.Pool(svc.Pool), active)
		return false
	})
	if !found {
		return s, api.Errorf(api.NotFound, "there is no service %q", name)
	}
	n.checked(s.Pool, s.Backends)
	return s, nil
}

// serviceAt finds a service again, which may have moved since.
func (v *view) serviceAt(p place) *fib.Service {
	services := v.snapshot.Services()
	if int(p.at) < len(services) && services[p.at].ID != 0 && v.snapshot.Name(services[p.at].Name) == p.name {
		return &services[p.at]
	}
	return v.serviceNamed(p.name)
}

func (v *view) serviceNamed(name string) *fib.Service {
	services := v.snapshot.Services()
	i := slices.IndexFunc(services, func(s fib.Service) bool { return s.ID != 0 && v.snapshot.Name(s.Name) == name })
	if i < 0 {
		return nil
	}
	return &services[i]
}

// Backends implements api.ServiceProvider.
func (n *Node) Backends(ctx context.Context, q api.BackendQuery) (api.BackendPage, error) {
	pool, name, err := splitCursor(q.After)
	if err != nil {
		return api.BackendPage{}, err
	}
	list, users, err := n.pools(&q)
	if err != nil {
		return api.BackendPage{}, err
	}
	active, err := n.activeFlows(ctx, q.Active)
	if err != nil {
		return api.BackendPage{}, err
	}
	var out api.BackendPage
	for _, p := range page(list, pool) {
		v := n.view()
		if v == nil {
			break
		}
		record := v.poolAt(p)
		if record == nil {
			v.close()
			continue
		}
		backends := v.backends(record, active)
		v.close()
		n.checked(p.name, backends)
		slices.SortFunc(backends, func(a, b api.Backend) int { return strings.Compare(a.Name, b.Name) })
		for i := range backends {
			if b := &backends[i]; (p.name != pool || b.Name >= name) && (q.State == "" || q.State == b.State) {
				if len(out.Backends) == q.Limit {
					out.Next = url.PathEscape(p.name) + "/" + url.PathEscape(b.Name)
					return out, nil
				}
				out.Backends = append(out.Backends, api.PoolBackend{Pool: p.name, Services: users[p.at], Backend: *b})
			}
		}
	}
	return out, nil
}

// splitCursor reads where a page of backends begins.
func splitCursor(after string) (pool, name string, err error) {
	first, second, both := strings.Cut(after, "/")
	pool, wrong := url.PathUnescape(first)
	name, wrong2 := url.PathUnescape(second)
	if after != "" && !both || wrong != nil || wrong2 != nil {
		return "", "", api.Errorf(api.BadRequest, "parameter %q: %q is not the next of a page", "after", after)
	}
	return pool, name, nil
}

// pools are the places of the pools that a query asks for, and how many
// services use each.
func (n *Node) pools(q *api.BackendQuery) (list []place, users map[uint32]int, err error) {
	v := n.view()
	if v == nil {
		return nil, nil, nil
	}
	defer v.close()
	snap := v.snapshot
	users = make(map[uint32]int)
	found := false
	asked := uint32(0)
	for slot := range snap.Services() {
		svc := &snap.Services()[slot]
		if svc.ID == 0 {
			continue
		}
		users[svc.Pool]++
		if q.Service != "" && snap.Name(svc.Name) == q.Service {
			found, asked = true, svc.Pool
		}
	}
	if q.Service != "" && !found {
		return nil, nil, api.Errorf(api.NotFound, "there is no service %q", q.Service)
	}
	known := false
	for at := range snap.Pools() {
		name := snap.Name(snap.Pools()[at].Name)
		if q.Pool == "" || name == q.Pool {
			known = true
			if q.Service == "" || uint32(at) == asked {
				list = append(list, place{name, uint32(at)})
			}
		}
	}
	if q.Pool != "" && !known {
		return nil, nil, api.Errorf(api.NotFound, "there is no pool %q", q.Pool)
	}
	return list, users, nil
}

// poolAt finds a pool again, which may have moved since.
func (v *view) poolAt(p place) *fib.Pool {
	pools := v.snapshot.Pools()
	if int(p.at) < len(pools) && v.snapshot.Name(pools[p.at].Name) == p.name {
		return &pools[p.at]
	}
	i := slices.IndexFunc(pools, func(o fib.Pool) bool { return v.snapshot.Name(o.Name) == p.name })
	if i < 0 {
		return nil
	}
	return &pools[i]
}

// service says what there is to say of a service without its backends.
func (v *view) service(svc *fib.Service) api.Service {
	snap := v.snapshot
	pool := snap.Pool(svc.Pool)
	tally := v.counters.Service(svc.ID.Slot())
	out := api.Service{
		Name: snap.Name(svc.Name), VIP: snap.LocalByID(svc.Local).Addr.String(), Protocol: protocolName(svc.Proto),
		Ports: portsText(svc), Method: svc.Method.String(), Pool: snap.Name(pool.Name), Table: fmt.Sprintf("%016x", pool.Checksum),
		Total: int(pool.MemberCount), Flows: tally.Flows, Packets: tally.Packets, Bytes: tally.Bytes, Drops: tally.Drops,
	}
	for _, slot := range snap.Members(pool) {
		if v.state(snap.Backend(slot)) == "up" {
			out.Up++
		}
	}
	return out
}

// backends are those of a pool, with what each has of its table.
func (v *view) backends(pool *fib.Pool, active *FlowCounts) []api.Backend {
	snap := v.snapshot
	share := make([]int, pool.MemberCount)
	table := snap.Table(pool)
	for _, member := range table {
		if member != fib.NoMember {
			share[member]++
		}
	}
	out := make([]api.Backend, 0, len(share))
	for i, slot := range snap.Members(pool) {
		b := v.backend(snap.Backend(slot), float64(share[i])/float64(max(1, len(table))))
		b.Active = active.ofBackend(snap.Backend(slot).ID)
		out = append(out, b)
	}
	return out
}

func (v *view) backend(b *fib.Backend, expected float64) api.Backend {
	tally := v.counters.Backend(b.ID.Slot())
	return api.Backend{
		Name: v.snapshot.BackendName(b), Address: b.Addr.String(), Port: b.Port, Weight: b.Weight, State: v.state(b), Expected: expected,
		Flows: tally.Flows, Packets: tally.Packets, Bytes: tally.Bytes, Drops: tally.Drops,
	}
}

// state is how a backend serves, as far as the image says.
func (v *view) state(b *fib.Backend) string {
	switch hop := v.snapshot.NextHop(b.NextHop); {
	case b.Flags&fib.BackendDown != 0:
		return "down"
	case b.Flags&fib.BackendDraining != 0 || b.Weight == 0:
		return "draining"
	case hop == nil || hop.Resolved == 0:
		return "unresolved"
	}
	return "up"
}
