package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// devices are those of the machine that every container has.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// Of /proc and /sys, what runtimes let a container that is not privileged read
// alone, and what they hide.
var (
	readOnly = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	hidden   = []string{"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware"}
)

// makeRoot puts the root file system together and makes it this process's. It is to
// be in a mount namespace of its own, and in that of the container's processes.
func (s *Spec) makeRoot() error {
	// Nothing that is mounted from here on is seen elsewhere, and the other way round.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := mount("tmpfs", s.Directory, "tmpfs", unix.MS_NOSUID, "mode=755"); err != nil {
		return err
	}
	for _, step := range []func() error{s.makeFiles, s.makeSystem, s.makeMounts, s.enter, restrictSystem} {
		if err := step(); err != nil {
			return err
		}
	}
	if !s.ReadOnlyRoot {
		return nil
	}
	return remount("/")
}

// in is where a path of the container is while its root is being made.
func (s *Spec) in(path string) string { return filepath.Join(s.Directory, path) }

func (s *Spec) makeFiles() error {
	for _, d := range s.Directories {
		if err := os.MkdirAll(s.in(d), 0o755); err != nil {
			return err
		}
	}
	for _, f := range s.Files {
		if err := os.MkdirAll(filepath.Dir(s.in(f.Path)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(s.in(f.Path), []byte(f.Text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// makeSystem mounts /proc, /sys and /dev.
func (s *Spec) makeSystem() error {
	for _, m := range []struct {
		kind, path string
		flags      uintptr
		options    string
	}{
		{"proc", "/proc", unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV, ""},
		{"sysfs", "/sys", unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV | unix.MS_RDONLY, ""},
		{"tmpfs", "/dev", unix.MS_NOSUID | unix.MS_STRICTATIME, "mode=755,size=65536k"},
		{"tmpfs", "/dev/shm", unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV, "mode=1777,size=65536k"},
	} {
		if err := os.MkdirAll(s.in(m.path), 0o755); err != nil {
			return err
		}
		if err := mount(m.kind, s.in(m.path), m.kind, m.flags, m.options); err != nil {
			return err
		}
	}
	for _, name := range devices {
		path := s.in("/dev/" + name)
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			return err
		}
		if err := mount("/dev/"+name, path, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(to, s.in("/dev/"+name)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) makeMounts() error {
	for _, m := range s.Mounts {
		source, err := os.Stat(m.Source)
		if err != nil {
			return err
		}
		if err := mountPoint(s.in(m.Path), source.IsDir()); err != nil {
			return fmt.Errorf("mount at %s: %w", m.Path, err)
		}
		if err := mount(m.Source, s.in(m.Path), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
		if m.ReadOnly {
			if err := remount(s.in(m.Path)); err != nil {
				return err
			}
		}
	}
	return nil
}

// mountPoint makes what something can be mounted on.
func mountPoint(path string, directory bool) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if directory {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o644)
}

// enter makes the directory the root, and leaves nothing of the machine's.
func (s *Spec) enter() error {
	if err := os.Chdir(s.Directory); err != nil {
		return err
	}
	// The old root is mounted over the new one, from where it is taken off.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the machine's root: %w", err)
	}
	return os.Chdir("/")
}

// restrictSystem is done in the container's root.
func restrictSystem() error {
	for _, path := range readOnly {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
		if err := remount(path); err != nil {
			return err
		}
	}
	for _, path := range hidden {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		case info.IsDir():
			err = mount("tmpfs", path, "tmpfs", unix.MS_RDONLY, "")
		default:
			err = mount("/dev/null", path, "", unix.MS_BIND, "")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remount makes a mount read-only, with the flags that it has.
func remount(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	kept := uintptr(st.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME)
	return mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|kept, "")
}

func mount(source, path, kind string, flags uintptr, options string) error {
	if err := unix.Mount(source, path, kind, flags, options); err != nil {
		return fmt.Errorf("mount %s at %s: %w", source, path, err)
	}
	return nil
}
