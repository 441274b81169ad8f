package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/perf/lab"
)

// napiAppears bounds the wait for the kernel's threads of an interface.
const napiAppears = 2 * time.Second

// threadedNAPI lets kernel threads of an interface's own take its frames in,
// pinned to a CPU, instead of whoever happens to send them. What the kernel
// forwards then has a CPU to itself, apart from the generator's.
type threadedNAPI struct {
	ifc  *lab.Interface
	pids []int
}

// threadNAPI needs an interface whose program is attached: a veth has no NAPI
// without one.
func threadNAPI(ifc *lab.Interface, cpu int) (*threadedNAPI, error) {
	before, err := napiThreads()
	if err != nil {
		return nil, err
	}
	n := &threadedNAPI{ifc: ifc}
	if err := n.set(true); err != nil {
		return nil, err
	}
	if n.pids, err = newThreads(before, ifc.Name); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	for _, pid := range n.pids {
		if err := setAffinity(pid, cpu); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

// newThreads waits for threads of an interface that were not there before.
func newThreads(before map[int]string, ifname string) ([]int, error) {
	for deadline := time.Now().Add(napiAppears); ; time.Sleep(time.Millisecond) {
		after, err := napiThreads()
		if err != nil {
			return nil, err
		}
		var pids []int
		for pid, name := range after {
			if _, was := before[pid]; !was && strings.HasPrefix(name, "napi/"+ifname) {
				pids = append(pids, pid)
			}
		}
		if len(pids) > 0 {
			return pids, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("no NAPI thread of %s after %v", ifname, napiAppears)
		}
	}
}

// PIDs are the kernel threads.
func (n *threadedNAPI) PIDs() []int { return n.pids }

// Close gives the work back to the softirqs.
func (n *threadedNAPI) Close() error { return n.set(false) }

func (n *threadedNAPI) set(on bool) error {
	return writeSysfs(n.ifc.Host, "class/net/"+n.ifc.Name+"/threaded", strconv.Itoa(int(bit(on))))
}

// napiThreads are all kernel threads that take frames in, by process number.
func napiThreads() (map[int]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	threads := make(map[int]string)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		name, err := os.ReadFile(filepath.Join("/proc", e.Name(), "comm"))
		if err == nil && bytes.HasPrefix(name, []byte("napi/")) {
			threads[pid] = string(bytes.TrimSpace(name))
		}
	}
	return threads, nil
}

// writeSysfs writes a file of the sysfs of a host's namespace. It is mounted
// for that in a mount namespace that ends with the thread.
func writeSysfs(h *lab.Host, path, value string) error {
	dir, err := os.MkdirTemp("", "fairlead-bench-sys-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		done <- h.Do(func() error { return writeMounted(dir, path, value) })
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("host %s: sysfs %s=%s: %w", h.Name, path, value, err)
	}
	return nil
}

func writeMounted(dir, path, value string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("new mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("sysfs", dir, "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	err := os.WriteFile(filepath.Join(dir, path), []byte(value), 0)
	return errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
}
