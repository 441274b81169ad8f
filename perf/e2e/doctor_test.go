package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"fairlead/perf/lab"
	"fairlead/perf/rig"
)

// finding and diagnosis are what `fairlead doctor -o json` writes.
type finding struct{ Status, Check, Subject, Found string }

type diagnosis struct {
	Status   string
	Findings []finding
}

// examine runs `fairlead doctor` on the node's host.
func (w *world) examine(args ...string) (out string, code int) {
	w.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(binary, append([]string{"doctor", "--config", w.node.Config, "--socket", w.node.Socket}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := w.topo.LB.Do(cmd.Run)
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) || stderr.Len() > 0 {
		w.t.Fatalf("%v: %v\n%s", cmd.Args, err, &stderr)
	}
	return stdout.String(), cmd.ProcessState.ExitCode()
}

// TestDoctor examines a node that is well, then gives it a neighbour that does
// not answer, a firewall rule about a VIP, and no data process, and asserts that
// each is found and that the exit status tells how bad it is.
func TestDoctor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{lab: lab.Config{Backends: 2}})
	w.config.Neighbors = nil
	s := w.addSite(nat4)
	w.serve()
	w.start()
	w.http(s, 10)
	report := func() (r diagnosis, code int) {
		out, code := w.examine("-o", "json")
		w.must(json.Unmarshal([]byte(out), &r))
		if want := map[string]int{"ok": 0, "warning": 1, "error": 2}[r.Status]; code != want {
			t.Errorf("the worst is %s, the exit status %d", r.Status, code)
		}
		return r, code
	}
	has := func(r diagnosis, want finding) {
		t.Helper()
		if !slices.ContainsFunc(r.Findings, func(f finding) bool {
			return f.Status == want.Status && f.Check == want.Check && (want.Subject == "" || f.Subject == want.Subject) && strings.Contains(f.Found, want.Found)
		}) {
			t.Errorf("there is no %+v in %+v", want, r.Findings)
		}
	}
	control := fmt.Sprintf("process %d", w.node.Process().Pid())
	r, code := report()
	if code == 2 {
		t.Errorf("a node that is well has errors: %+v", r.Findings)
	}
	for _, want := range []finding{
		{Status: "ok", Check: "node", Found: "1 workers forward by generation"},
		{Status: "ok", Check: "xdp_program", Subject: "eth0", Found: "attached, in the driver (native)"},
		{Status: "ok", Check: "xdp_program", Subject: "eth1", Found: "attached, in the driver (native)"},
		{Status: "ok", Check: "capabilities", Subject: control, Found: "the control process has what it needs"},
		{Status: "ok", Check: "data_process", Found: "the data process has no right"},
		{Status: "ok", Check: "losses", Found: "no frame was lost"},
		{Status: "ok", Check: "firewall", Found: "no rule about a VIP"},
	} {
		has(r, want)
	}

	w.must(w.topo.LB.Do(exec.Command("nft", fmt.Sprintf("add table inet t; add chain inet t c; add rule inet t c ip daddr %s drop", s.vip)).Run))
	r, _ = report()
	has(r, finding{Status: "warning", Check: "firewall", Subject: s.vip.String(), Found: "never sees its packets"})
	w.http(s, 10) // and so it is

	out, _ := w.examine()
	if !strings.Contains(out, "warning firewall "+s.vip.String()+": ") || !strings.Contains(out, "what to do: use source_ranges") || strings.Contains(out, "\nok ") {
		t.Errorf("the table is\n%s", out)
	}
	if out, _ := w.examine("-o", "wide"); !strings.Contains(out, "\nok      xdp_program eth0: ") {
		t.Errorf("the wide table is\n%s", out)
	}
	if out, _ := w.examine("-o", "yaml"); !strings.HasPrefix(out, "status: ") {
		t.Errorf("YAML is\n%s", out)
	}

	w.must(rig.Kill(w.status().Data.PID))
	w.until("the data process is replaced", func() bool { return w.status().Data.Restarts > 0 })
	r, _ = report()
	has(r, finding{Status: "warning", Check: "restarts", Found: "has ended by itself 1 times"})
	w.must(w.node.Stop())
	r, _ = report()
	has(r, finding{Status: "ok", Check: "node", Found: "no node answers"})
}
