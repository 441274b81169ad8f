package e2e

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
	"fairlead/perf/rig"
)

// spreading has hosts with four queues. On its way through a switch a frame
// that was sent by queue n > 0 leaves by queue n-1, modulo how many there are
// (Linux takes the one number for the other), so hosts with two queues would
// send everything to the node's first.
var spreading = worldConfig{lab: lab.Config{Queues: 4}}

// TestQueueCount gives the interfaces a second queue while connections are
// open: a second worker joins, and packets of a flow come on either. The
// kernel does not take a queue away that a socket is bound to.
func TestQueueCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, spreading)
	w.rebound = true
	w.setQueues(1)
	sites := []*site{w.addSite(nat4), w.addSite(nat6), w.addSite(ipip4)}
	w.serve()
	w.start()
	if n := w.status().Data.Workers; n != 1 {
		t.Fatalf("%d workers drive interfaces of one queue", n)
	}
	p := w.ping(20, sites...)
	w.setQueues(2)
	w.must(w.node.Until(w.ctx, func(s *api.Status) bool { return s.Data.Workers == 2 && s.Data.PID > 0 }))
	p.await(4)
	for _, s := range sites {
		w.http(s, 100)
	}
	for i, worker := range w.status().Workers {
		if worker.Received == 0 {
			t.Errorf("worker %d has received nothing", i)
		}
	}

	err := w.topo.Front.Interface.SetQueues(1, 1)
	if !errors.Is(err, unix.EINVAL) {
		t.Errorf("taking a queue away that a socket is bound to: %v, want EINVAL", err)
	}
	p.await(2)

	// A new interface may have fewer than its neighbour: one worker drives all
	// queues of both.
	w.must(w.topo.Front.Interface.Delete())
	w.plug(&w.topo.Front, w.topo.FrontSwitch, lab.LinkConfig{Queues: 1})
	w.must(w.node.Until(w.ctx, func(s *api.Status) bool { return s.Data.Workers == 1 && s.Data.PID > 0 }))
	w.must(rig.ForgetNeighbors(w.topo.Client))
	p.await(2)
	p.stop()
	status := w.balance("restart_lost", "transmit_down", "next_hop_unresolved")
	for _, s := range sites {
		w.flows(status, s, webPort, 100, 100) // whichever layout of workers counted them
		w.flows(status, s, streamPort, 20, 20)
	}
	if status.Data.Restarts != 0 {
		t.Errorf("the data process was replaced %d times as if it had died", status.Data.Restarts)
	}
	w.must(w.node.Stop())
}

// setQueues changes the number of queues at both ends of the node's cables. A
// veth with an XDP program needs as many receive queues as its peer sends from.
func (w *world) setQueues(n int) {
	w.t.Helper()
	for _, ifc := range []*lab.Interface{w.topo.Front.Interface, w.topo.Back.Interface} {
		ends := []*lab.Interface{ifc.Peer, ifc}
		if n > 1 {
			ends = []*lab.Interface{ifc, ifc.Peer}
		}
		for _, end := range ends {
			w.must(end.SetQueues(n, n))
		}
	}
}

// TestQueues runs methods over interfaces of two queues from the beginning:
// replies of a NAT flow arrive on either queue, whichever its requests come on.
func TestQueues(t *testing.T) {
	t.Parallel()
	w := newWorld(t, spreading)
	w.setQueues(2)
	sites := []*site{w.addSite(nat4), w.addSite(nat6), w.addSite(gue6)}
	w.serve()
	w.start()
	for _, s := range sites {
		w.spread(s, w.http(s, 200))
		w.spread(s, w.udp(s, 100, 3))
	}
	status := w.balance()
	if len(status.Workers) != 2 {
		t.Fatalf("there are %d workers, want 2", len(status.Workers))
	}
	for i, worker := range status.Workers {
		t.Logf("worker %d received %d frames", i, worker.Received)
		if worker.Received < status.Ledger.Received/10 {
			t.Errorf("worker %d received %d of %d frames", i, worker.Received, status.Ledger.Received)
		}
	}
	w.must(w.node.Stop())
}
