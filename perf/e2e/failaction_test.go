package e2e

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
)

// TestFailAction kills both processes, and with them everything but the pinned
// XDP program: VIPs are dropped or go to the host, as each says. The next
// control process finds the program and goes on with it, and when that one is
// stopped in good order nothing is left.
func TestFailAction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	w.config.PinPath = w.bpffs()
	w.config.Options = "[lifecycle]\nstandby = false\n" // which would forward
	drop, pass, live := w.addSite(nat4), w.addSite(nat6), w.addSite(ipip4)
	w.config.VIPs = []rig.VIP{{Address: pass.vip, Options: "fail_action = \"pass\""}}
	w.serve()
	// The host has both VIPs, and a web server, for the case that it gets them.
	w.must(w.topo.LB.OwnQuietly(drop.vip, pass.vip))
	host, err := traffic.ServeHTTP(w.topo.LB, ":80")
	w.must(err)
	w.start()
	p := w.ping(10, live)
	for _, s := range w.sites {
		w.spread(s, w.http(s, 30))
	}
	if n := host.Requests(); n != 0 {
		t.Fatalf("the host has seen %d requests to VIPs", n)
	}
	w.balance()

	w.rebound = true
	data := w.status().Data.PID
	w.must(w.node.Process().Kill())
	w.must(rig.Kill(data)) // which would go on by itself
	w.until("the data process ends, too", func() bool { return rig.Ended(data) })
	w.attached(true)
	tally := w.http(pass, 10)
	if tally.ByServer[w.topo.LB.Name] != tally.Answers || host.Requests() != 10 {
		t.Errorf("with fail action pass the host answers: %v", tally.ByServer)
	}
	// A reset would show at once, an answer too.
	ctx, cancel := context.WithTimeout(w.ctx, 500*time.Millisecond)
	defer cancel()
	conn, err := w.topo.Client.Dial(ctx, "tcp", drop.at(webPort).String())
	var timeout net.Error
	if err == nil {
		t.Errorf("with fail action drop, somebody answers")
		conn.Close()
	} else if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("with fail action drop: %v, want a timeout", err)
	}
	if n := host.Requests(); n != 10 {
		t.Errorf("the host has seen %d requests, want 10", n)
	}

	w.must(w.node.Launch(w.ctx))
	if log := string(w.node.Log()); strings.Count(log, "adopted=true") != 2 {
		t.Errorf("the pinned programs were not adopted:\n%s", log)
	}
	// Direct return needs no flow table: these connections go on.
	p.await(2)
	p.stop()
	for _, s := range w.sites {
		w.spread(s, w.http(s, 30))
	}
	w.balance()

	w.must(w.node.Stop())
	w.attached(false)
	if left, err := os.ReadDir(w.config.PinPath); err == nil && len(left) > 0 {
		t.Errorf("after the stop %d pins are left, for example %s", len(left), left[0].Name())
	}
	if tally := w.http(drop, 10); tally.ByServer[w.topo.LB.Name] != 10 {
		t.Errorf("after the stop the host answers: %v", tally.ByServer)
	}
}

// bpffs mounts a BPF file system for the test alone.
func (w *world) bpffs() string {
	w.t.Helper()
	at := filepath.Join(w.t.TempDir(), "bpf")
	w.must(os.Mkdir(at, 0o700))
	w.must(unix.Mount("bpf", at, "bpf", 0, ""))
	w.t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			w.t.Errorf("unmount %s: %v", at, err)
		}
	})
	return filepath.Join(at, "fairlead")
}

// attached demands that the node's interfaces have an XDP program, or none.
func (w *world) attached(want bool) {
	w.t.Helper()
	for _, ifc := range []*lab.Interface{w.topo.Front.Interface, w.topo.Back.Interface} {
		link, err := w.topo.LB.Netlink().LinkByName(ifc.Name)
		w.must(err)
		x := link.Attrs().Xdp
		if got := x != nil && x.Attached; got != want {
			w.t.Errorf("%s has an XDP program: %v, want %v", ifc.Name, got, want)
		}
	}
}
