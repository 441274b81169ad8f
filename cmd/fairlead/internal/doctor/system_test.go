package doctor

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairlead/controlplane/api"
	"fairlead/xdp/ethtool"
)

// TestKernelSettings reads settings that would be those of the whole machine
// from files.
func TestKernelSettings(t *testing.T) {
	enter(t)
	bad := system{proc: tree(t, map[string]string{
		"sys/net/core/bpf_jit_enable": "0", "sys/net/core/busy_poll": "50",
		"sys/net/netfilter/nf_conntrack_count": "900", "sys/net/netfilter/nf_conntrack_max": "1000",
	})}
	r := examine(Subjects{}, bad)
	compare(t, r, []string{"bpf_jit", "busy_poll", "conntrack"},
		"warning bpf_jit: BPF programs are interpreted: the XDP program takes several times as long",
		"warning busy_poll: every socket of the host is polled for 50 us (net.core.busy_poll), which takes CPU time from the workers",
		"warning conntrack: the host tracks 900 connections of at most 1000; when that is full, health checks are refused",
	)
	if f := find(t, r, "conntrack"); f.Command != "sysctl -w net.netfilter.nf_conntrack_max=2000" {
		t.Errorf("%+v", f)
	}
	good := system{proc: tree(t, map[string]string{
		"sys/net/core/bpf_jit_enable": "1", "sys/net/core/busy_poll": "0",
		"sys/net/netfilter/nf_conntrack_count": "10", "sys/net/netfilter/nf_conntrack_max": "1000",
	})}
	compare(t, examine(Subjects{}, good), []string{"bpf_jit", "busy_poll", "conntrack", "af_xdp"},
		"ok af_xdp: the kernel has AF_XDP sockets",
		"ok bpf_jit: BPF programs are compiled (net.core.bpf_jit_enable = 1)",
		"ok conntrack: the host tracks 10 connections of at most 1000; VIP traffic is not among them",
	)
	if len(linesOf(examine(Subjects{}, real), "time_sync")) != 1 {
		t.Error("nothing is said of the clock")
	}
}

// TestCPUs asserts what is said of CPUs, interrupts and memory nodes, which are
// made of files.
func TestCPUs(t *testing.T) {
	enter(t)
	veth(t, "eth0", 1500, 4)
	bad := system{
		proc: tree(t, map[string]string{"irq/30/effective_affinity_list": "7", "irq/31/effective_affinity_list": "0", "4321/comm": "irqbalance"}),
		sys: tree(t, map[string]string{
			"devices/system/cpu/online":                             "0-2",
			"devices/system/cpu/cpu0/cpufreq/scaling_governor":      "performance",
			"devices/system/cpu/cpu1/cpufreq/scaling_governor":      "powersave",
			"devices/system/cpu/cpu0/topology/thread_siblings_list": "0,1",
			"devices/system/cpu/cpu1/topology/thread_siblings_list": "0,1",
			"devices/system/cpu/cpu2/topology/thread_siblings_list": "2-3",
			"class/net/eth0/device/msi_irqs/30":                     "msix",
			"class/net/eth0/device/msi_irqs/31":                     "msix",
			"class/net/eth0/statistics/rx_missed_errors":            "17", "class/net/eth0/statistics/rx_fifo_errors": "3",
			"class/net/eth0/device/numa_node":   "1",
			"devices/system/node/node1/cpulist": "2-3",
		}),
	}
	checks := []string{"workers", "cpu_governor", "irq_affinity", "irqbalance", "smt", "numa", "nic_losses"}
	compare(t, examine(Subjects{Config: parse(t, eth0+"[dataplane]\ncpus = [0, 1, 2, 3]\n")}, bad), checks,
		"warning cpu_governor: 1 CPUs are slowed down when they seem idle (governor powersave); a worker that waits for packets seems so",
		"warning workers: 4 workers share 3 CPUs",
		"warning irq_affinity eth0: 1 of its 2 interrupts are taken on CPUs without a worker: packets change caches",
		"warning irqbalance: irqbalance runs (process 4321) and moves the interfaces' interrupts away from their workers",
		"warning nic_losses eth0: the interface has lost 17 frames for want of room since it was made",
		"warning numa eth0: 2 workers are pinned to CPUs of another memory node than the interface's (1)",
		"warning smt: workers on CPUs 0 and 1 share one core (0,1)",
	)
	good := system{
		proc: tree(t, map[string]string{"irq/30/effective_affinity_list": "2", "irq/31/effective_affinity_list": "3"}),
		sys: tree(t, map[string]string{
			"devices/system/cpu/online": "0-3", "class/net/eth0/device/msi_irqs/30": "msix", "class/net/eth0/device/msi_irqs/31": "msix",
			"class/net/eth0/device/numa_node": "1", "devices/system/node/node1/cpulist": "2-3",
		}),
	}
	compare(t, examine(Subjects{Config: parse(t, eth0+"queues = 2\n[dataplane]\ncpus = [2, 3]\n")}, good), checks,
		"ok cpu_governor: no CPU is slowed down by its governor",
		"ok workers: 2 workers, 4 CPUs",
		"ok irq_affinity eth0: its 2 interrupts are taken on 2 CPUs",
		"ok irqbalance: irqbalance does not run",
		"ok nic_losses eth0: the interface has lost no frame for want of room",
		"ok numa eth0: workers are near the interface (memory node 1)",
	)
}

// start starts a program under another name and with limits, as the shell sets
// them. It runs until the test ends.
func start(t *testing.T, name, limits string, attr *syscall.SysProcAttr) int {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	from, err := os.Open("/bin/sleep")
	must(t, err)
	defer from.Close()
	to, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(to, from)
	must(t, err)
	must(t, to.Close())
	for dir := filepath.Dir(program); len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
	cmd := exec.Command("/bin/sh", "-c", limits+` exec "$0" 60`, program)
	cmd.SysProcAttr = attr
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(10 * time.Second); text("/proc", fmt.Sprint(cmd.Process.Pid), "comm") != name; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not run", name)
		}
	}
	return cmd.Process.Pid
}

// TestIrqbalanceRuns finds a real process of that name.
func TestIrqbalanceRuns(t *testing.T) {
	pid := start(t, "irqbalance", "", nil)
	d := &doctor{sys: real}
	if got := d.running("irqbalance"); got != pid {
		t.Errorf("process %d, want %d", got, pid)
	}
}

// TestProcesses looks at real processes with and without rights.
func TestProcesses(t *testing.T) {
	enter(t)
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	weak, strong := start(t, "weak", "ulimit -n 512; ulimit -l 64;", nobody), start(t, "strong", "", nil)
	checks := []string{"capabilities", "nofile", "memlock", "data_process"}
	node := func(data, uid int) *api.Summary { return &api.Summary{Data: api.DataProcess{PID: data, UID: uid}} }
	compare(t, examine(Subjects{PID: weak, Node: node(strong, 0)}, real), checks,
		fmt.Sprintf("error capabilities process %d: the control process lacks CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF", weak),
		fmt.Sprintf("warning data_process process %d: the data process has rights (capabilities %#x, user 0)", strong, capabilitiesOf(t, strong)),
		fmt.Sprintf("warning memlock process %d: it may lock 64 KiB of memory, which packets lie in", weak),
		fmt.Sprintf("warning nofile process %d: it may open 512 files; sockets, health checks and connections of the API are among them", weak),
	)
	compare(t, examine(Subjects{PID: strong, Node: node(weak, 65534)}, real), []string{"capabilities", "memlock", "data_process"},
		fmt.Sprintf("ok capabilities process %d: the control process has what it needs", strong),
		fmt.Sprintf("ok data_process process %d: the data process has no right (user 65534)", weak),
	)
}

func capabilitiesOf(t *testing.T, pid int) uint64 {
	t.Helper()
	set, ok := (&doctor{sys: real}).capabilities(pid)
	if !ok {
		t.Fatalf("capabilities of process %d", pid)
	}
	return set
}

// TestControlGroup finds limits of the node's group and of those above it.
func TestControlGroup(t *testing.T) {
	enter(t)
	const pid = 77
	proc := tree(t, map[string]string{"77/cgroup": "0::/system.slice/fairlead.service", "77/status": "CapEff:\t000001ffffffffff"})
	limited := tree(t, map[string]string{
		"system.slice/cpu.max": "200000 100000", "system.slice/fairlead.service/memory.max": "1073741824",
		"system.slice/fairlead.service/memory.current": "1063741824", "system.slice/fairlead.service/cpu.max": "max 100000",
	})
	compare(t, examine(Subjects{PID: pid}, system{proc: proc, cgroups: limited}), []string{"cgroup"},
		"warning cgroup /system.slice/fairlead.service: 1014 MiB of memory are used of 1024 MiB that it may have; beyond that its processes are killed",
		"warning cgroup /system.slice: its CPU time is limited (cpu.max): workers are held up for tens of milliseconds at a time, and rings overrun",
	)
	free := tree(t, map[string]string{"system.slice/fairlead.service/cpu.max": "max 100000", "system.slice/fairlead.service/memory.max": "max"})
	compare(t, examine(Subjects{PID: pid}, system{proc: proc, cgroups: free}), []string{"cgroup"},
		"ok cgroup /system.slice/fairlead.service: neither CPU time nor memory is limited")
}

// TestNode asserts what is said of what a node says.
func TestNode(t *testing.T) {
	enter(t)
	checks := []string{"node", "restarts", "condition", "losses", "worker_balance"}
	good := &api.Summary{Node: "lb1", Generation: api.Generation{Published: 3, Acknowledged: 3}, Data: api.DataProcess{PID: 1, Workers: 2, UID: 65534},
		Workers: []api.Worker{{Received: 60_000}, {Received: 50_000}}, Sockets: map[string]uint64{"rx_ring_full": 0}, Steering: map[string]uint64{"passed": 9}}
	compare(t, examine(Subjects{Node: good}, real), checks,
		"ok losses: no frame was lost on its way to a worker since the node started",
		"ok node lb1: 2 workers forward by generation 3",
		"ok worker_balance: 2 workers get their shares of packets",
	)
	bad := &api.Summary{Node: "lb1", Generation: api.Generation{Published: 4, Acknowledged: 3}, Data: api.DataProcess{PID: 1, Workers: 2, UID: 65534, Restarts: 2},
		Workers: []api.Worker{{Received: 199_000}, {Received: 1000}}, Sockets: map[string]uint64{"rx_ring_full": 7}, Steering: map[string]uint64{"oversize": 1},
		Conditions: []api.Condition{{Health: api.HealthFailing, Subject: "service web", Message: "no backend is up"}}, Ledger: api.Ledger{Reasons: map[string]uint64{"next_hop_unresolved": 5}}}
	r := examine(Subjects{Node: bad}, real)
	compare(t, r, checks,
		"error condition service web: no backend is up",
		"error node lb1: a worker decides by generation 3, while 4 is published",
		"warning losses next_hop_unresolved: 5 packets had no known way to their backend",
		"warning losses oversize: 1 frames were too long for a frame of memory",
		"warning losses rx_ring_full: 7 frames found a socket's ring full: the queue's worker does not keep up",
		"warning restarts lb1: the data process has ended by itself 2 times since the node started",
		"warning worker_balance worker 0: it gets 199000 of 200000 packets, of 2 workers: the interface does not spread them",
	)
	for i, f := range r.Findings {
		if f.Status != OK && f.Advice == "" && f.Check != "pin_path" && f.Check != "capabilities" {
			t.Errorf("no advice: %+v", f)
		}
		if i > 0 && f.Status.Severity() > r.Findings[i-1].Status.Severity() {
			t.Errorf("finding %d is worse than the one before it", i)
		}
	}
	stopped := &api.Summary{Node: "lb1"}
	compare(t, examine(Subjects{Node: stopped}, real), []string{"node"}, "error node lb1: no data process forwards")
	compare(t, examine(Subjects{}, real), []string{"node"}, "ok node: no node answers on the admin socket; the machine alone is examined")
}

// TestRSS judges tables and fields that the interfaces here do not have.
func TestRSS(t *testing.T) {
	for _, c := range []struct {
		got  Finding
		want string
	}{
		{indirection("eth0", []uint32{0, 1, 0, 1}, 2), "ok packets are spread over all 2 queues"},
		{indirection("eth0", []uint32{0, 1, 2, 3}, 2), "error 2 of 4 slots of its hash lead to queues without a worker; what arrives there meets the fail action"},
		{indirection("eth0", []uint32{0, 0, 1, 1}, 4), "warning packets are spread over 2 queues of 4"},
		{hashed("eth0", "udp4", ethtool.Hash{Addresses: true, Ports: true}), "ok udp4 packets are spread by addresses and ports"},
		{hashed("eth0", "udp4", ethtool.Hash{Addresses: true}), "warning udp4 packets are spread by addresses alone: all flows between two hosts, tunnels among them, share one queue"},
		{hashed("eth0", "tcp6", ethtool.Hash{}), "warning tcp6 packets are not spread by both addresses"},
	} {
		if got := fmt.Sprintf("%s %s", c.got.Status, c.got.Found); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
		if c.got.Status != OK && (c.got.Command == "" || c.got.Advice == "") {
			t.Errorf("no advice: %+v", c.got)
		}
	}
}

// TestReading takes the kernel's formats apart.
func TestReading(t *testing.T) {
	if got := cpuList("0-2,7, 9-9,x,3-"); !slices.Equal(got, []int{0, 1, 2, 7, 9}) {
		t.Errorf("CPUs %v", got)
	}
	limits := "Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 524288               files\nMax locked memory         65536                unlimited            bytes\n"
	if n, ok := hardLimit(limits, "Max open files"); !ok || n != 524288 {
		t.Errorf("%d, %v", n, ok)
	}
	if n, ok := hardLimit(limits, "Max locked memory"); !ok || n != 1<<64-1 {
		t.Errorf("%d, %v", n, ok)
	}
	if _, ok := hardLimit(limits, "Max nonsense"); ok {
		t.Error("a limit that is not there is found")
	}
	if !strings.HasPrefix(field("A:\t1\nB: 2\n", "B"), "2") {
		t.Error("a field is not found")
	}
}
