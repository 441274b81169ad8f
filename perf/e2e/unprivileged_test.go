package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/controlplane/api"
	"fairlead/perf/lab/traffic"
)

// TestControlProcessWithoutRoot runs the node as an ordinary user with the few
// capabilities that the systemd unit grants it, and asserts that it serves, and
// that its data process, which has the same user, has none of them.
func TestControlProcessWithoutRoot(t *testing.T) {
	const user = 65534
	w := newWorld(t, worldConfig{})
	s := w.addSite(method{name: "nat"})
	w.serve()
	dir, err := os.MkdirTemp("", "fairlead-unprivileged-") // its parents, unlike those of TempDir, let anybody in
	w.must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "fairlead")
	content, err := os.ReadFile(binary)
	w.must(err)
	w.must(os.WriteFile(program, content, 0o755))
	config, socket := filepath.Join(dir, "fairlead.toml"), filepath.Join(dir, "fairlead.sock")
	w.must(os.WriteFile(config, []byte(w.text()), 0o644))
	w.must(os.Chown(dir, user, user))
	w.must(os.Chmod(dir, 0o755))

	run := exec.Command(program, "run", "--config", config, "--socket", socket, "--state-directory", filepath.Join(dir, "state"))
	run.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: user, Gid: user},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_BPF, unix.CAP_IPC_LOCK},
	}
	process, err := w.topo.LB.Start(run)
	w.must(err)
	defer func() {
		if t.Failed() {
			t.Logf("%s", process.Output())
		}
	}()
	client := api.NewClient(socket)
	var status *api.Status
	w.until("the node serves", func() bool {
		select {
		case <-process.Done():
			t.Fatalf("it has ended:\n%s", process.Output())
		default:
		}
		status, err = client.Status(w.ctx)
		return err == nil && status.Generation.Acknowledged > 0
	})
	if status.Data.UID != user {
		t.Errorf("the data process has user %d", status.Data.UID)
	}
	if caps := capabilityLines(t, status.Data.PID); caps != "CapInh 0 CapPrm 0 CapEff 0 CapAmb 0" {
		t.Errorf("the data process has %s", caps)
	}
	tally := traffic.HTTPLoad{Target: netip.AddrPortFrom(s.vip, 80), Connections: 50, Parallel: 5}.Run(w.ctx, w.topo.Client.Host)
	w.must(tally.Err())
	w.must(process.Stop(5e9))
}

// capabilityLines are the sets of a process that a capability could be in and
// be used from.
func capabilityLines(t *testing.T, pid int) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]uint64{}
	for line := range strings.Lines(string(status)) {
		var name string
		var set uint64
		if n, _ := fmt.Sscanf(line, "%s %x", &name, &set); n == 2 {
			values[name] = set
		}
	}
	return fmt.Sprintf("CapInh %x CapPrm %x CapEff %x CapAmb %x", values["CapInh:"], values["CapPrm:"], values["CapEff:"], values["CapAmb:"])
}
