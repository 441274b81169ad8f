package e2e

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"fairlead/perf/lab/traffic"
)

// TestBackendGone removes a backend and lets the drain timeout pass: its
// connections live until then, and then end as the service says. Those of other
// backends notice nothing.
func TestBackendGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	reset := []*site{w.addSite(nat4), w.addSite(nat6), w.addSite(ipip4), w.addSite(gue6)}
	silent := w.addSite(nat4)
	for _, s := range w.sites {
		s.options = "drain_timeout = \"1s\"\non_backend_gone = \"reset\""
	}
	silent.options = "drain_timeout = \"1s\"\non_backend_gone = \"drop\""
	w.serve()
	w.start()
	p := w.ping(18, append(reset, silent)...)
	gone := w.topo.Backends[1].Name
	if n := p.servers()[gone]; n == 0 {
		t.Fatalf("no connection went to %s: %v", gone, p.servers())
	}
	for _, s := range w.sites {
		s.members = members(w.topo.Backends[0], w.topo.Backends[2])
	}
	w.reload()
	p.await(2) // draining

	stay, lost, stuck := &pingers{w: w}, []*traffic.Pinger(nil), []*traffic.Pinger(nil)
	for i, one := range p.all {
		switch {
		case one.Server() != gone:
			stay.all = append(stay.all, one)
		case p.sites[i] == silent:
			stuck = append(stuck, one)
		default:
			lost = append(lost, one)
		}
	}
	for _, one := range lost {
		select {
		case <-one.Broken():
		case <-w.ctx.Done():
			t.Fatal("a connection of the removed backend has not been reset")
		}
		if _, err := one.Stop(w.ctx); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a connection of the removed backend ended with %v, want a reset", err)
		}
	}
	stay.await(2)
	for _, one := range stuck {
		select {
		case <-one.Broken():
			_, err := one.Stop(w.ctx)
			t.Errorf("a connection that was to be dropped without a word ended: %v", err)
		default:
		}
	}
	stay.stop()
	for _, s := range w.sites {
		w.onlyTo(s, w.http(s, 60), "without "+gone)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	cancel() // their last words would never be answered
	for _, one := range stuck {
		_, err := one.Stop(ctx)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a connection that was to be dropped without a word ended: %v", err)
		}
	}
	// What is dropped is forgotten: the next segments belong to no flow.
	status := w.balance("backend_gone", "tcp_not_syn", "flow_not_found")
	counted := status.Ledger.Reasons
	if got, want := counted["reset_reply"], uint64(len(lost)); got < want {
		t.Errorf("%d resets were sent for %d connections", got, want)
	}
	if len(stuck) > 0 && counted["backend_gone"] == 0 {
		t.Errorf("%d connections were to be dropped, and no packet was", len(stuck))
	}
	t.Logf("%d connections were reset, %d dropped, %d went on", len(lost), len(stuck), len(stay.all))
	w.must(w.node.Stop())
}
