package e2e

import (
	"fmt"
	"sync"
	"testing"

	"fairlead/controlplane/api"
	"fairlead/perf/lab/traffic"
)

// TestTwoWorkers has two workers share flows, by methods whose replies pass
// the node and by such whose replies do not, with every packet in user space
// and with established flows forwarded by the kernel: long-lived connections,
// new ones, datagrams and transfers, all at once, on both queues.
func TestTwoWorkers(t *testing.T) {
	for _, memo := range []string{"off", "on"} {
		t.Run("flow_memo="+memo, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, spreading)
			w.config.Options = fmt.Sprintf("[dataplane]\nflow_memo = %q\n", memo)
			w.setQueues(2)
			sites := []*site{w.addSite(nat4), w.addSite(ipip4)}
			w.serve()
			w.start()
			status := testWorkers(w, sites)
			if used := status.Steering["memo"] > 0; used != (memo == "on") {
				t.Errorf("%d frames were forwarded by memos", status.Steering["memo"])
			}
			w.must(w.node.Stop())
		})
	}
}

func testWorkers(w *world, sites []*site) *api.Status {
	const connections, flows, open, transfers = 200, 100, 20, 40
	p := w.ping(open, sites...)
	var all sync.WaitGroup
	for _, s := range sites {
		all.Go(func() { w.spread(s, w.http(s, connections)) })
		all.Go(func() { w.spread(s, w.udp(s, flows, 3)) })
		// By their flows' hashes these come on either queue, so there are many.
		all.Go(func() { w.uploads(s, transfers, 512<<10) })
	}
	all.Wait()
	p.stop()
	status := w.balance()
	if len(status.Workers) != 2 {
		w.t.Fatalf("there are %d workers, want 2", len(status.Workers))
	}
	sum := status.Workers[0].Received + status.Workers[1].Received
	for i, worker := range status.Workers {
		w.t.Logf("worker %d received %d frames", i, worker.Received)
		if worker.Received < sum/10 {
			w.t.Errorf("worker %d received %d of %d frames", i, worker.Received, sum)
		}
	}
	for _, s := range sites {
		w.flows(status, s, webPort, connections, connections)
		w.flows(status, s, namePort, flows/2, flows)
		w.flows(status, s, streamPort, open+transfers, open+transfers)
	}
	return status
}

// uploads moves bytes over each of n connections, some of them at a time, and
// demands that they are the right ones.
func (w *world) uploads(s *site, n int, bytes int64) {
	next := make(chan uint64, n)
	for seed := range n {
		next <- uint64(seed)
	}
	close(next)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for seed := range next {
				if _, err := (traffic.Transfer{Target: s.at(streamPort), Direction: traffic.Upload, Bytes: bytes, Seed: seed}).Run(w.ctx, w.topo.Client.Host); err != nil {
					w.t.Errorf("%s: %v", s.method, err)
				}
			}
		})
	}
	all.Wait()
}
