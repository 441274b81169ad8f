package steer

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// childEnv tells the test binary to be the process of TestCapabilities.
const childEnv = "STEER_TEST_UNPRIVILEGED"

func TestMain(m *testing.M) {
	if arg := os.Getenv(childEnv); arg != "" {
		if err := unprivileged(arg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// unprivileged goes through a process's life: first start or restart.
func unprivileged(path string) error {
	if os.Geteuid() == 0 {
		return errors.New("still root")
	}
	ifindex, err := strconv.Atoi(os.Getenv(childEnv + "_IFINDEX"))
	if err != nil {
		return err
	}
	s, err := Open(Config{PinPath: path, Memo: &MemoConfig{Entries: 1024, Routes: 16}})
	if err != nil {
		return err
	}
	if err := mapped(s); err != nil {
		return err
	}
	if _, _, err := s.SetLocals(ours()); err != nil {
		return err
	}
	a, err := s.Attach(ifindex, "lb", ModeAuto)
	if err != nil {
		return err
	}
	if _, err := s.DetachStale(); err != nil {
		return err
	}
	if _, err := s.Counters(); err != nil {
		return err
	}
	if err := errors.Join(s.Deny(client4)); err != nil {
		return err
	}
	if _, err := s.Undeny(client4); err != nil {
		return err
	}
	if a.Mode != ModeNative || !a.Frags {
		return fmt.Errorf("attached %+v", a)
	}
	if a.Adopted {
		return s.Remove()
	}
	return s.Close()
}

// mapped maps the memory of flow memos, writes to it, and reads.
func mapped(s *Steer) error {
	maps, ok := s.Memo()
	if !ok {
		return errors.New("no flow memos")
	}
	for _, m := range []SharedMap{maps.Entries, maps.Routes, maps.Counts} {
		b, err := unix.Mmap(m.FD, 0, m.Bytes(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		b[len(b)-1] = 1
		if err := unix.Munmap(b); err != nil {
			return err
		}
	}
	return nil
}

// TestCapabilities runs the package in a process of another user with nothing
// but CAP_BPF and CAP_NET_ADMIN: a first start, then a restart that adopts and
// removes. The verifier asks more of such a process's programs; the large MTU
// makes it load both forms.
func TestCapabilities(t *testing.T) {
	newNamespace(t)
	p := newPair(t, "lb", 9000, 1)
	const nobody = 65534
	dir, err := os.MkdirTemp("", "steer")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "bpf")
	t.Cleanup(func() {
		if err := errors.Join(unix.Unmount(path, unix.MNT_DETACH), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	if _, err := openPins(path); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(path, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name string
		left Mode
	}{{"start", ModeNative}, {"restart", ""}} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{childEnv + "=" + path, childEnv + "_IFINDEX=" + strconv.Itoa(p.ifindex())}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential:  &syscall.Credential{Uid: nobody, Gid: nobody},
			AmbientCaps: []uintptr{unix.CAP_BPF, unix.CAP_NET_ADMIN},
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", step.name, err, out)
		}
		wantRunning(t, p, step.left)
	}
}
