package configs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestServiceUnit checks what the unit must agree about with the program: its
// capabilities, its pin path and its command.
func TestServiceUnit(t *testing.T) {
	text, err := os.ReadFile("fairlead.service")
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]string)
	section := ""
	for line := range strings.SplitSeq(string(text), "\n") {
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = line
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				t.Fatalf("%q is no setting", line)
			}
			if _, twice := values[section+key]; twice {
				t.Errorf("%s %s is set twice", section, key)
			}
			values[section+key] = value
		}
	}
	for key, want := range map[string]string{
		"[Service]Type":         "notify",
		"[Service]NotifyAccess": "main",
		"[Service]WatchdogSec":  "10",

		"[Service]FileDescriptorStoreMax":   "512",
		"[Service]RuntimeDirectory":         "fairlead",
		"[Service]RuntimeDirectoryPreserve": "restart",
		"[Service]StateDirectory":           "fairlead",

		"[Service]ExecStart":       "/usr/local/sbin/fairlead run --config /etc/fairlead/fairlead.toml",
		"[Service]User":            "fairlead",
		"[Service]NoNewPrivileges": "yes",
		"[Service]LimitMEMLOCK":    "infinity",
		"[Service]KillMode":        "process",
	} {
		if values[key] != want {
			t.Errorf("%s is %q, want %q", key, values[key], want)
		}
	}
	ambient, bounding := strings.Fields(values["[Service]AmbientCapabilities"]), strings.Fields(values["[Service]CapabilityBoundingSet"])
	if !slices.Equal(ambient, bounding) {
		t.Errorf("the ambient capabilities %q are not the bounding set %q", ambient, bounding)
	}
	for _, c := range []string{"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_IPC_LOCK", "CAP_SYS_NICE"} {
		if !slices.Contains(ambient, c) {
			t.Errorf("%s is missing", c)
		}
	}
	if slices.Contains(ambient, "CAP_SYS_ADMIN") {
		t.Error("CAP_SYS_ADMIN is as good as root")
	}
	if pin := Default().XDP.PinPath; !strings.Contains(values["[Service]ExecStartPre"], "mkdir -p -m 0700 "+pin+" && chown -R fairlead:fairlead "+pin) {
		t.Errorf("the unit does not prepare the default pin path %s", pin)
	}
}

// TestServiceUnitVerifies has systemd itself read the unit, and weigh how much a
// process of it could do.
func TestServiceUnitVerifies(t *testing.T) {
	text, err := os.ReadFile("fairlead.service")
	if err != nil {
		t.Fatal(err)
	}
	// The program and its user need not be installed for that.
	unit := strings.ReplaceAll(string(text), "/usr/local/sbin/fairlead", "/bin/true")
	unit = strings.NewReplacer("User=fairlead", "User=daemon", "Group=fairlead", "Group=daemon").Replace(unit)
	path := filepath.Join(t.TempDir(), "fairlead.service")
	if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	const most = 52 // per cent of what a process without any restriction could do
	if out, err := exec.Command("systemd-analyze", "security", "--offline=true", fmt.Sprintf("--threshold=%d", most), path).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
