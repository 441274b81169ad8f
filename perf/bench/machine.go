package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is what a result depends on. It does not say whose machine it was.
type Machine struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	MemoryGB int    `json:"memoryGb"`
	Kernel   string `json:"kernel"`
	Go       string `json:"go"`
	// Placement says which CPUs were used for what.
	Placement string `json:"placement"`
	// Load is the load average over one minute before the run, of which the
	// benchmark is no part.
	Load float64 `json:"load"`
}

func describeMachine(c cpus) (Machine, error) {
	m := Machine{
		CPU: cpuModel(), Cores: cpuCount(), Go: runtime.Version(),
		Placement: fmt.Sprintf("generator and reception for AF_XDP on CPU %d, forwarder on CPU %d", c.generator, c.worker),
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return m, fmt.Errorf("uname: %w", err)
	}
	m.Kernel = unix.ByteSliceToString(u.Release[:])
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return m, fmt.Errorf("sysinfo: %w", err)
	}
	m.MemoryGB = int((info.Totalram*uint64(info.Unit) + 1<<29) >> 30)
	m.Load = float64(info.Loads[0]) / (1 << 16)
	return m, nil
}

// cpuModel is the processor's name, as /proc/cpuinfo has it.
func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
