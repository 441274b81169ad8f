package node

import (
	"cmp"
	"context"
	"slices"
	"time"

	"fairlead/controlplane/api"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
)

// countAge is how old a count may be that is given again to whoever asks.
const countAge = 5 * time.Second

// FlowCounts is how many flows there are, by what they belong to. Flows at their
// end, and session affinity records, are not among those of services and
// backends.
type FlowCounts struct {
	At       time.Time
	States   map[flow.State]uint64 // of all records in use
	services slots
	backends slots
}

// Service is how many active flows a service has.
func (c *FlowCounts) Service(id fib.ID) uint64 { return c.services.of(id) }

// Backend is how many active flows a backend has.
func (c *FlowCounts) Backend(id fib.ID) uint64 { return c.backends.of(id) }

// slots counts by ID. A slot's present owner has its place in the list; flows of
// earlier ones are rare.
type slots struct {
	list   []slotCount
	others map[fib.ID]uint64
}

type slotCount struct {
	id    fib.ID
	flows uint32
}

func (s *slots) add(id fib.ID) {
	if at := int(id.Slot()); at >= len(s.list) {
		s.list = append(s.list, make([]slotCount, max(at+1-len(s.list), len(s.list)))...)
	}
	switch c := &s.list[id.Slot()]; {
	case c.id == id || c.id == 0:
		c.id = id
		c.flows++
	default:
		if s.others == nil {
			s.others = make(map[fib.ID]uint64)
		}
		s.others[id]++
	}
}

func (s *slots) of(id fib.ID) uint64 {
	if at := int(id.Slot()); at < len(s.list) && s.list[at].id == id {
		return uint64(s.list[at].flows)
	}
	return s.others[id]
}

// FlowCounts counts all flows. What was counted a moment ago is given again, so
// it may be asked for at any rate.
func (n *Node) FlowCounts(ctx context.Context) (*FlowCounts, error) {
	t := n.flowTable
	t.counting.Lock()
	defer t.counting.Unlock()
	if t.counted != nil && time.Since(t.counted.At) < countAge {
		return t.counted, nil
	}
	c := &FlowCounts{States: make(map[flow.State]uint64)}
	var states [256]uint64
	err := n.scan(ctx, func(_ *view, _ int, _ flow.Time, f *flow.Flow) error {
		states[f.State]++
		if f.State.Active() {
			c.services.add(fib.ID(f.ServiceID))
			c.backends.add(fib.ID(f.BackendID))
		}
		return nil
	}, func() error { return nil })
	if err != nil {
		return nil, err
	}
	for _, s := range flow.States() {
		c.States[s] = states[s]
	}
	c.At = time.Now()
	t.counted = c
	return c, nil
}

// group is what flows are counted by: of each kind, something in the table.
type group struct {
	id   uint32
	port uint16
}

// CountFlows implements api.FlowProvider.
func (n *Node) CountFlows(ctx context.Context, q api.FlowCountQuery) (api.FlowCounts, error) {
	give, err := n.flowTable.take()
	if err != nil {
		return api.FlowCounts{}, err
	}
	defer give()
	filter, err := n.flowFilter(&q.FlowFilter)
	if err != nil {
		return api.FlowCounts{}, err
	}
	groups := make(map[group]uint64)
	of := groupings[q.By]
	err = n.scan(ctx, func(v *view, _ int, now flow.Time, f *flow.Flow) error {
		if filter.matches(v, now, f) {
			groups[of(f)]++
		}
		return nil
	}, func() error { return nil })
	if err != nil {
		return api.FlowCounts{}, err
	}
	return n.nameGroups(q.By, groups), nil
}

// groupings are what flows can be counted by.
var groupings = map[string]func(*flow.Flow) group{
	"service":  func(f *flow.Flow) group { return group{id: f.ServiceID} },
	"backend":  func(f *flow.Flow) group { return group{id: f.BackendID} },
	"state":    func(f *flow.Flow) group { return group{id: uint32(f.State)} },
	"protocol": func(f *flow.Flow) group { return group{id: uint32(protocolOf(f))} },
	"vip":      func(f *flow.Flow) group { return group{uint32(f.VIP), f.VIPPort} },
}

// nameGroups gives groups their names. Those of what is no more are one.
func (n *Node) nameGroups(by string, groups map[group]uint64) api.FlowCounts {
	var out api.FlowCounts
	gone := uint64(0)
	v := n.view()
	if v != nil {
		defer v.close()
	}
	for g, flows := range groups {
		out.Total += flows
		c := api.FlowCount{Flows: flows}
		if v.nameGroup(by, g, &c); c.Group != "" {
			out.Groups = append(out.Groups, c)
		} else {
			gone += flows
		}
	}
	if gone > 0 {
		out.Groups = append(out.Groups, api.FlowCount{Flows: gone})
	}
	slices.SortFunc(out.Groups, func(a, b api.FlowCount) int {
		return cmp.Or(cmp.Compare(b.Flows, a.Flows), cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Group, b.Group))
	})
	return out
}

func (v *view) nameGroup(by string, g group, c *api.FlowCount) {
	switch {
	case by == "state":
		c.Group = flow.State(g.id).String()
	case by == "protocol":
		c.Group = protocolName(uint8(g.id))
	case v == nil:
	case by == "vip":
		c.Group = v.localEnd(uint16(g.id), g.port)
	case by == "service":
		if svc := v.snapshot.ServiceByID(fib.ID(g.id)); svc != nil {
			c.Group = v.snapshot.Name(svc.Name)
		}
	default:
		if b := v.snapshot.BackendByID(fib.ID(g.id)); b != nil {
			c.Group, c.Pool = v.snapshot.BackendName(b), v.snapshot.Name(v.snapshot.Pool(b.Pool).Name)
		}
	}
}
