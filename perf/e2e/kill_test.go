package e2e

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"fairlead/perf/rig"
)

// TestKillDataProcess kills the data process again and again under traffic. Its
// successors find rings, frames and flows where it left them: no connection
// breaks and no byte is wrong.
func TestKillDataProcess(t *testing.T) {
	t.Parallel()
	const kills = 20
	w := newWorld(t, worldConfig{})
	sites := []*site{w.addSite(nat4), w.addSite(ipip4), w.addSite(nat6), w.addSite(ipip6)}
	w.serve()
	w.start()
	w.unprivileged()

	p := w.ping(50, sites...)
	over, transfers := make(chan struct{}), make(chan error, 2)
	for _, s := range sites[:2] {
		go func() { transfers <- w.transferUntil(s, over) }()
	}
	begin := time.Now()
	for range kills {
		// At a moment that has nothing to do with what the last one left, and
		// not so soon that the node takes its time to try another.
		at := p.received() + 900 + rand.Uint64N(400)
		w.until("echoes come between two kills", func() bool { return p.received() >= at })
		w.must(w.node.KillData(w.ctx))
	}
	t.Logf("%d kills in %v", kills, time.Since(begin).Round(time.Millisecond))
	close(over)
	for range sites[:2] {
		if err := <-transfers; err != nil {
			t.Error(err)
		}
	}
	p.await(1)
	p.stop()

	w.unprivileged()
	status := w.balance("restart_lost")
	if status.Data.Restarts != kills {
		t.Errorf("%d replacements of the data process were counted, want %d", status.Data.Restarts, kills)
	}
	// New connections, too, are as if nothing had been.
	for _, s := range sites {
		w.spread(s, w.http(s, 60))
	}
	w.balance("restart_lost")
	w.must(w.node.Stop())
}

// unprivileged demands that the kernel knows the data process as nobody, with
// no capability in any set that counts and no way to gain one.
func (w *world) unprivileged() {
	w.t.Helper()
	pid := w.status().Data.PID
	fields, err := rig.ProcessStatus(pid)
	w.must(err)
	for name, want := range map[string]string{
		"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000",
		"CapAmb":     "0000000000000000",
		"NoNewPrivs": "1", "Uid": "65534 65534 65534 65534", "Gid": "65534 65534 65534 65534",
	} {
		if got := strings.Join(strings.Fields(fields[name]), " "); got != want {
			w.t.Errorf("the data process has %s %s, want %s", name, got, want)
		}
	}
	if groups := fields["Groups"]; groups != "" {
		w.t.Errorf("the data process is in the groups %s", groups)
	}
}
