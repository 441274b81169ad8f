package neighbor_test

import (
	"net/netip"
	"testing"

	"fairlead/controlplane/model"
	"fairlead/controlplane/neighbor"
	"fairlead/perf/lab"
)

// TestAddTargets adds targets to those that there are, in any order and twice, and
// has SetTargets let them go again.
func TestAddTargets(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 3})
	var all []netip.Addr
	for _, b := range r.Backends {
		all = append(all, b.IPv4)
	}
	w := r.watch(neighbor.Config{Interfaces: r.both(), Targets: all[1:2], Settle: patience})
	r.untilHop(all[1], r.behind(r.Backends[1].Interface))
	w.AddTargets([]netip.Addr{all[2], all[0], all[2], {}})
	w.AddTargets(all)
	for i, b := range r.Backends {
		r.untilHop(all[i], r.behind(b.Interface))
	}
	ready, err := w.SetTargets(all[:1], nil)
	r.must(err)
	<-ready
	r.until("the others are let go", func(o *model.Observations) bool { return len(o.NextHops) == 1 })
	r.untilHop(all[0], r.behind(r.Backends[0].Interface))
}
