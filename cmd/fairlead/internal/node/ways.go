package node

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"fairlead/controlplane/api"
	"fairlead/controlplane/neighbor"
)

// named is how many backends are named of those that share a way.
const named = 5

// keptFor is how long the ways that a page was made of are kept for the next one,
// so that a list is of one moment and a large one is not made for every page.
const keptFor = 30 * time.Second

// lookedAt are the ways that were looked at last.
type lookedAt struct {
	mu   sync.Mutex
	list []neighbor.Way
	at   time.Time
}

// ways are the ways as they are now, for the first page, and as they were then
// for others.
func (l *lookedAt) ways(ctx context.Context, w *neighbor.Watcher, after string) ([]neighbor.Way, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if after != "" && time.Since(l.at) < keptFor {
		return l.list, nil
	}
	list, err := w.Ways(ctx)
	if err != nil {
		return nil, err
	}
	l.list, l.at = nil, time.Time{}
	if len(list) > api.MaxPage/10 {
		l.list, l.at = list, time.Now()
	}
	return list, nil
}

// Neighbors implements api.WayProvider.
func (n *Node) Neighbors(ctx context.Context, q api.NeighborQuery) (api.NeighborPage, error) {
	ways, err := n.lookedAt.ways(ctx, n.observer.watcher, q.After)
	if err != nil {
		return api.NeighborPage{}, api.Errorf(api.Unavailable, "%v", err)
	}
	type key struct {
		port string
		addr netip.Addr
	}
	all := make(map[key]*api.Neighbor)
	for i := range ways {
		for _, h := range ways[i].Hops {
			k := key{h.Interface, h.Address}
			one := all[k]
			if one == nil {
				one = describeNeighbor(&h)
				all[k] = one
			}
			one.Targets++
			if len(one.For) < named {
				one.For = append(one.For, ways[i].Target.String())
			}
		}
	}
	list := make([]api.Neighbor, 0, len(all))
	for _, one := range all {
		if !q.Problems || one.Problem != "" {
			list = append(list, *one)
		}
	}
	page, next, err := pageOf(list, q.After, q.Limit, func(one *api.Neighbor) cursor {
		return cursor{one.Problem == "", one.Interface, netip.MustParseAddr(one.Address)}
	})
	return api.NeighborPage{Neighbors: page, Next: next}, err
}

// describeNeighbor tells of a hop, still without those that are reached by it.
func describeNeighbor(h *neighbor.Hop) *api.Neighbor {
	one := &api.Neighbor{Interface: h.Interface, Address: h.Address.String(), MAC: macText(h), State: h.State, Resolved: h.Resolved, Answers: !h.Lost}
	if !h.Since.IsZero() {
		one.Since = &h.Since
	}
	switch {
	case h.Lost && h.Resolved:
		one.Problem = "it does not answer any more; its last address stays in use"
		one.Advice = fmt.Sprintf("see whether it is up and on the segment of %s", h.Interface)
	case h.Lost:
		one.Problem = "nobody answers for it"
		one.Advice = fmt.Sprintf("see whether it is up and on the segment of %s, and whether the route is right: ip route get %s", h.Interface, h.Address)
	case !h.Resolved:
		one.Problem = "its Ethernet address is not known yet"
		one.Advice = "wait a few seconds"
	}
	return one
}

func macText(h *neighbor.Hop) string {
	if !h.Resolved {
		return ""
	}
	return net.HardwareAddr(h.MAC[:]).String()
}

// Routes implements api.WayProvider.
func (n *Node) Routes(ctx context.Context, q api.RouteQuery) (api.RoutePage, error) {
	ways, err := n.lookedAt.ways(ctx, n.observer.watcher, q.After)
	if err != nil {
		return api.RoutePage{}, api.Errorf(api.Unavailable, "%v", err)
	}
	list := make([]api.Route, 0, len(ways))
	for i := range ways {
		one := describeRoute(&ways[i])
		if !q.Problems || one.Problem != "" {
			list = append(list, one)
		}
	}
	page, next, err := pageOf(list, q.After, q.Limit, func(one *api.Route) cursor {
		return cursor{one.Problem == "", "", netip.MustParseAddr(one.Target)}
	})
	if err != nil {
		return api.RoutePage{}, err
	}
	n.nameBackends(page)
	return api.RoutePage{Routes: page, Next: next}, nil
}

// describeRoute tells of a way, still without the backends at its end.
func describeRoute(w *neighbor.Way) api.Route {
	one := api.Route{Target: w.Target.String()}
	answering := 0
	for i := range w.Hops {
		h := &w.Hops[i]
		if h.Resolved && !h.Lost {
			answering++
		}
		one.Hops = append(one.Hops, api.RouteHop{Interface: h.Interface, Address: h.Address.String(), MAC: macText(h), State: h.State,
			Resolved: h.Resolved, Answers: !h.Lost, Weight: h.Weight})
	}
	switch {
	case len(w.Hops) > 0 && !w.Hops[0].Resolved:
		one.Problem = fmt.Sprintf("the Ethernet address of %s on %s is not known", w.Hops[0].Address, w.Hops[0].Interface)
		one.Advice = "see `fairlead neighbors`"
	case len(w.Hops) > 0 && answering == 0:
		one.Problem = fmt.Sprintf("%s on %s does not answer", w.Hops[0].Address, w.Hops[0].Interface)
		one.Advice = "see `fairlead neighbors`"
	case len(w.Hops) > 1 && answering < len(w.Hops):
		one.Problem = fmt.Sprintf("%d of %d next hops do not answer; the others are used", len(w.Hops)-answering, len(w.Hops))
		one.Advice = "see `fairlead neighbors`"
	case len(w.Hops) == 0 && w.Outside == "lo":
		one.Problem = "it is an address of the host itself"
		one.Advice = "let the backend listen on an address of another host, or in a network namespace"
	case len(w.Hops) == 0 && w.Outside != "":
		one.Problem = fmt.Sprintf("the way there is through %s, which is none of the node's interfaces", w.Outside)
		one.Advice = fmt.Sprintf("name %s in [[interface]], or route %s through one that is", w.Outside, w.Target)
	case len(w.Hops) == 0:
		one.Problem = "no route leads there, or one that forbids"
		one.Advice = fmt.Sprintf("see `ip route get %s`; add a route, or set gateway of an [[interface]]", w.Target)
	}
	return one
}

// nameBackends says which backends have the addresses of some ways.
func (n *Node) nameBackends(routes []api.Route) {
	v := n.view()
	if v == nil {
		return
	}
	defer v.close()
	at := make(map[string]*api.Route, len(routes))
	for i := range routes {
		at[routes[i].Target] = &routes[i]
	}
	snap := v.snapshot
	for i := range snap.Pools() {
		pool := &snap.Pools()[i]
		for _, slot := range snap.Members(pool) {
			b := snap.Backend(slot)
			one := at[b.Addr.String()]
			if one == nil {
				continue
			}
			if one.Count++; len(one.Backends) < named {
				one.Backends = append(one.Backends, snap.Name(pool.Name)+"/"+snap.BackendName(b))
			}
		}
	}
	for i := range routes {
		slices.Sort(routes[i].Backends)
	}
}

// cursor is an object's place in a list in which those with a problem come
// first.
type cursor struct {
	well bool
	port string
	addr netip.Addr
}

func (c cursor) compare(d cursor) int {
	if c.well != d.well {
		if d.well {
			return -1
		}
		return 1
	}
	return cmp.Or(strings.Compare(c.port, d.port), c.addr.Compare(d.addr))
}

func (c cursor) String() string { return fmt.Sprintf("%t/%s/%s", c.well, c.port, c.addr) }

// parseCursor reads where a page begins.
func parseCursor(after string) (c cursor, err error) {
	parts := strings.SplitN(after, "/", 3)
	if len(parts) == 3 && (parts[0] == "true" || parts[0] == "false") {
		if c.addr, err = netip.ParseAddr(parts[2]); err == nil {
			c.well, c.port = parts[0] == "true", parts[1]
			return c, nil
		}
	}
	return c, api.Errorf(api.BadRequest, "parameter %q: %q is not the next of a page", "after", after)
}

// pageOf cuts a page out of a list, and says where the next one begins.
func pageOf[T any](list []T, after string, limit int, at func(*T) cursor) (page []T, next string, err error) {
	slices.SortFunc(list, func(a, b T) int { return at(&a).compare(at(&b)) })
	if after != "" {
		begin, err := parseCursor(after)
		if err != nil {
			return nil, "", err
		}
		first, _ := slices.BinarySearchFunc(list, begin, func(one T, c cursor) int { return at(&one).compare(c) })
		list = list[first:]
	}
	if len(list) > limit {
		return list[:limit], at(&list[limit]).String(), nil
	}
	return list, "", nil
}
