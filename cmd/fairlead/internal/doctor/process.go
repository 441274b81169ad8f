package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// needed are the capabilities that the control process needs.
var needed = []struct {
	bit  uint
	name string
}{
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_NET_RAW, "CAP_NET_RAW"}, {unix.CAP_BPF, "CAP_BPF"},
}

// descriptors is how many open files a node may want: sockets, BPF maps, memory,
// health checks.
const descriptors = 65536

// processes looks at the rights and limits of the node's processes.
func (d *doctor) processes() {
	if d.PID != 0 {
		d.control()
		d.group()
	}
	if d.Node != nil && d.Node.Data.PID != 0 {
		d.data()
	}
}

// capabilities are those in the effective set of a process.
func (d *doctor) capabilities(pid int) (set uint64, ok bool) {
	set, err := strconv.ParseUint(field(text(d.sys.proc, strconv.Itoa(pid), "status"), "CapEff"), 16, 64)
	return set, err == nil
}

// control looks at the control process.
func (d *doctor) control() {
	subject := fmt.Sprintf("process %d", d.PID)
	if set, ok := d.capabilities(d.PID); ok {
		var lacking []string
		for _, n := range needed {
			if set>>n.bit&1 == 0 {
				lacking = append(lacking, n.name)
			}
		}
		if len(lacking) > 0 {
			d.add(Finding{Status: Error, Check: "capabilities", Subject: subject, Found: "the control process lacks " + strings.Join(lacking, ", "),
				Advice: "grant them in the unit: AmbientCapabilities=" + strings.Join(lacking, " "), Command: "systemctl edit fairlead"})
		} else {
			d.ok("capabilities", subject, "the control process has what it needs")
		}
	}
	limits := text(d.sys.proc, strconv.Itoa(d.PID), "limits")
	if n, ok := hardLimit(limits, "Max open files"); ok && n < descriptors {
		d.add(Finding{Status: Warning, Check: "nofile", Subject: subject, Found: fmt.Sprintf("it may open %d files; sockets, health checks and connections of the API are among them", n),
			Advice: "set LimitNOFILE in the unit", Command: "systemctl edit fairlead"})
	} else if ok {
		d.ok("nofile", subject, "it may open %d files", n)
	}
	if set, ok := d.capabilities(d.PID); ok && set>>unix.CAP_IPC_LOCK&1 == 0 {
		if n, ok := hardLimit(limits, "Max locked memory"); ok && n < 1<<40 {
			d.add(Finding{Status: Warning, Check: "memlock", Subject: subject, Found: fmt.Sprintf("it may lock %d KiB of memory, which packets lie in", n>>10),
				Advice: "set LimitMEMLOCK=infinity in the unit", Command: "systemctl edit fairlead"})
		}
	}
}

// hardLimit is the hard limit of a line of /proc/PID/limits.
func hardLimit(limits, name string) (n uint64, ok bool) {
	for line := range strings.Lines(limits) {
		rest, found := strings.CutPrefix(line, name)
		fields := strings.Fields(rest)
		if !found || len(fields) < 2 {
			continue
		}
		if fields[1] == "unlimited" {
			return 1<<64 - 1, true
		}
		n, err := strconv.ParseUint(fields[1], 10, 64)
		return n, err == nil
	}
	return 0, false
}

// data looks at the data process, which is to have no right at all.
func (d *doctor) data() {
	pid := d.Node.Data.PID
	subject := fmt.Sprintf("process %d", pid)
	set, ok := d.capabilities(pid)
	switch {
	case !ok:
	case set != 0 || d.Node.Data.UID == 0:
		d.add(Finding{Status: Warning, Check: "data_process", Subject: subject, Found: fmt.Sprintf("the data process has rights (capabilities %#x, user %d)", set, d.Node.Data.UID),
			Advice: "name a user without rights as user of [dataplane], and restart"})
	default:
		d.ok("data_process", subject, "the data process has no right (user %d)", d.Node.Data.UID)
	}
}

// group looks at the limits of the node's control group.
func (d *doctor) group() {
	path := ""
	for line := range strings.Lines(text(d.sys.proc, strconv.Itoa(d.PID), "cgroup")) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			path = p
		}
	}
	if path == "" {
		return
	}
	limited := false
	for at := path; ; at = filepath.Dir(at) {
		dir := filepath.Join(d.sys.cgroups, at)
		if quota, _, _ := strings.Cut(text(dir, "cpu.max"), " "); quota != "" && quota != "max" {
			limited = true
			d.add(Finding{Status: Warning, Check: "cgroup", Subject: at, Found: "its CPU time is limited (cpu.max): workers are held up for tens of milliseconds at a time, and rings overrun",
				Advice: "take the limit away: no CPUQuota in the unit, no CPU limit of a container", Command: "systemctl set-property fairlead CPUQuota="})
		}
		if most := text(dir, "memory.max"); most != "" && most != "max" {
			limited = true
			used, _ := number(dir, "memory.current")
			if n, err := strconv.Atoi(most); err == nil && used > n/10*9 {
				d.add(Finding{Status: Warning, Check: "cgroup", Subject: at, Found: fmt.Sprintf("%d MiB of memory are used of %d MiB that it may have; beyond that its processes are killed", used>>20, n>>20),
					Advice: "allow more, or lower frames and flow_table_size of [dataplane]", Command: "systemctl set-property fairlead MemoryMax=infinity"})
			}
		}
		if at == "/" || at == "." {
			break
		}
	}
	if _, err := os.Stat(filepath.Join(d.sys.cgroups, path)); err == nil && !limited {
		d.ok("cgroup", path, "neither CPU time nor memory is limited")
	}
}
