package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// workers is how many workers the node has, or will have.
func (d *doctor) workers() int {
	if d.Node != nil {
		return d.Node.Data.Workers
	}
	least := 0
	for _, n := range d.nics() {
		if n.queues > 0 && (least == 0 || n.queues < least) {
			least = n.queues
		}
	}
	return least
}

// cpus looks at what workers run on, and at who takes it from them.
func (d *doctor) cpus() {
	online := cpuList(text(d.sys.sys, "devices/system/cpu/online"))
	workers := d.workers()
	if workers == 0 || len(online) == 0 {
		return
	}
	d.enough(workers, online)
	d.governors(online)
	interrupts := d.interrupts(workers)
	d.irqbalance(interrupts)
	if pins := d.pins(workers); len(pins) > 0 {
		d.siblings(pins)
		d.nodes(pins)
	}
}

// pins are the CPUs that workers are pinned to, by worker.
func (d *doctor) pins(workers int) (cpus []int) {
	list := d.cfg.Dataplane.CPUs
	for w := range workers {
		if len(list) > 0 {
			cpus = append(cpus, list[w%len(list)])
		}
	}
	return cpus
}

// enough compares workers and CPUs.
func (d *doctor) enough(workers int, online []int) {
	list := d.cfg.Dataplane.CPUs
	switch {
	case workers > len(online):
		d.add(Finding{Status: Warning, Check: "workers", Found: fmt.Sprintf("%d workers share %d CPUs", workers, len(online)),
			Advice: "lower queues of [dataplane] or of the interfaces: packets have no use for more workers than CPUs"})
	case len(list) > 0 && workers > len(list):
		d.add(Finding{Status: Warning, Check: "workers", Found: fmt.Sprintf("%d workers are pinned to %d CPUs", workers, len(list)), Advice: "list as many cpus in [dataplane] as there are workers"})
	case len(list) == 0 && workers > 1:
		d.ok("workers", "", "%d workers run on whichever of %d CPUs the scheduler likes; cpus of [dataplane] pins them", workers, len(online))
	default:
		d.ok("workers", "", "%d workers, %d CPUs", workers, len(online))
	}
}

// governors looks whether CPUs may slow down.
func (d *doctor) governors(online []int) {
	var slow []string
	kind := ""
	for _, cpu := range online {
		if g := text(d.sys.sys, fmt.Sprintf("devices/system/cpu/cpu%d/cpufreq/scaling_governor", cpu)); g != "" && g != "performance" {
			slow, kind = append(slow, strconv.Itoa(cpu)), g
		}
	}
	if len(slow) > 0 {
		d.add(Finding{Status: Warning, Check: "cpu_governor", Found: fmt.Sprintf("%d CPUs are slowed down when they seem idle (governor %s); a worker that waits for packets seems so", len(slow), kind),
			Advice: "let them run at full speed", Command: "cpupower frequency-set -g performance"})
		return
	}
	d.ok("cpu_governor", "", "no CPU is slowed down by its governor")
}

// interrupt is one interrupt of a configured interface.
type interrupt struct {
	nic    string
	number int
	cpus   []int
}

// interrupts looks where the interfaces' interrupts are taken.
func (d *doctor) interrupts(workers int) (all []interrupt) {
	pins := d.pins(workers)
	for _, n := range d.nics() {
		entries, err := os.ReadDir(filepath.Join(d.sys.sys, "class/net", n.Name, "device/msi_irqs"))
		if err != nil {
			continue // a virtual interface has none
		}
		first, outside := len(all), 0
		used := make(map[int]bool)
		for _, e := range entries {
			number, err := strconv.Atoi(e.Name())
			cpus := cpuList(text(d.sys.proc, "irq", e.Name(), "effective_affinity_list"))
			if err != nil || len(cpus) == 0 {
				continue
			}
			all = append(all, interrupt{n.Name, number, cpus})
			used[cpus[0]] = true
			if len(pins) > 0 && !slices.Contains(pins, cpus[0]) {
				outside++
			}
		}
		count := len(all) - first
		switch {
		case count == 0:
		case outside > 0:
			d.add(Finding{Status: Warning, Check: "irq_affinity", Subject: n.Name, Found: fmt.Sprintf("%d of its %d interrupts are taken on CPUs without a worker: packets change caches", outside, count),
				Advice: "take each queue's interrupt where its worker runs", Command: fmt.Sprintf("echo CPU > /proc/irq/%d/smp_affinity_list", all[first].number)})
		case len(used) == 1 && count > 2 && workers > 1:
			d.add(Finding{Status: Warning, Check: "irq_affinity", Subject: n.Name, Found: fmt.Sprintf("all of its %d interrupts are taken on one CPU", count),
				Advice: "spread them over the CPUs, each queue's where its worker runs", Command: fmt.Sprintf("echo CPU > /proc/irq/%d/smp_affinity_list", all[first].number)})
		default:
			d.ok("irq_affinity", n.Name, "its %d interrupts are taken on %d CPUs", count, len(used))
		}
	}
	return all
}

// irqbalance looks for the daemon that moves interrupts about.
func (d *doctor) irqbalance(interrupts []interrupt) {
	pid := d.running("irqbalance")
	switch {
	case pid == 0:
		d.ok("irqbalance", "", "irqbalance does not run")
	case len(interrupts) == 0:
		d.ok("irqbalance", "", "irqbalance runs (process %d); the interfaces have no interrupts that it could move", pid)
	default:
		d.add(Finding{Status: Warning, Check: "irqbalance", Found: fmt.Sprintf("irqbalance runs (process %d) and moves the interfaces' interrupts away from their workers", pid),
			Advice: "stop it, or keep it from these interrupts with IRQBALANCE_ARGS=--banirq=N", Command: "systemctl disable --now irqbalance"})
	}
}

// running is the number of a process with that name, 0 for none.
func (d *doctor) running(name string) int {
	entries, err := os.ReadDir(d.sys.proc)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && text(d.sys.proc, e.Name(), "comm") == name {
			return pid
		}
	}
	return 0
}

// siblings looks for workers that share a core.
func (d *doctor) siblings(pins []int) {
	cores := make(map[string][]string)
	for _, cpu := range slices.Compact(slices.Sorted(slices.Values(pins))) {
		core := text(d.sys.sys, fmt.Sprintf("devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu))
		if core != "" {
			cores[core] = append(cores[core], strconv.Itoa(cpu))
		}
	}
	for core, cpus := range cores {
		if len(cpus) > 1 {
			d.add(Finding{Status: Warning, Check: "smt", Found: fmt.Sprintf("workers on CPUs %s share one core (%s)", strings.Join(cpus, " and "), core),
				Advice: "give each worker a core of its own in cpus of [dataplane]"})
		}
	}
}

// nodes looks for workers that are far from their interface's memory.
func (d *doctor) nodes(pins []int) {
	for _, n := range d.nics() {
		near, ok := number(d.sys.sys, "class/net", n.Name, "device/numa_node")
		if !ok || near < 0 {
			continue
		}
		cpus := cpuList(text(d.sys.sys, fmt.Sprintf("devices/system/node/node%d/cpulist", near)))
		far := 0
		for _, cpu := range pins {
			if !slices.Contains(cpus, cpu) {
				far++
			}
		}
		if far > 0 && len(cpus) > 0 {
			d.add(Finding{Status: Warning, Check: "numa", Subject: n.Name, Found: fmt.Sprintf("%d workers are pinned to CPUs of another memory node than the interface's (%d)", far, near),
				Advice: "pin them to the interface's own in cpus of [dataplane]: " + text(d.sys.sys, fmt.Sprintf("devices/system/node/node%d/cpulist", near))})
			continue
		}
		d.ok("numa", n.Name, "workers are near the interface (memory node %d)", near)
	}
}
