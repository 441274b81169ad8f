package runtime

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Init makes the container that it is the first process of, and becomes its command.
// When it fails it tells Run, which says so, and ends the process.
func Init(command []string) error {
	runtime.LockOSThread()
	trouble := os.NewFile(troubleFD, "trouble")
	unix.CloseOnExec(troubleFD)
	err := initialize(command)
	if _, said := trouble.WriteString(err.Error()); said != nil {
		return errors.Join(err, said)
	}
	os.Exit(1)
	return nil
}

func initialize(command []string) error {
	spec, err := specification()
	if err != nil {
		return err
	}
	if err := spec.makeRoot(); err != nil {
		return fmt.Errorf("root file system: %w", err)
	}
	if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
		return fmt.Errorf("host name %s: %w", spec.Hostname, err)
	}
	return spec.Identity.become(command)
}

// Become is what Exec starts in the container: it becomes the command. It returns
// when it fails.
func Become(command []string) error {
	runtime.LockOSThread()
	unix.CloseOnExec(programFD)
	spec, err := specification()
	if err != nil {
		return err
	}
	return spec.Identity.become(command)
}

func specification() (*Spec, error) {
	f := os.NewFile(specFD, "specification")
	if f == nil {
		return nil, fmt.Errorf("descriptor %d is not open", specFD)
	}
	defer f.Close()
	return read(f)
}

// become gives the process what it is to be and to have, and executes the command.
func (i *Identity) become(command []string) error {
	unix.Umask(0o022)
	if err := os.Chdir(i.Directory); err != nil {
		return err
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	if err := i.bound(); err != nil {
		return err
	}
	groups := []int{}
	for _, g := range i.Groups {
		groups = append(groups, int(g))
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("groups %v: %w", groups, err)
	}
	if err := syscall.Setgid(int(i.Group)); err != nil {
		return fmt.Errorf("group %d: %w", i.Group, err)
	}
	if err := syscall.Setuid(int(i.User)); err != nil {
		return fmt.Errorf("user %d: %w", i.User, err)
	}
	// Last: a change of the user ends it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("end with the parent: %w", err)
	}
	return fmt.Errorf("%s: %w", path, unix.Exec(path, command, os.Environ()))
}
