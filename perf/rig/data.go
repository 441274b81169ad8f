package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"fairlead/controlplane/api"
)

// KillData kills the data process with SIGKILL, which it cannot see coming, and
// returns when its successor forwards.
func (n *Node) KillData(ctx context.Context) error {
	before, err := n.Status(ctx)
	if err != nil {
		return err
	}
	if before.Data.PID <= 0 {
		return fmt.Errorf("there is no data process to kill: %+v", before.Data)
	}
	if err := Kill(before.Data.PID); err != nil {
		return err
	}
	err = n.Until(ctx, func(s *api.Status) bool {
		return s.Data.Restarts > before.Data.Restarts && s.Data.PID != before.Data.PID
	})
	if err != nil {
		return fmt.Errorf("data process %d is not replaced: %w", before.Data.PID, err)
	}
	return nil
}

// ProcessStatus reads the fields of /proc/PID/status.
func ProcessStatus(pid int) (map[string]string, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fields := make(map[string]string)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok {
			fields[name] = strings.TrimSpace(value)
		}
	}
	return fields, lines.Err()
}

// CPUTime is the processor time, user and system, that a process has used since
// it started.
func CPUTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field, the name in parentheses, may hold anything.
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is not as expected: %q", pid, stat)
	}
	var user, system int64 // fields 14 and 15 of proc(5)
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	const ticksPerSecond = 100 // USER_HZ, the same on every architecture Linux runs Go on
	return time.Duration(user+system) * time.Second / ticksPerSecond, nil
}

// Descriptors counts the open descriptors of a process.
func Descriptors(pid int) (int, error) {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(open), err
}

// SharedMappings counts the mappings of shared memory (memfd) of a process.
func SharedMappings(pid int) (int, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	return strings.Count(string(maps), "/memfd:"), err
}

// Ended reports whether a process has ended, be it that nobody has asked how.
func Ended(pid int) bool {
	fields, err := ProcessStatus(pid)
	return err != nil || strings.HasPrefix(fields["State"], "Z")
}

// Kill kills a process with SIGKILL; one that has ended already is no error.
func Kill(pid int) error {
	if pid <= 0 {
		return fmt.Errorf("%d is no process", pid)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}
