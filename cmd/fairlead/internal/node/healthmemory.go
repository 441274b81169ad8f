package node

import (
	"net/netip"
	"time"

	"fairlead/controlplane/health"
	"fairlead/controlplane/model"
	"fairlead/controlplane/serving"
	"fairlead/dataplane/fib"
)

// verdictsIn are the verdicts of health checks that an image was made by. It
// says nothing of backends that get no new flows for another reason.
func verdictsIn(s *fib.Snapshot, now time.Time) map[model.BackendKey]health.Verdict {
	found := make(map[model.BackendKey]health.Verdict)
	for i := range s.Pools() {
		p := s.Pool(uint32(i))
		for _, slot := range s.Members(p) {
			b := s.Backend(slot)
			if b.Flags&fib.BackendDraining != 0 {
				continue
			}
			key := model.BackendKey{Pool: s.Name(p.Name), Endpoint: netip.AddrPortFrom(b.Addr.Netip(), b.Port)}
			v := health.Verdict{Key: key, State: health.Up, Since: now, Reason: "as the data process had it before this process began"}
			if b.Flags&fib.BackendDown != 0 {
				v.State = health.Down
			}
			found[key] = v
		}
	}
	return found
}

// recallHealth has the node begin with the verdicts of the process that it
// follows, so that what is dead need not be found dead again, and gets no flows
// until then. It is called before Start.
func (n *Node) recallHealth(known map[model.BackendKey]health.Verdict) {
	n.recalled = known
	served := make(map[model.BackendKey]serving.Verdict, len(known))
	for key, v := range known {
		served[key] = serving.Verdict{Health: servingHealth[v.State], Since: v.Since}
	}
	n.serving.Recall(served)
}

// recall gives targets what is known of them from before, once.
func (c *checks) recall(list []health.Target) {
	for i := range list {
		if v, ok := c.node.recalled[list[i].Key]; ok {
			list[i].Initial, list[i].Since = v.State, v.Since
		}
	}
	c.node.recalled = nil
}
