package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// killTimeout bounds the wait for a killed process to be gone.
const killTimeout = 10 * time.Second

// namespaceID tells network namespaces apart, by their file in the kernel's
// namespace file system.
type namespaceID struct {
	dev, inode uint64
}

// RemoveStale removes the labs of processes that no longer live: it kills what
// still runs in their namespaces and removes the namespaces. Labs of living
// processes are left alone.
func RemoveStale() error {
	entries, err := os.ReadDir(namespaceDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		pid, ok := ownerPid(e.Name())
		if !ok || alive(pid) {
			continue
		}
		errs = append(errs, removeStale(e.Name()))
	}
	return errors.Join(errs...)
}

func removeStale(namespace string) error {
	var st unix.Stat_t
	err := unix.Stat(filepath.Join(namespaceDir, namespace), &st)
	if errors.Is(err, unix.ENOENT) {
		return nil // another process was quicker
	}
	if err != nil {
		return fmt.Errorf("namespace %s: %w", namespace, err)
	}
	return errors.Join(killInside(namespaceID{dev: st.Dev, inode: st.Ino}), removeNamespace(namespace))
}

// ownerPid reads the process number out of a namespace's name.
func ownerPid(namespace string) (int, bool) {
	rest, ok := strings.CutPrefix(namespace, namePrefix)
	if !ok {
		return 0, false
	}
	number, _, ok := strings.Cut(rest, "-")
	if !ok {
		return 0, false
	}
	pid, err := strconv.Atoi(number)
	return pid, err == nil && pid > 0
}

func alive(pid int) bool {
	return !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// removeNamespace takes a namespace's name away. One that is gone already is no
// error: it may have been removed by another process.
func removeNamespace(namespace string) error {
	path := filepath.Join(namespaceDir, namespace)
	// EINVAL: the file is there but nothing is mounted on it.
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("unmounting %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// killInside kills the processes whose network namespace is the given
// one, and waits until they are gone. Such processes are children that
// outlived the command a test had started. The calling process is never one.
func killInside(id namespaceID) error {
	if id == (namespaceID{}) {
		return nil // the namespace was never made
	}
	return waitFor("processes in the namespace are gone", killTimeout, func() (bool, error) {
		pids, err := processesInside(id)
		if err != nil {
			return false, err
		}
		for _, pid := range pids {
			if err := killIfInside(pid, id); err != nil {
				return false, err
			}
		}
		return len(pids) == 0, nil
	})
}

func processesInside(id namespaceID) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && pid != os.Getpid() && isInside(pid, id) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// isInside is false for a process that has ended, zombies included: they have
// no namespaces.
func isInside(pid int, id namespaceID) bool {
	var st unix.Stat_t
	err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st)
	return err == nil && id == namespaceID{dev: st.Dev, inode: st.Ino}
}

// killIfInside holds the process by a descriptor while it looks again, so that
// a process number that was reused in between is never hit.
func killIfInside(pid int, id namespaceID) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if !isInside(pid, id) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("killing process %d: %w", pid, err)
	}
	return nil
}
