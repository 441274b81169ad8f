package e2e

import (
	"math/rand/v2"
	"testing"
	"time"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
	"fairlead/perf/rig"
)

// TestDisorder does what the tests before do one at a time in any order and
// without waiting for the node to be done with the last: data processes are
// killed, interfaces replaced, links pulled and pools changed. When it is over,
// every connection is still there and every frame accounted for.
func TestDisorder(t *testing.T) {
	t.Parallel()
	const steps = 25
	w := newWorld(t, worldConfig{limit: 2 * time.Minute})
	w.rebound = true
	sites := []*site{w.addSite(nat4), w.addSite(ipip4), w.addSite(nat6)}
	w.serve()
	w.start()
	p := w.ping(10, sites...)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, seed))
	arms := []struct {
		arm *lab.Arm
		sw  *lab.Switch
	}{{&w.topo.Front, w.topo.FrontSwitch}, {&w.topo.Back, w.topo.BackSwitch}}
	t.Logf("seed %d", seed)
	for range steps {
		side := arms[r.IntN(len(arms))]
		switch r.IntN(5) {
		case 0:
			w.kill()
		case 1:
			w.must(side.arm.Interface.Peer.SetDown())
			w.pause(r)
			w.must(side.arm.Interface.Peer.SetUp())
		case 2:
			w.must(side.arm.Interface.Delete())
			w.pause(r)
			w.plug(side.arm, side.sw, lab.LinkConfig{})
		case 3:
			for _, s := range sites {
				s.members = shuffled(r, members(w.topo.Backends...))
			}
			w.reload()
		case 4:
			w.pause(r)
		}
	}
	// As hosts would by themselves, but only after minutes.
	for _, n := range append([]*lab.Node{w.topo.Client}, w.topo.Backends...) {
		w.must(rig.ForgetNeighbors(n))
	}
	w.must(w.node.Until(w.ctx, func(s *api.Status) bool {
		n := numbers(s)
		return s.Data.PID > 0 && n[w.topo.Front.Interface.Name] == w.topo.Front.Interface.Index && n[w.topo.Back.Interface.Name] == w.topo.Back.Interface.Index
	}))
	for _, s := range sites {
		s.members = members(w.topo.Backends...)
		s.options = "on_backend_gone = \"drop\"" // no configuration before had it
	}
	w.reload()
	for _, s := range sites {
		w.http(s, 30)
	}
	p.await(2)
	p.stop()
	w.balance("restart_lost", "transmit_down", "transmit_ring_full", "next_hop_unresolved")
	w.must(w.node.Stop())
}

// kill kills the data process and does not wait for the next one.
func (w *world) kill() {
	w.t.Helper()
	if pid := w.status().Data.PID; pid > 0 {
		w.must(rig.Kill(pid))
	}
}

// pause lets a part of a second pass, so that what the node does on a timer
// falls everywhere.
func (w *world) pause(r *rand.Rand) {
	w.t.Helper()
	begin, length := time.Now(), time.Duration(r.IntN(int(400*time.Millisecond)))
	w.until("time passes", func() bool { return time.Since(begin) >= length })
}
