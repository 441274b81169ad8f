package e2e

import (
	"strings"
	"syscall"
	"testing"
)

// TestStuckDataProcess stops the data process in its tracks, and asserts that
// the node notices, says which worker it was, and replaces the process without
// breaking a connection.
func TestStuckDataProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	s := w.addSite(nat4)
	w.serve()
	w.start()
	p := w.ping(20, s)
	p.await(1)
	stuck := w.status().Data.PID
	w.must(syscall.Kill(stuck, syscall.SIGSTOP))
	w.until("the data process is replaced", func() bool {
		now := w.status().Data
		return now.Restarts == 1 && now.PID != stuck
	})
	p.await(1)
	p.stop()
	if log := string(w.node.Log()); !strings.Contains(log, "worker makes no progress; its data process is killed") || !strings.Contains(log, "worker=0") {
		t.Errorf("the log does not name the worker:\n%s", log)
	}
	w.balance("restart_lost")
}
