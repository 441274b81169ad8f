package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Descriptors that Run, Init and Exec find open.
const (
	startedFD  = 3 // of Run: the pipe by which it tells of the container's first process
	specFD     = 3 // of Init and of what Exec starts: the specification
	troubleFD  = 4 // of Init: the pipe by which it says why it fails; it says nothing otherwise
	programFD  = 4 // of what Exec starts: this program, which is not in the container
	exitSignal = 128
)

// Run runs a command in a container of its own and returns its exit status, as a
// shell would tell it. When the command runs, Run writes the number of its process
// to descriptor 3 and closes that; when it never does, the error says why and
// nothing is written. When Run's process dies, the container's do, too.
func Run(specification string, command []string) (status int, err error) {
	started := os.NewFile(startedFD, "started")
	if started == nil {
		return 0, errors.New("descriptor 3 is not open")
	}
	defer started.Close()
	// Children are killed when the thread ends that has started them.
	runtime.LockOSThread()
	spec, err := os.Open(specification)
	if err != nil {
		return 0, err
	}
	defer spec.Close()
	trouble, theirs, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer trouble.Close()
	cmd := exec.Command("/proc/self/exe", append([]string{"init", "--"}, command...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{spec, theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return 0, fmt.Errorf("start the container: %w", err)
	}
	said, err := io.ReadAll(trouble)
	if err != nil || len(said) > 0 {
		cmd.Process.Kill()
		cmd.Wait()
		return 0, errors.Join(err, errors.New(string(said)))
	}
	if _, err := started.WriteString(strconv.Itoa(cmd.Process.Pid)); err != nil {
		return 0, err
	}
	if err := started.Close(); err != nil {
		return 0, err
	}
	return exitStatus(cmd.Wait())
}

// Exec runs a command in the container that a process is in, and returns its exit
// status. When Exec's process dies, the command does, too.
func Exec(pid int, specification string, command []string) (status int, err error) {
	runtime.LockOSThread()
	spec, err := os.Open(specification)
	if err != nil {
		return 0, err
	}
	defer spec.Close()
	program, err := os.Open("/proc/self/exe")
	if err != nil {
		return 0, err
	}
	defer program.Close()
	if err := join(pid); err != nil {
		return 0, fmt.Errorf("enter the container of process %d: %w", pid, err)
	}
	cmd := &exec.Cmd{
		Path: fmt.Sprintf("/proc/self/fd/%d", programFD), Args: append([]string{"pod", "become", "--"}, command...),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: []*os.File{spec, program},
	}
	return exitStatus(cmd.Run())
}

// join moves this thread into the namespaces of a process but for its network, and
// has its children be in that process's namespace of processes.
func join(pid int) error {
	kinds := []string{"pid", "ipc", "uts", "mnt"}
	var all []*os.File
	for _, kind := range kinds {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
		if err != nil {
			return err
		}
		defer f.Close()
		all = append(all, f)
	}
	// A thread that shares its root directory with others cannot change mounts.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for i, f := range all {
		if err := unix.Setns(int(f.Fd()), 0); err != nil {
			return fmt.Errorf("namespace %s: %w", kinds[i], err)
		}
	}
	return nil
}

func exitStatus(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return exitSignal + int(s.Signal()), nil
	}
	return exit.ExitCode(), nil
}
