package preflight

import (
	"bufio"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/flow"
)

// user checks the user that the data process is to run as. Only root changes
// users: run as another, and the data process is that user's too.
func (c *checker) user() {
	level := Error
	if os.Getuid() != 0 {
		level = Warning
	}
	name := c.cfg.Dataplane.User
	u, err := user.Lookup(name)
	if err != nil {
		if _, err := strconv.ParseUint(name, 10, 32); err != nil {
			c.add(level, "user "+name, "there is no such user for the data process")
		}
		return
	}
	if u.Uid == "0" {
		c.add(level, "user "+name, "it is root, which the data process must not run as")
	}
}

// needed are the capabilities that run needs.
var needed = []struct {
	bit  uint
	name string
}{
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_NET_RAW, "CAP_NET_RAW"}, {unix.CAP_BPF, "CAP_BPF"},
}

// capabilities says what this process lacks: run may well be started with more
// than check is.
func (c *checker) capabilities() {
	var lacking []string
	for _, n := range needed {
		if !hasCapability(n.bit) {
			lacking = append(lacking, n.name)
		}
	}
	if len(lacking) > 0 {
		c.add(Warning, "capabilities", "this process lacks %s, which `fairlead run` needs", strings.Join(lacking, ", "))
	}
	if !hasCapability(unix.CAP_IPC_LOCK) {
		c.lockedMemory()
	}
}

// hasCapability reports whether a capability is in the effective set.
func hasCapability(bit uint) bool {
	have, err := strconv.ParseUint(procField("/proc/thread-self/status", "CapEff"), 16, 64)
	return err == nil && have>>bit&1 != 0
}

// lockedMemory checks the limit that holds without CAP_IPC_LOCK.
func (c *checker) lockedMemory() {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		c.add(Warning, "locked memory", "read its limit: %v", err)
		return
	}
	if need := c.packetMemory(); limit.Max < need {
		c.add(Warning, "locked memory", "the limit is %s, packets take %s: set LimitMEMLOCK=infinity in systemd, or grant CAP_IPC_LOCK", bytesText(limit.Max), bytesText(need))
		c.do("set LimitMEMLOCK=infinity in the unit", "systemctl edit fairlead")
	}
}

// packetMemory is what the frames of all queues take, in bytes.
func (c *checker) packetMemory() uint64 {
	d := &c.cfg.Dataplane
	return uint64(c.queues) * uint64(d.Frames) * uint64(d.FrameSize)
}

// memory checks that the machine has what the configuration asks for.
func (c *checker) memory() {
	d := &c.cfg.Dataplane
	packets, flows := c.packetMemory(), uint64(flow.Size(d.FlowTableSize))
	c.add(Note, "memory", "packets of %d queues take %s, the flow table up to %s", c.queues, bytesText(packets), bytesText(flows))
	available, err := strconv.ParseUint(strings.TrimSuffix(procField("/proc/meminfo", "MemAvailable"), " kB"), 10, 54)
	if err == nil && packets+flows > available<<10 {
		c.add(Warning, "memory", "that is more than the %s that are available", bytesText(available<<10))
		c.do("lower frames or flow_table_size of [dataplane]", "free -m")
	}
	if d.HugePages {
		c.hugePages(packets)
	}
	for _, cpu := range d.CPUs {
		if cpu >= runtime.NumCPU() {
			if _, err := os.Stat(fmt.Sprintf("/sys/devices/system/cpu/cpu%d", cpu)); err != nil {
				c.add(Warning, "cpus", "there is no CPU %d; its workers run wherever the scheduler likes", cpu)
				c.do("correct cpus of [dataplane]", "lscpu -e")
			}
		}
	}
}

// hugePages checks that enough of them are reserved for the packets.
func (c *checker) hugePages(packets uint64) {
	free, err1 := strconv.ParseUint(procField("/proc/meminfo", "HugePages_Free"), 10, 64)
	size, err2 := strconv.ParseUint(strings.TrimSuffix(procField("/proc/meminfo", "Hugepagesize"), " kB"), 10, 54)
	if err1 != nil || err2 != nil || size == 0 {
		c.add(Warning, "huge_pages", "the kernel has none")
		return
	}
	if have := free * size << 10; have < packets {
		c.add(Warning, "huge_pages", "%s are free, packets take %s; ordinary pages are used instead", bytesText(have), bytesText(packets))
		c.do("reserve enough of them", "sysctl -w vm.nr_hugepages=%d", (packets+size<<10-1)/(size<<10))
	}
}

// procField reads the value of one "Key: value" line of a file of /proc, "" when
// it is not there.
func procField(path, key string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), key+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// bytesText is a size for people.
func bytesText(n uint64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
