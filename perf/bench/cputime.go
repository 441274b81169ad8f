package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// userHz is the unit of times in /proc (USER_HZ, the same wherever Linux runs Go).
const userHz = 100

// cpuTime is CPU time that was used. Softirqs count for whoever they
// interrupted, which here is whoever caused them.
type cpuTime struct {
	total time.Duration
	// How many of the kernel's clock ticks fell into user and into kernel mode.
	// They are coarse, and only say how total divides.
	userTicks, systemTicks int64
}

func (t cpuTime) add(u cpuTime) cpuTime {
	return cpuTime{t.total + u.total, t.userTicks + u.userTicks, t.systemTicks + u.systemTicks}
}

func (t cpuTime) sub(u cpuTime) cpuTime {
	return cpuTime{t.total - u.total, t.userTicks - u.userTicks, t.systemTicks - u.systemTicks}
}

// user is the part that was used in user mode.
func (t cpuTime) user() time.Duration {
	if t.userTicks+t.systemTicks <= 0 {
		return 0
	}
	return time.Duration(float64(t.total) * float64(t.userTicks) / float64(t.userTicks+t.systemTicks))
}

// system is the part that was used in kernel mode.
func (t cpuTime) system() time.Duration { return t.total - t.user() }

// processTimes is what the processes (or kernel threads) have used since they started.
func processTimes(pids ...int) (cpuTime, error) {
	var all cpuTime
	for _, pid := range pids {
		total, err := scheduledTime(pid)
		if err != nil {
			return cpuTime{}, err
		}
		user, system, err := ticks(pid)
		if err != nil {
			return cpuTime{}, err
		}
		all = all.add(cpuTime{total, user, system})
	}
	return all, nil
}

// scheduledTime adds up the run times of a process's threads. Those of threads
// that have ended are not in it: the threads that count live on.
func scheduledTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	if len(files) == 0 {
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	var total time.Duration
	for _, f := range files {
		text, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		var ns int64
		if _, err := fmt.Sscan(string(text), &ns); err != nil {
			return 0, fmt.Errorf("%s: %q: %w", f, text, err)
		}
		total += time.Duration(ns)
	}
	return total, nil
}

// ticks are a process's times in clock ticks (fields 14 and 15 of its stat file, proc(5)).
func ticks(pid int) (user, system int64, err error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	// The second field, the name in parentheses, may hold anything.
	end := strings.LastIndexByte(string(text), ')')
	fields := strings.Fields(string(text[end+1:]))
	if end < 0 || len(fields) < 13 {
		return 0, 0, fmt.Errorf("%s is not as expected: %q", path, text)
	}
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", path, err)
	}
	return user, system, nil
}

// softirqThreads are the kernel threads that softirqs move to when there is
// much to do, of the CPUs given.
func softirqThreads(cpus ...int) ([]int, error) {
	entries, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
	}
	wanted := make(map[string]bool)
	for _, cpu := range cpus {
		wanted[fmt.Sprintf("ksoftirqd/%d\n", cpu)] = true
	}
	var pids []int
	for _, path := range entries {
		name, err := os.ReadFile(path)
		if err != nil || !wanted[string(name)] {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d/comm", &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// machineBusy is the time that all CPUs together have spent on anything at
// all since the machine started, and stolen by the hypervisor for others.
func machineBusy() (busy, stolen time.Duration, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	// user nice system idle iowait irq softirq steal
	var v [8]int64
	if _, err := fmt.Sscanf(string(text), "cpu %d %d %d %d %d %d %d %d", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]); err != nil {
		return 0, 0, fmt.Errorf("/proc/stat: %w", err)
	}
	tick := func(n int64) time.Duration { return time.Duration(n) * time.Second / userHz }
	return tick(v[0] + v[1] + v[2] + v[5] + v[6]), tick(v[7]), nil
}
