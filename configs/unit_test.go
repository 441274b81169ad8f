package configs

import (
	"os"
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
		"[Service]Type":            "exec",
		"[Service]ExecStart":       "/usr/local/sbin/fairlead run --config /etc/fairlead/fairlead.toml",
		"[Service]User":            "fairlead",
		"[Service]NoNewPrivileges": "yes",
		"[Service]LimitMEMLOCK":    "infinity",
		"[Service]KillMode":        "mixed",
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
