package attack

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// keepTo ties all threads of this process, and those they start, to a CPU: a
// flood has another to itself. The function it returns lets them go.
func keepTo(cpu int) (release func() error, err error) {
	var before, only unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("ask for the CPUs of the process: %w", err)
	}
	only.Set(cpu)
	release = func() error { return setAffinity(&before) }
	if err := setAffinity(&only); err != nil {
		return nil, errors.Join(err, release())
	}
	return release, nil
}

// setAffinity is for all threads. One that begins meanwhile has what the one has
// that started it, so they are gone through until there is nothing new.
func setAffinity(set *unix.CPUSet) error {
	done := make(map[int]bool)
	for {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		before := len(done)
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil || done[tid] {
				continue
			}
			done[tid] = true
			if err := unix.SchedSetaffinity(tid, set); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("tie thread %d to CPUs: %w", tid, err)
			}
		}
		if len(done) == before {
			return nil
		}
	}
}
