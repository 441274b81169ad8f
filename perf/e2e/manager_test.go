package e2e

import (
	"os/exec"
	"testing"
	"time"

	"fairlead/controlplane/api"
	"fairlead/perf/rig"
)

// TestBothProcessesKilled kills both processes at once, under a service manager
// that keeps the node's descriptors, as systemd does: the rings hold what comes
// until the next process is there, and it goes on with every flow.
func TestBothProcessesKilled(t *testing.T) {
	const kills = 5
	var manager *rig.Manager
	l := newLosslessWith(t, losslessConfig{
		connections: 100, limit: 3 * time.Minute, rate: 4_000, options: "[dataplane]\nflow_memo = \"off\"\n" + largeRings,
		prepare: func(w *world) func(*exec.Cmd) error {
			var err error
			manager, err = rig.NewManager(w.t.TempDir())
			w.must(err)
			w.t.Cleanup(func() { manager.Close() })
			return func(cmd *exec.Cmd) error { return manager.Prepare(cmd, 2*time.Second) }
		},
	})
	l.until("the manager hears that the node is ready", func() bool { return manager.Said("READY=1") })
	for range kills {
		l.sometime()
		before := l.status()
		begin := time.Now()
		l.must(rig.Kill(before.Data.PID))
		l.must(rig.Kill(l.node.Process().Pid()))
		<-l.node.Process().Done()
		if before.Data.Standby > 0 {
			l.must(rig.Kill(before.Data.Standby)) // which ends by itself, too
		}
		l.must(l.node.Launch(l.ctx))
		l.t.Logf("it answers again %v after both were killed", time.Since(begin).Round(time.Millisecond))
	}
	l.end(l.inHand())
	l.balance("restart_lost")
	beats := manager.Beats()
	l.until("the manager hears that the node works", func() bool { return manager.Beats() > beats })
	l.must(l.node.Upgrade(l.ctx))
	l.until("the manager hears of the next process", func() bool {
		now, err := l.node.Status(l.ctx)
		return err == nil && now.Data.PID > 0 && manager.SaidMain(l.node.Process().Pid())
	})
	l.must(l.node.Until(l.ctx, func(s *api.Status) bool { return s.Ledger.Difference == 0 }))
	l.must(l.node.Stop())
	l.until("the manager keeps nothing after the stop", func() bool { return manager.Kept() == 0 && manager.Said("STOPPING=1") })
}
